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
"""Bytes below which a worker has little room beside its own libraries, where nobody asks for it."""

UNBOUNDED = 1_000_000
"""More workers than any machine has room for."""


@dataclass(frozen=True)
class LocalRequest:
    """What the claim and its plan ask for; it travels as JSON to the process that makes it."""

    min_workers: int
    max_workers: int

    worker_cores: float | None
    worker_cores_limit: float | None

    worker_memory: int | None
    """Bytes; None where the claim does not say."""

    unsaid: bool = False
    """Whether the claim leaves number and cores of the workers open; the plan's are ignored."""

    local_cores: float | None = None
    """Cores that this container was granted, whatever the machine has; None: not known."""

    local_memory: int | None = None
    """Bytes that this container was granted; None: not known."""

    policy: Mapping[str, float] = field(default_factory=dict)
    """The site's bounds by their names, memory in bytes; of workers and of all together."""


@dataclass(frozen=True)
class LocalSize:
    """The size of a local cluster."""

    min_workers: int
    max_workers: int

    threads: int
    """Threads of one worker."""

    memory: int
    """Bytes of memory of one worker."""

    notice: str
    """One line on the size and on what bounds it."""

    shortfall: str | None
    """One line on what the plan asks for and this machine does not have; None if nothing."""


def here(environ: Mapping[str, str], root: Path = ROOT) -> tuple[Bound, Bound]:
    """Return the cores and the bytes of memory that this process may use.

    The smallest of what the machine has, control groups allow and a batch system granted, which its
    variables in `environ` tell. `root` is for tests.
    """
    import psutil

    cores = [Bound(os.cpu_count() or 1), *granted_cores(environ), *cpu_limits(root)]
    if hasattr(os, "sched_getaffinity"):  # within what a cpuset allows
        cores.append(Bound(len(os.sched_getaffinity(0)), "CPU affinity"))
    memory = [Bound(psutil.virtual_memory().total), *granted_memory(environ), *memory_limits(root)]
    # Dask takes this limit for its workers' as well.
    if (resident := resource.getrlimit(resource.RLIMIT_RSS)[0]) > 0:
        memory.append(Bound(resident, "ulimit -m"))
    return _least(cores), _least(memory)


def fit_here(request: LocalRequest, environ: Mapping[str, str] | None = None) -> LocalSize:
    """Return the largest part of `request` that this process has room for.

    `environ`: the variables that tell of a batch system's grant; None: this process's own.
    """
    return fit(request, *here(os.environ if environ is None else environ))


def fit(request: LocalRequest, has_cores: Bound, has_memory: Bound) -> LocalSize:
    """Return the largest part of `request` that fits into so many cores and bytes.

    The smaller ones of them and of what was granted count. At least one worker with one thread
    always fits: a small machine runs slowly, it does not refuse.
    """
    if request.local_cores is not None:
        granted = Bound(max(1, math.floor(request.local_cores)), "local_cores")
        has_cores = _least([has_cores, granted])
    if request.local_memory is not None:
        has_memory = _least([has_memory, Bound(request.local_memory, "local_memory")])
    policy = request.policy
    if "max_cores" in policy:
        allowed = Bound(max(1, math.floor(policy["max_cores"])), "policy.max_cores")
        has_cores = _least([has_cores, allowed])
    if "max_memory" in policy:
        has_memory = _least([has_memory, Bound(policy["max_memory"], "policy.max_memory")])
    # A part of a core lets one thread run, more slowly.
    cores, memory = math.ceil(has_cores.amount), math.floor(has_memory.amount)
    bounds = (
        f"{_count(has_cores.amount, 'core')} ({has_cores.owner}) and {_gib(memory)} "
        f"({has_memory.owner})"
    )

    wanted = request.min_workers, request.max_workers
    said = request.worker_cores_limit or request.worker_cores
    if request.unsaid:
        split = _split(cores, memory, request.worker_memory)
        wanted, said = (min(split, int(policy.get("max_workers", split))),) * 2, None
    room = [
        math.floor(has_cores.amount / (request.worker_cores or request.worker_cores_limit or 1))
    ]
    if request.worker_memory:
        room.append(memory // request.worker_memory)
    max_workers = max(1, min(wanted[1], *room))
    min_workers = min(wanted[0], max_workers)
    threads = max(1, min(cores, math.floor(said) if said else cores // max_workers))
    threads = min(threads, max(1, math.floor(policy.get("worker_cores", threads))))
    share = memory // max_workers
    wanted_memory = request.worker_memory or min(share, int(policy.get("worker_memory", share)))
    worker_memory = min(wanted_memory, memory)

    short = []
    if max_workers < wanted[1]:
        short.append(f"{max_workers} of {wanted[1]} workers")
    if said and threads < math.floor(said):
        short.append(f"{threads} of {said:g} cores per worker")
    if worker_memory < wanted_memory:
        short.append(f"{_gib(worker_memory)} of {_gib(wanted_memory)} per worker")
    shortfall = f"This machine gives {', '.join(short)}: it has {bounds}" if short else None

    each = f"{_count(threads, 'thread')} and {_gib(worker_memory)}"
    count = _count(max_workers, "worker")
    if min_workers < max_workers:
        count = f"{min_workers} to {count}"
    notice = f"Local cluster: {count}, each with {each}, within {bounds}"
    return LocalSize(min_workers, max_workers, threads, worker_memory, notice, shortfall)


def _split(cores: int, memory: int, worker_memory: int | None) -> int:
    """Return Dask's own number of processes, as far as each has memory for more than itself."""
    # Only here, for it imports all of distributed, which the launcher does without.
    from distributed.deploy.utils import nprocesses_nthreads

    processes: int = nprocesses_nthreads(cores)[0]
    return max(1, min(processes, memory // (worker_memory or SMALLEST_WORKER)))


def _least(bounds: list[Bound]) -> Bound:
    return min(bounds, key=lambda bound: bound.amount)


def _gib(size: int) -> str:
    return f"{size / 1024**3:.1f} GiB"


def _count(number: float, noun: str) -> str:
    shown = f"{round(number, 2):g}"
    return f"{shown} {noun}" if number == 1 else f"{shown} {noun}s"
