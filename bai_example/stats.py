"""Statistics of the map: of each block where it is computed, put together by the client."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from bai_example.bai import SEVERITIES, Severity
from bai_example.mask import REASONS

EVENTS = ("pre_event", "post_event")


class Area(NamedTuple):
    """How much of the map a severity class takes."""

    severity: Severity
    hectares: float
    percent: float
    """Of the pixels with a value."""


class Statistics:
    """Count, mean, spread and extremes of the index, pixels per class, and what masks took."""

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
        self._classes = np.zeros(len(SEVERITIES) + 1, dtype=np.int64)
        self._reasons = {event: np.zeros(len(REASONS), np.int64) for event in EVENTS}

    def add(self, values: np.ndarray, classes: np.ndarray) -> None:
        """Take pixels of the map into account.

        Args:
            values: the index, float32, NaN where there is no value.
            classes: severity of each pixel, uint8, 0 where there is none (see `bai.classify`).
        """
        self.pixels += values.size
        self._classes += np.bincount(classes.ravel(), minlength=len(self._classes))
        known = values[~np.isnan(values)]
        if not known.size:
            return
        self.minimum = min(self.minimum, float(known.min()))
        self.maximum = max(self.maximum, float(known.max()))
        mean, count = float(known.mean(dtype=np.float64)), known.size
        self._combine(count, mean, float(known.var(dtype=np.float64)) * count)

    def add_reasons(self, event: str, codes: np.ndarray) -> None:
        """Count why pixels of an event have no value: codes of `mask.REASONS`, uint8."""
        if codes.any():
            self._reasons[event] += np.bincount(codes.ravel(), minlength=len(REASONS))

    def merge(self, other: Statistics) -> None:
        """Take into account what another part of the map has gathered."""
        self.pixels += other.pixels
        self.minimum = min(self.minimum, other.minimum)
        self.maximum = max(self.maximum, other.maximum)
        self._classes += other._classes
        for event, counts in other._reasons.items():
            self._reasons[event] += counts
        if other.valid:
            self._combine(other.valid, other.mean, other._squares)

    def _combine(self, count: int, mean: float, squares: float) -> None:
        # Chan, Golub and LeVeque (1983): mean and spread of two samples put together. A plain sum
        # of squares would lose digits over the 10^8 pixels of a full tile.
        distance, total = mean - self.mean, self.valid + count
        self._squares += squares + distance**2 * self.valid * count / total
        self.mean += distance * count / total
        self.valid = total

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
            for severity, count in zip(SEVERITIES, self._classes[1:].tolist(), strict=True)
        ]

    @property
    def masked(self) -> Mapping[str, Mapping[str, int]]:
        """For each event, how many pixels have no value, by reason."""
        return {
            event: dict(zip(REASONS[1:], counts[1:].tolist(), strict=True))
            for event, counts in self._reasons.items()
        }
