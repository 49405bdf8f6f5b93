"""What a cluster reports of itself, and the names by which schedulers are asked for it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

LOOK = "dask_claim_lease"
"""The call to a scheduler that only looks at the lease on it."""

RENOUNCED = "dask-claim-lease"
"""The topic of the scheduler's events under which a launcher writes what `LOOK` would answer, if
the scheduler takes no plugin."""


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

    out_of_memory: tuple[str, int, int] | None = None
    """Address, bytes in use and limit of the first worker that was killed for its memory."""

    gave_up: tuple[int, str] | None = None
    """Number of tasks that failed since no worker could run them, and the resources that they ask
    for; None where there are none."""

    no_workers_timeout: float | None = None
    """Seconds after which the scheduler fails such tasks; None where it lets them wait."""

    versions: Mapping[str, Mapping[str, str | None]] = field(default_factory=dict)
    """Packages of the scheduler and of a worker, as `versions.differences` compares them."""

    @classmethod
    def of(cls, reply: Mapping[str, Any]) -> Usage:
        """Read what a scheduler reports; what a newer one reports besides is left out."""
        names = {field.name for field in fields(cls)}
        return cls(**{name: value for name, value in reply.items() if name in names})

    @property
    def worker(self) -> tuple[int, int] | None:
        """Threads and bytes of one worker, on average; None where none is up."""
        if not self.workers:
            return None
        return self.cores // self.workers, self.memory // self.workers
