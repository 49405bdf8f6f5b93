"""Events that tell how a run's work goes, and at its end what it was."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dask_claim.amounts import counted, gib
from dask_claim.launch.events import Event, Warned


@dataclass(frozen=True)
class Progress(Event):
    """Tasks run; once a minute, with `DEBUG` where stderr is a terminal."""

    word = "progress"
    tasks_done: int
    tasks_total: int
    workers: int
    memory_used: int
    """Bytes in use on all workers."""

    def __str__(self) -> str:
        done = f"{self.tasks_done} of {counted(self.tasks_total, 'task')} done"
        return f"{done}, {counted(self.workers, 'worker')}, {gib(self.memory_used)}"


@dataclass(frozen=True)
class NoWorkers(Warned):
    """Tasks wait, and no worker can run them; once a minute."""

    word = "no_workers"
    tasks: int
    workers: int
    """Workers that are up, and cannot run these."""

    seconds: float
    """Since when."""


@dataclass(frozen=True)
class WorkerLost(Warned):
    """A worker was lost, the first one for this reason."""

    word = "worker_lost"
    reason: str
    """As in the receipt's `workers.lost`."""


@dataclass(frozen=True)
class Explained(Event):
    """Why the run ended as it did; after the last report of its cluster."""

    word = "explained"
    reason: str | None
    """A word of `errors.Reason`; None where it ended well."""

    lines: Sequence[str]

    def __str__(self) -> str:
        return "\n  ".join(self.lines)


@dataclass(frozen=True)
class Summary(Event):
    """The run has ended, and what it has used; an error may follow."""

    word = "summary"
    exit_status: int
    reason: str | None
    """Why it ended as it did, as the receipt has it; None with status 0."""

    seconds: float
    tasks_done: int | None = None
    """This and what follows: None where no cluster has reported."""

    tasks_failed: int | None = None
    core_hours: float | None = None
    efficiency: float | None = None
    memory_peak: int | None = None
    """Bytes of all workers together."""

    workers_lost: int | None = None

    @classmethod
    def of(cls, receipt: Mapping[str, Any]) -> Summary:
        """Return that of a run with this receipt."""
        tasks, workers = receipt["tasks"] or {}, receipt["workers"] or {}
        lost = workers.get("lost")
        return cls(
            receipt["exit_status"], receipt["reason"], receipt["duration"], tasks.get("done"),
            tasks.get("failed"), workers.get("core_hours"), receipt["efficiency"],
            receipt["memory_peak"], None if lost is None else sum(each["count"] for each in lost),
        )  # fmt: skip

    def __str__(self) -> str:
        parts = []
        if self.tasks_done is not None:
            failed = f" and {self.tasks_failed} failed" if self.tasks_failed else ""
            parts.append(f"{counted(self.tasks_done, 'task')} done{failed}")
        if self.core_hours is not None:
            parts.append(f"{self.core_hours:.3f} core-hours")
        if self.efficiency is not None:
            parts.append(f"efficiency {100 * self.efficiency:.0f} %")
        if self.memory_peak:
            parts.append(f"peak memory {gib(self.memory_peak)}")
        if self.workers_lost is not None:
            lost = counted(self.workers_lost, "worker") if self.workers_lost else "no worker"
            parts.append(f"{lost} lost")
        reason = f" ({self.reason})" if self.reason else ""
        parts.append(f"status {self.exit_status}{reason}")
        head = "Ended after" if self.exit_status else "Done in"
        return f"{head} {self.seconds:.1f} s: {', '.join(parts)}"
