"""How many workers there were and how many tasks were done, in the course of a run."""

from __future__ import annotations

from dask_claim.providers.usage import Usage

MOST = 500
"""Points that are kept; from then on every second one goes."""

Point = tuple[float, int, int]


class History:
    """Points of a line: seconds since the claim, workers that are up, tasks that are done."""

    def __init__(self) -> None:
        self.points: list[Point] = []

    def add(self, seconds: float, usage: Usage) -> None:
        """Note a report; of reports that say the same only the first and the last are kept."""
        point = round(seconds, 1), usage.workers, usage.tasks_done
        if all(before[1:] == point[1:] for before in self.points[-2:]) and len(self.points) > 1:
            self.points.pop()
        self.points.append(point)
        if len(self.points) > MOST:
            del self.points[1:-1:2]
