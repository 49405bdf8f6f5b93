"""The goals of the burned-area map, and whether they are met."""

from __future__ import annotations

from typing import NamedTuple

from benchmarks.bai_runs import Run

#: Wall time: at most these many times the rival's.
TIMES_REFERENCE, TIMES_LIMIT, TIMES_TILE, TIMES_LOCAL = 0.45, 1.45, 4.4, 1.3
#: Peak memory, whatever the size of the map.
CLIENT_MEGABYTES, WORKER_MEGABYTES = 300, 1000
#: Bytes fetched: at most these many times those of the bands.
TIMES_BYTES = 1.05


class Goal(NamedTuple):
    """A figure and what it must not exceed."""

    name: str
    figure: float
    limit: float

    @property
    def met(self) -> bool:
        return self.figure <= self.limit

    def row(self) -> str:
        verdict = "met" if self.met else "**missed**"
        return f"| {self.name} | ≤ {self.limit:g} | {self.figure:.4g} | {verdict} |"


def memory(name: str, run: Run) -> list[Goal]:
    """The goals for memory."""
    return [
        Goal(f"{name}: client's peak, MB", run.client, CLIENT_MEGABYTES),
        Goal(f"{name}: each worker's peak, MB", run.worker, WORKER_MEGABYTES),
    ]
