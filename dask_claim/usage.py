"""What a run has used of its cluster."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Usage:
    """What a cluster has done so far, as the lease counts it."""

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
