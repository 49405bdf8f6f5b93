"""What a receipt says of the work of a cluster: its course, and what it came to."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

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


def used(usage: Usage | None, worker: tuple[int, int] | None) -> dict[str, Any]:
    """Return fields of the receipt, None where no cluster has reported; `worker`: threads and bytes
    of one."""
    if usage is None:
        none = ("workers", "memory_peak", "spilled", "efficiency", "tasks")
        return dict.fromkeys(none)
    return {
        "workers": {
            "peak": usage.peak,
            "worker_seconds": round(usage.worker_seconds, 3),
            "core_hours": round(usage.core_seconds / 3600, 6),
            # Of one worker as it really was: gateways round the size.
            "threads": worker[0] if worker else None,
            "memory": worker[1] if worker else None,
            "memory_peak": usage.memory_peak,
            "lost": [asdict(loss) for loss in usage.lost],
        },
        "memory_peak": usage.cluster_memory_peak,
        "spilled": usage.spilled,
        "efficiency": usage.efficiency,
        "tasks": {"done": usage.tasks_done, "failed": usage.tasks_failed},
    }


def shared(usage: Usage | None) -> dict[str, Any] | None:
    """With how many other runs the cluster was shared, and this run's part; None: with nobody."""
    if usage is None or not usage.shared:
        return None
    names = ("key", "runs", "joined", "others", "keep", "lost_by_others")
    return {
        **{name: usage.shared.get(name) for name in names},
        "core_seconds": round(usage.core_seconds, 3),
        "tasks": usage.tasks_done + usage.tasks_failed,
    }
