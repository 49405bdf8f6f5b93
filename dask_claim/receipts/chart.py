"""The timeline of a run as shapes, in parts of its length: phases, workers and tasks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from dask_claim.amounts import duration, seconds
from dask_claim.receipts.fields import ReceiptFields

PHASES = (
    ("Cluster starts", "claimed", "running"),
    ("First worker", "running", "first_worker"),
    ("Command", "command_start", "command_end"),
    ("Release", "command_end", "gone"),
)
"""What a bar is called, and the two stages that it lies between."""

TICKS = 6
HEIGHT = 100.0
"""Of a curve's box, in its own units; its width is as much."""


@dataclass(frozen=True)
class Bar:
    """A phase; places in per cent of the chart's width."""

    name: str
    left: float
    width: float
    text: str
    """How long it lasted."""

    open: bool = False
    """Whether its end is not known."""


@dataclass(frozen=True)
class Curve:
    """A number over time, as the path of an SVG that is 100 wide and 100 high."""

    name: str
    path: str
    area: str
    top: int
    """The highest value."""

    text: str
    """What it shows, in words."""


@dataclass(frozen=True)
class Chart:
    """All that is drawn."""

    bars: Sequence[Bar]
    curves: Sequence[Curve]
    ticks: Sequence[tuple[float, str]]
    """Place in per cent, label."""

    @classmethod
    def of(cls, receipt: ReceiptFields) -> Chart | None:
        """Return the chart of a run; None where nothing began."""
        times = {name: moment for name, moment in receipt.timeline if moment is not None}
        if not times:
            return None
        start, history = min(times.values()), receipt.history
        length = max((each - start).total_seconds() for each in times.values())
        length = max(length, *(point[0] for point in history), 0.0) or 1.0
        after = {name: (moment - start).total_seconds() / length for name, moment in times.items()}
        bars = [bar for phase in PHASES if (bar := _bar(*phase, after, length))]
        curves = []
        if history:
            origin = times.get("claimed", start)
            points = [(_place(each[0], origin, start, length), *each[1:]) for each in history]
            end = after.get("gone", 1.0)
            curves = [
                _curve("Workers", [(x, workers) for x, workers, _ in points], end, steps=True),
                _curve("Tasks done", [(x, tasks) for x, _, tasks in points], end, steps=False),
            ]
        return cls(bars, curves, _ticks(length))


def _place(moment: float, origin: datetime, start: datetime, length: float) -> float:
    return min(1.0, (moment + (origin - start).total_seconds()) / length)


def _bar(name: str, begin: str, end: str, after: dict[str, float], length: float) -> Bar | None:
    if begin not in after:
        return None
    left, right = after[begin], after.get(end, 1.0)
    if right < left:
        return None
    text = seconds((right - left) * length)
    return Bar(name, 100 * left, 100 * (right - left), text, end not in after)


def _curve(name: str, points: Sequence[tuple[float, int]], end: float, *, steps: bool) -> Curve:
    """A curve that holds its last value to `end`; `steps`: a value holds until the next one."""
    top = max(value for _, value in points)
    scale = HEIGHT / (top or 1)
    words, before = [], 0
    for x, value in points:
        if steps:
            words.append(f"L{100 * x:.2f} {HEIGHT - scale * before:.2f}")
        words.append(f"L{100 * x:.2f} {HEIGHT - scale * value:.2f}")
        before = value
    words.append(f"L{100 * max(end, points[-1][0]):.2f} {HEIGHT - scale * before:.2f}")
    path = "M" + words[0][1:] + "".join(words[1:])
    right = words[-1][1:].split()[0]
    area = f"M{100 * points[0][0]:.2f} {HEIGHT:g}" + "".join(words) + f"L{right} {HEIGHT:g}Z"
    text = f"{name}: at most {top}, at the end {points[-1][1]}"
    return Curve(name, path, area, top, text)


def _ticks(length: float) -> list[tuple[float, str]]:
    """Round times, at most `TICKS` of them."""
    steps = [0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400]
    steps += [6 * 3600, 12 * 3600, *(86400 * 2**each for each in range(20))]
    step = next((each for each in steps if length / each < TICKS), length)
    count = math.floor(length / step) + 1
    short = length < 100
    return [
        (100 * each * step / length, f"{each * step:g} s" if short else duration(each * step))
        for each in range(count)
    ]
