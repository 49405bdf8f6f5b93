"""What batch systems granted the job that this process is in, on this node.

Many sites enforce a job's share by no control group: a job that takes the whole node disturbs its
neighbours, or is ended for it.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from dask_claim.cgroup import Bound
from dask_claim.providers.hpc.systems import slurm_number


@dataclass(frozen=True)
class Variables:
    """Where a batch system tells a job its cores."""

    job: str
    """The variable that only its jobs have."""

    cores: tuple[str, ...] = ()
    """Those with a number of cores; the first one that is set counts."""

    hosts: str | None = None
    """The one with the cores of each host, or with the path of a file that has them."""

    threads: str | None = None
    """The one with the cores of one process on a host: all of them, or a part."""


SYSTEMS = (
    Variables("SLURM_JOB_ID", ("SLURM_CPUS_ON_NODE",)),
    # The file has a line for each process. PBS Professional starts one, or as many as `mpiprocs`
    # says, and NCPUS is what `ompthreads` says, else all; Torque starts one for each core.
    Variables("PBS_JOBID", ("PBS_NUM_PPN", "PBS_NP"), "PBS_NODEFILE", "NCPUS"),
    Variables("LSB_JOBID", ("LSB_DJOB_NUMPROC",), "LSB_MCPU_HOSTS"),
    Variables("JOB_ID", ("NSLOTS",), "PE_HOSTFILE"),  # Grid Engine
    Variables("OAR_JOB_ID", (), "OAR_NODEFILE"),
)

# HTCondor writes files of lines `Name = value`, of the slot and of the job.
CONDOR = {
    "_CONDOR_MACHINE_AD": ("Cpus", "Memory"),
    "_CONDOR_JOB_AD": ("RequestCpus", "RequestMemory"),
}


def granted_cores(environ: Mapping[str, str]) -> Iterator[Bound]:
    """Yield the cores that each batch system around this process granted on this node."""
    for system in SYSTEMS:
        if environ.get(system.job):
            told = [(_on_this_host(system, environ), system.hosts or "")]
            told += [(slurm_number(environ, name) or 0, name) for name in system.cores]
            first = next((pair for pair in told if pair[0]), (0, ""))
            threads = system.threads or ""
            cores, name = max(first, (slurm_number(environ, threads) or 0, threads))
            if cores:
                yield _job(cores, name)
    yield from _condor(environ, 0)


def granted_memory(environ: Mapping[str, str]) -> Iterator[Bound]:
    """Yield the bytes of memory that each of those granted which tells of memory."""
    cores = slurm_number(environ, "SLURM_CPUS_ON_NODE")
    if environ.get("SLURM_JOB_ID") and (memory := slurm_memory(environ, cores)):
        yield memory
    for ad in _condor(environ, 1):
        yield Bound(ad.amount * 2**20, ad.owner)


def slurm_memory(environ: Mapping[str, str], cores: int | None) -> Bound | None:
    """Return the memory that Slurm granted on a node with so many `cores`; None: it does not say.

    Slurm counts in MiB.
    """
    name, count = "SLURM_MEM_PER_NODE", 1
    if not slurm_number(environ, name) and cores:
        name, count = "SLURM_MEM_PER_CPU", cores
    each = slurm_number(environ, name)
    return _job(each * count * 2**20, name) if each else None


def _on_this_host(system: Variables, environ: Mapping[str, str]) -> int:
    text = environ.get(system.hosts, "") if system.hosts else ""
    if system.hosts == "LSB_MCPU_HOSTS":  # `host 4 other 2`
        words = text.split()
        pairs: Iterable[list[str]] = map(list, zip(words[::2], words[1::2], strict=False))
    else:  # lines `host 4 …`, or OAR's `host` for each core
        pairs = (line.split() for line in _lines(text))
    here = _short(socket.gethostname())
    mine = [[*pair[1:], "1"][0] for pair in pairs if pair and _short(pair[0]) == here]
    return sum(int(count) for count in mine if count.isdecimal())


def _condor(environ: Mapping[str, str], which: int) -> Iterator[Bound]:
    for variable, names in CONDOR.items():
        # A request may be an expression: only a number counts.
        line = re.compile(rf"\s*{names[which]}\s*=\s*(\d+)\s*", re.IGNORECASE)
        for found in filter(None, map(line.fullmatch, _lines(environ.get(variable, "")))):
            if int(found[1]):
                yield _job(int(found[1]), variable)
                return  # what the slot has, where it says so, not what was asked for


def _job(amount: int, variable: str) -> Bound:
    return Bound(amount, f"this job: {variable}")


def _short(host: str) -> str:
    return host.partition(".")[0].lower()


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace").splitlines()
    except (OSError, ValueError):
        return []
