"""Statistics of the map: gathered block by block where it is computed, put together at the end."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import partial

import numpy as np

from bai_example.index import REASONS, SEVERITIES

#: Severity classes, and before them what has none.
CODES = len(SEVERITIES) + 1


@dataclass
class Statistics:
    """What is known of the map or of a part of it; pixels that nobody wants are not counted."""

    pixels: int = 0
    minimum: float = math.inf
    maximum: float = -math.inf
    total: float = 0.0  #: Sum of the index.
    squares: float = 0.0  #: Sum of its squares; in float64 it keeps all the digits that are shown.
    classes: np.ndarray = field(default_factory=partial(np.zeros, CODES))  #: Pixels by class.
    square_metres: np.ndarray = field(default_factory=partial(np.zeros, CODES))  #: Area by class.
    #: Pixels before and after the event by code of `index.REASONS`.
    reasons: np.ndarray = field(default_factory=partial(np.zeros, (2, len(REASONS))))

    def add(self, values: np.ndarray, classes: np.ndarray, areas: np.ndarray) -> None:
        """Take rows of the map into account: index, class of each pixel, a pixel's area by row."""
        known = values[~np.isnan(values)].astype(np.float64)
        self.minimum = float(known.min(initial=self.minimum))
        self.maximum = float(known.max(initial=self.maximum))
        self.total += float(known.sum())
        self.squares += float(np.square(known).sum())
        rows = np.arange(len(classes))
        by_row = np.bincount(
            (classes + CODES * rows[:, np.newaxis]).ravel(), None, CODES * len(rows)
        )
        self.classes += by_row.reshape(-1, CODES).sum(axis=0)
        self.square_metres += areas @ by_row.reshape(-1, CODES)

    def merge(self, other: Statistics) -> None:
        """Take into account what is known of another part."""
        self.minimum = min(self.minimum, other.minimum)
        self.maximum = max(self.maximum, other.maximum)
        for name in ("pixels", "total", "squares", "classes", "square_metres", "reasons"):
            setattr(self, name, getattr(self, name) + getattr(other, name))

    @property
    def valid(self) -> int:
        """Pixels with a value."""
        return int(self.classes[1:].sum())

    @property
    def valid_percent(self) -> float:
        """Pixels with a value, in percent of all."""
        return 100 * self.valid / max(self.pixels, 1)

    @property
    def mean(self) -> float:
        """Mean of the index."""
        return self.total / max(self.valid, 1)

    @property
    def deviation(self) -> float:
        """Standard deviation of the population."""
        return math.sqrt(max(0.0, self.squares / max(self.valid, 1) - self.mean**2))

    @property
    def hectares(self) -> list[float]:
        """Area of each severity class, in the order of `index.SEVERITIES`."""
        return [float(area) / 1e4 for area in self.square_metres[1:]]

    @property
    def masked(self) -> dict[str, dict[str, int]]:
        """For each event, how many pixels have no value, by reason."""
        return {
            event: dict(zip(REASONS[1:], map(int, counts[1:]), strict=True))
            for event, counts in zip(("pre_event", "post_event"), self.reasons, strict=True)
        }

    def shares(self) -> dict[str, str]:
        """The same in percent of all pixels, to be read; empty where every pixel has a value."""
        return {
            event.replace("_", "-"): ", ".join(
                f"{name} {100 * n / self.pixels:.1f} %" for name, n in counts.items() if n
            )
            for event, counts in self.masked.items()
        }
