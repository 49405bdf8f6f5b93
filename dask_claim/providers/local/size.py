"""How much of a plan one machine, or one container of it, can give."""

from __future__ import annotations

import math
import os
import resource
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from dask_claim.cgroup import ROOT, Bound, cpu_limits, memory_limits
from dask_claim.providers.hpc.grants import granted_cores, granted_memory

SMALLEST_WORKER = 512 * 2**20
"""Bytes below which a worker has little room beside its own libraries."""

UNBOUNDED = 1_000_000
"""More workers than any machine has room for."""


@dataclass(frozen=True)
class LocalRequest:
    """What the claim and its plan request; it travels as JSON to the process that makes it."""

    min_workers: int
    max_workers: int

    worker_cores: float | None
    worker_cores_limit: float | None

    worker_memory: int | None
    """Bytes; None where the claim does not say."""

    unsaid: bool = False
    """Whether the claim leaves number and cores of the workers open; the plan's are ignored."""

    local_cores: float | None = None
    local_memory: int | None = None
    """Cores and bytes that this container was granted; None: unknown."""

    policy: Mapping[str, float] = field(default_factory=dict)
    """The site's bounds by their names, memory in bytes; of workers and of all together."""


@dataclass(frozen=True)
class LocalSize:
    """The size of a local cluster; threads, and bytes of memory, are of one worker."""

    min_workers: int
    max_workers: int
    threads: int
    memory: int

    bounds: str
    """How much there is, and who has set these bounds."""

    shortfall: str | None
    """One line on what the plan requests and this machine lacks; None if nothing."""

    @property
    def notice(self) -> str:
        """One line on the size and on what bounds it."""
        least, most = self.min_workers, self.max_workers
        count = _number(most, "worker") if least == most else f"{least} to {most} workers"
        each = f"{_number(self.threads, 'thread')} and {_gib(self.memory)}"
        return f"Local cluster: {count}, each with {each}, within {self.bounds}"


def here(environ: Mapping[str, str], root: Path = ROOT) -> tuple[Bound, Bound]:
    """Return the cores and the bytes of memory that this process may use.

    The smallest of what the machine has, control groups allow and a batch system granted, by its
    variables in `environ`. `root` is for tests.
    """
    import psutil

    cores = [Bound(os.cpu_count() or 1), *granted_cores(environ), *cpu_limits(root)]
    if hasattr(os, "sched_getaffinity"):  # within what a cpuset allows
        cores.append(Bound(len(os.sched_getaffinity(0)), "CPU affinity"))
    memory = [Bound(psutil.virtual_memory().total), *granted_memory(environ), *memory_limits(root)]
    # No kernel keeps to this limit, but Dask takes it for its workers' as well.
    if (resident := resource.getrlimit(resource.RLIMIT_RSS)[0]) > 0:
        memory.append(Bound(resident, "ulimit -m"))
    return _least(cores), _least(memory)


def describe(cores: Bound, memory: Bound) -> str:
    """Return how much there is, and who has set these bounds."""
    first = f"{_number(cores.amount, 'core')} ({cores.owner})"
    return f"{first} and {_gib(memory.amount)} ({memory.owner})"


def fit_here(request: LocalRequest, environ: Mapping[str, str] | None = None) -> LocalSize:
    """Return the largest part of `request` that this process has room for.

    `environ`: the variables with a batch system's grant; None: this process's own.
    """
    return fit(request, *here(os.environ if environ is None else environ))


def fit(request: LocalRequest, has_cores: Bound, has_memory: Bound) -> LocalSize:
    """Return the largest part of `request` that fits into so many cores and bytes.

    At least one worker with one thread always fits: a small machine runs slowly.
    """
    policy, whole = request.policy, math.floor
    for amount, owner in (
        (request.local_cores, "local_cores"),
        (policy.get("max_cores"), "policy.max_cores"),
    ):
        if amount:
            has_cores = _least([has_cores, Bound(max(1, whole(amount)), owner)])
    for amount, owner in (
        (request.local_memory, "local_memory"),
        (policy.get("max_memory"), "policy.max_memory"),
    ):
        if amount:
            has_memory = _least([has_memory, Bound(amount, owner)])
    # A part of a core lets one thread run, more slowly.
    cores, memory = math.ceil(has_cores.amount), whole(has_memory.amount)

    minimum, maximum = request.min_workers, request.max_workers
    claimed_threads = request.worker_cores_limit or request.worker_cores or 0
    if request.unsaid:
        split = _split(cores, memory, request.worker_memory)
        minimum = maximum = min(split, int(policy.get("max_workers", split)))
        claimed_threads = 0
    room = [whole(has_cores.amount / (request.worker_cores or request.worker_cores_limit or 1))]
    if request.worker_memory:
        room.append(memory // request.worker_memory)
    workers = max(1, min(maximum, *room))
    threads = max(1, min(cores, whole(claimed_threads or cores // workers)))
    threads = min(threads, max(1, whole(policy.get("worker_cores", threads))))
    share = memory // workers
    claimed_memory = request.worker_memory or min(share, int(policy.get("worker_memory", share)))
    worker_memory = min(claimed_memory, memory)

    short = []
    if workers < maximum:
        short.append(f"{workers} of {maximum} workers")
    if threads < whole(claimed_threads):
        short.append(f"{threads} of {claimed_threads:g} cores per worker")
    if worker_memory < claimed_memory:
        short.append(f"{_gib(worker_memory)} of {_gib(claimed_memory)} per worker")
    bounds = describe(has_cores, has_memory)
    shortfall = f"This machine gives {', '.join(short)}: it has {bounds}" if short else None
    return LocalSize(min(minimum, workers), workers, threads, worker_memory, bounds, shortfall)


def _split(cores: int, memory: int, worker_memory: int | None) -> int:
    """Return Dask's own number of processes, as far as each has memory for more than itself."""
    # Only here, for it imports all of distributed, which the launcher does without.
    from distributed.deploy.utils import nprocesses_nthreads

    processes: int = nprocesses_nthreads(cores)[0]
    return max(1, min(processes, memory // (worker_memory or SMALLEST_WORKER)))


def _least(bounds: list[Bound]) -> Bound:
    return min(bounds, key=lambda bound: bound.amount)


def _gib(size: float) -> str:
    return f"{size / 1024**3:.1f} GiB"


def _number(number: float, noun: str) -> str:
    shown = f"{round(number, 2):g}"
    return f"{shown} {noun}" if number == 1 else f"{shown} {noun}s"
