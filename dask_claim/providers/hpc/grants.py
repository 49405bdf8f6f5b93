"""What batch systems granted the job that this process is in, on this node.

Many sites enforce a job's share by no control group: a job that takes the whole node disturbs its
neighbours, or is ended for it.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from dask_claim.cgroup import Bound
from dask_claim.providers.hpc.systems import SYSTEMS, System, read_number

# HTCondor writes files of lines `Name = value`, of the slot and of the job.
_CONDOR = {
    "_CONDOR_MACHINE_AD": ("Cpus", "Memory"),
    "_CONDOR_JOB_AD": ("RequestCpus", "RequestMemory"),
}


def granted_cores(environ: Mapping[str, str]) -> Iterator[Bound]:
    """Yield the cores that each batch system around this process granted on this node."""
    for system in SYSTEMS.values():
        if not environ.get(system.job):
            continue
        counts = [(_on_this_host(system, environ), system.hosts)]
        counts += [(read_number(environ, name) or 0, name) for name in system.cores]
        first = next((pair for pair in counts if pair[0]), (0, ""))
        cores, name = max(first, (read_number(environ, system.threads) or 0, system.threads))
        if cores:
            yield _of_job(cores, name)
    yield from _condor(environ, 0)


def granted_memory(environ: Mapping[str, str]) -> Iterator[Bound]:
    """Yield the bytes of memory that each of those granted whose variables state the memory."""
    cores = read_number(environ, "SLURM_CPUS_ON_NODE")
    if environ.get("SLURM_JOB_ID") and (memory := slurm_memory(environ, cores)):
        yield memory
    for bound in _condor(environ, 1):
        yield Bound(bound.amount * 2**20, bound.owner)


def slurm_memory(environ: Mapping[str, str], cores: int | None) -> Bound | None:
    """Return the memory that Slurm granted on a node with so many `cores`; None: not specified.

    Slurm counts in MiB.
    """
    name, count = "SLURM_MEM_PER_NODE", 1
    if not read_number(environ, name) and cores:
        name, count = "SLURM_MEM_PER_CPU", cores
    each = read_number(environ, name)
    return _of_job(each * count * 2**20, name) if each else None


def _on_this_host(system: System, environ: Mapping[str, str]) -> int:
    text = environ.get(system.hosts, "")
    if system.hosts == "LSB_MCPU_HOSTS":  # `host 4 other 2`
        words = text.split()
        pairs: Iterable[list[str]] = map(list, zip(words[::2], words[1::2], strict=False))
    else:  # lines `host 4 …`, or OAR's `host` for each core
        pairs = (line.split() for line in _lines(text))
    here = _short(socket.gethostname())
    mine = [[*pair[1:], "1"][0] for pair in pairs if pair and _short(pair[0]) == here]
    return sum(int(count) for count in mine if count.isdecimal())


def _condor(environ: Mapping[str, str], which: int) -> Iterator[Bound]:
    for variable, names in _CONDOR.items():
        # A request may be an expression: only a number counts.
        line = re.compile(rf"\s*{names[which]}\s*=\s*0*([1-9]\d*)\s*", re.IGNORECASE)
        for match in filter(None, map(line.fullmatch, _lines(environ.get(variable, "")))):
            yield _of_job(int(match[1]), variable)
            return  # what the slot has, where its file is there, not what was requested


def _of_job(amount: int, variable: str) -> Bound:
    return Bound(amount, f"this job: {variable}")


def _short(host: str) -> str:
    return host.partition(".")[0].lower()


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace").splitlines()
    except (OSError, ValueError):
        return []
