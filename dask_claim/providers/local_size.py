"""How much of a plan one machine, or one container of it, can give. Pure arithmetic."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Wish:
    """What the claim and its plan ask for; it travels as JSON to the process that makes it."""

    min_workers: int
    max_workers: int

    worker_cores: float | None
    worker_cores_limit: float | None

    worker_memory: int | None
    """Bytes; None where the claim does not say."""


@dataclass(frozen=True)
class LocalSize:
    """The size of a local cluster."""

    min_workers: int
    max_workers: int

    threads: int
    """Threads of one worker."""

    memory: int
    """Bytes of memory of one worker."""

    shortfall: str | None
    """One line on what the plan asks for and this machine does not have; None if nothing."""


def fit(wish: Wish, cores: int, memory: int) -> LocalSize:
    """The largest part of `wish` that fits into `cores` and `memory` (bytes).

    At least one worker always fits: a small machine runs slowly, it does not refuse.
    """
    room = [math.floor(cores / (wish.worker_cores or wish.worker_cores_limit or 1))]
    if wish.worker_memory:
        room.append(memory // wish.worker_memory)
    max_workers = max(1, min(wish.max_workers, *room))
    min_workers = min(wish.min_workers, max_workers)
    said = wish.worker_cores_limit or wish.worker_cores
    threads = max(1, min(cores, math.floor(said) if said else cores // max_workers))
    wanted_memory = wish.worker_memory or memory // max_workers
    worker_memory = min(wanted_memory, memory)

    short = []
    if max_workers < wish.max_workers:
        short.append(f"{max_workers} of {wish.max_workers} workers")
    if said and threads < math.floor(said):
        short.append(f"{threads} of {said:g} cores per worker")
    if worker_memory < wanted_memory:
        short.append(f"{_gib(worker_memory)} of {_gib(wanted_memory)} per worker")
    line = None
    if short:
        line = f"This machine gives {', '.join(short)}: it has {cores} cores and {_gib(memory)}"
    return LocalSize(min_workers, max_workers, threads, worker_memory, line)


def _gib(size: int) -> str:
    return f"{size / 1024**3:.1f} GiB"
