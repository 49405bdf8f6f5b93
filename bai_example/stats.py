"""Statistics of the map, gathered from its blocks as they pass."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from bai_example.bai import SEVERITIES, Severity

_EDGES = np.array([severity.lower for severity in SEVERITIES[1:]], dtype=np.float32)


class Area(NamedTuple):
    """How much of the map a severity class takes."""

    severity: Severity
    hectares: float
    percent: float
    """Of the pixels with a value."""


class Statistics:
    """Count, mean, spread, extremes and area per severity class, over all pixels with a value."""

    def __init__(self, pixel_area: float) -> None:
        """Start empty; ``pixel_area`` is in square metres."""
        self.pixel_area = pixel_area
        self.pixels = 0
        """Pixels seen."""
        self.valid = 0
        """Pixels with a value."""
        self.minimum, self.maximum = math.inf, -math.inf
        self.mean = 0.0
        self._squares = 0.0  # sum of squared distances from the mean
        self._classes = np.zeros(len(SEVERITIES), dtype=np.int64)

    def add(self, block: np.ndarray) -> None:
        """Take a block of the map (float32, NaN where there is no value) into account."""
        self.pixels += block.size
        values = block[~np.isnan(block)]
        if not values.size:
            return
        self.minimum = min(self.minimum, float(values.min()))
        self.maximum = max(self.maximum, float(values.max()))
        # Chan, Golub and LeVeque (1983): mean and spread of two samples put together. A plain sum
        # of squares would lose digits over the 10^8 pixels of a full tile.
        mean, count = float(values.mean(dtype=np.float64)), values.size
        distance, total = mean - self.mean, self.valid + count
        self._squares += float(values.var(dtype=np.float64)) * count
        self._squares += distance**2 * self.valid * count / total
        self.mean += distance * count / total
        self.valid = total
        # lower <= dNBR < upper, compared in the map's own float32, as a reader of the map would.
        classes = np.searchsorted(_EDGES, values, side="right")
        self._classes += np.bincount(classes, minlength=len(SEVERITIES))

    @property
    def deviation(self) -> float:
        """Standard deviation of the population."""
        return math.sqrt(self._squares / self.valid) if self.valid else math.nan

    @property
    def valid_percent(self) -> float:
        """Pixels with a value, in percent of all."""
        return 100 * self.valid / self.pixels if self.pixels else 0.0

    @property
    def areas(self) -> list[Area]:
        """Area per severity class, in the order of the table."""
        return [
            Area(severity, count * self.pixel_area / 1e4, 100 * count / max(self.valid, 1))
            for severity, count in zip(SEVERITIES, self._classes.tolist(), strict=True)
        ]
