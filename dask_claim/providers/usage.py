"""What a cluster reports of itself, and the names by which schedulers report it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

LOOK = "dask_claim_lease"
"""The call to a scheduler that only looks at the lease on it."""

RENOUNCED = "dask-claim-lease"
"""The topic of the scheduler's events under which a launcher writes what `LOOK` would answer, if
the scheduler takes no plugin."""


@dataclass(frozen=True)
class Lost:
    """Workers that were lost for one reason; `troubles` counts them."""

    reason: str
    """`memory_limit`, `killed`, `exited`, `silent`, `closed` or `connection_lost`."""

    count: int
    text: str
    """Of one of them, a line."""


@dataclass(frozen=True)
class Failed:
    """Tasks that failed with one class of exceptions, or graphs that could not be taken."""

    kind: str
    """The exception's class, without its module where it is Python's own."""

    count: int
    text: str
    """Of the first one, a line."""

    where: str = "workers"
    """`workers` or `scheduler`."""


@dataclass(frozen=True)
class Usage:
    """What a cluster has done so far, as `meter` counts it."""

    workers: int
    """Workers that are up now."""

    peak: int
    """The most workers that were up at one time."""

    cores: int
    """Threads of the workers that are up now."""

    memory: int
    """Bytes of memory of the workers that are up now."""

    worker_seconds: float
    core_seconds: float
    tasks_done: int
    tasks_failed: int

    waiting: int = 0
    """Tasks that wait for a worker that could run them."""

    unrunnable: int = 0
    """Those of them that no worker here can run, whatever becomes free."""

    needs: str = ""
    """What one of these asks of a worker."""

    paused: int = 0
    """Workers that take no tasks, since their memory is full."""

    gave_up: tuple[int, str] | None = None
    """Number of tasks that failed since no worker could run them, and the resources that they ask
    for; None where there are none."""

    no_workers_timeout: float | None = None
    """Seconds after which the scheduler fails such tasks; None where it lets them wait."""

    versions: Mapping[str, Mapping[str, str | None]] = field(default_factory=dict)
    """Packages of the scheduler and of a worker, as `versions.differences` compares them."""

    tasks_total: int = 0
    """Tasks that are done, have failed, or are still to be done."""

    processing: int = 0
    """Tasks that workers have now."""

    busy_seconds: float = 0.0
    """Seconds that tasks took, each on one thread."""

    memory_used: int = 0
    """Bytes in use on all workers now."""

    memory_peak: int = 0
    """Bytes of the fullest worker at its peak."""

    cluster_memory_peak: int = 0
    """Bytes of all workers at their peak."""

    spilled: int = 0
    """The most bytes that were on the workers' disks at one time, for want of memory."""

    lost: Sequence[Lost] = ()
    errors: Sequence[Failed] = ()
    shared: Mapping[str, Any] | None = None
    """Of a shared cluster: its `key`, the most `runs` at one time, the `bounds` of its workers,
    whether the run has `joined`, `lost_by_others`, the workers that were lost with tasks of other
    runs, and `shut_down`, whether the program has called shutdown() since the last report; in the
    last one how many `others` stay, or for how long it is kept, `keep`. Figures of time, tasks and
    losses are then this run's own part."""

    @classmethod
    def of(cls, reply: Mapping[str, Any]) -> Usage:
        """Read what a scheduler reports; what a newer one reports besides is left out."""
        names = {field.name for field in fields(cls)}
        values = {name: value for name, value in reply.items() if name in names}
        values["lost"] = [
            Lost(str(reason), int(count), str(text))
            for reason, count, text in reply.get("lost", ())
        ]
        values["errors"] = [
            Failed(str(kind), int(count), str(text), str(where))
            for kind, count, text, where in reply.get("errors", ())
        ]
        return cls(**values)

    @property
    def efficiency(self) -> float | None:
        """Busy share of what the workers' threads could have done; None where there was none."""
        if not self.core_seconds:
            return None
        return round(min(self.busy_seconds / self.core_seconds, 1.0), 3)

    @property
    def worker(self) -> tuple[int, int] | None:
        """Threads and bytes of one worker, on average; None where none is up."""
        if not self.workers:
            return None
        return self.cores // self.workers, self.memory // self.workers
