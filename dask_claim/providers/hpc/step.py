"""The other nodes of a Slurm allocation: what each gives, and the step that runs workers there."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import socket
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from dask_claim.cgroup import Bound
from dask_claim.providers import tls
from dask_claim.providers.hpc.grants import slurm_memory
from dask_claim.providers.hpc.systems import ask
from dask_claim.providers.local.size import SMALLEST_WORKER, LocalRequest, fit, fit_here
from dask_claim.threads import in_time

# As with a local cluster: what lies in the working directory shadows nothing.
PROGRAM = f"""
import sys
sys.path[0:1] = []
sys.path += [{str(Path(__file__).resolve().parents[3])!r}, "."]
from dask_claim.providers.hpc.step import run_workers
run_workers()
"""
# Seconds after which a worker gives up a scheduler that it does not hear.
DEATH_TIMEOUT = 60
# It ends with its workers.
ENDS_WITHIN, KILLED_WITHIN = 5.0, 3.0

# `srun` takes its options from variables, too, and those of the job's script mean its own steps.
KEPT = ("SLURM_CONF", "SLURM_JOB_ID", "SLURM_CLUSTERS", "SLURM_WORKING_CLUSTER", "SLURM_JWT")


@dataclass
class Step:
    """Workers on the other nodes, by one `srun`; it ends within seconds of the cluster's end."""

    name: str  # its name among the job's steps
    interface: str | None  # the network on which the nodes meet; None: the one that leads there
    here: LocalRequest  # what is left of the request for this node
    others: dict[str, LocalRequest]  # node → its part of the request
    shortfall: str | None  # one line on the workers that the allocation has no room for
    address: str  # this node's, as the others reach it

    _process: asyncio.subprocess.Process | None = field(default=None, init=False)
    _ending: bool = field(default=False, init=False)
    _watching: asyncio.Task[None] | None = field(default=None, init=False)

    @classmethod
    async def plan(
        cls, request: LocalRequest, step: Mapping[str, Any], environ: Mapping[str, str]
    ) -> Step:
        """Divide `request` among the nodes of the allocation in `environ`.

        `step` has its `name` and the claimed `interface`, or None. Raises OSError.
        """
        from distributed.utils import get_ip, get_ip_interface, get_ipv6

        nodes, here = environ["SLURM_JOB_NODELIST"], environ["SLURMD_NODENAME"]
        names = (await _output("scontrol", "show", "hostnames", nodes)).split()
        parts = divide(request, here, names, environ)
        if interface := step["interface"]:
            address = get_ip_interface(interface)
        else:
            other = next(name for name in names if name != here)
            printed = await _output("scontrol", "--oneliner", "show", "node", other)
            named = re.search(r"\bNodeAddr=(\S+)", printed)
            host, loop = named[1] if named else other, asyncio.get_running_loop()
            # Dask would fall back to loopback for a name that does not resolve.
            family, *_, route = (await loop.getaddrinfo(host, 9, type=socket.SOCK_DGRAM))[0]
            address = (get_ip if family == socket.AF_INET else get_ipv6)(route[0])
        return cls(step["name"], interface, *parts, address)

    @property
    def workers(self) -> int:
        """How many there are on the other nodes."""
        return sum(request.max_workers for request in self.others.values())

    def __str__(self) -> str:
        each = ", ".join(f"{name}: {part.max_workers}" for name, part in self.others.items())
        return f"Workers on the allocation's other nodes: {each or 'none'}"

    async def start(self, scheduler: str, folder: Path, warn: Callable[[str], None]) -> None:
        """Start the workers of `scheduler`, with the keys of `folder`."""
        if not self.others:
            return
        count = len(self.others)
        parts = json.dumps({name: asdict(part) for name, part in self.others.items()})
        self._process = await asyncio.create_subprocess_exec(
            "srun", "--quiet", f"--jobid={os.environ['SLURM_JOB_ID']}", f"--job-name={self.name}",
            f"--nodes={count}", f"--ntasks={count}", "--ntasks-per-node=1",
            f"--nodelist={','.join(self.others)}",
            # All that the job has on these nodes, whatever its script does there meanwhile.
            "--overlap", "--mem=0", "--cpu-bind=none", "--mpi=none",
            # One node's end is not the others'.
            "--no-kill", "--kill-on-bad-exit=0", "--wait=0", "--input=none",
            sys.executable, "-c", PROGRAM, scheduler, parts,
            *([f"--interface={self.interface}"] if self.interface else []),
            env=_environment(os.environ, folder),
        )  # fmt: skip
        self._watching = asyncio.create_task(self._watch(self._process, warn))

    async def _watch(
        self, process: asyncio.subprocess.Process, warn: Callable[[str], None]
    ) -> None:
        status = await process.wait()
        if not self._ending:
            warn(
                f"srun on the allocation's other nodes ended (status {status}): the run continues "
                "without their workers"
            )

    async def end(self, scheduler: Any) -> None:
        """Return when `srun` has ended; Slurm ends the tasks of one that is killed."""
        process, self._ending = self._process, True
        if process is None:
            return
        for address, worker in list(scheduler.workers.items()):
            if isinstance(worker.name, str):  # those of this node have numbers
                scheduler.close_worker(address)
        for patience, end in ((ENDS_WITHIN, process.terminate), (KILLED_WITHIN, process.kill)):
            with contextlib.suppress(asyncio.TimeoutError):
                await in_time(process.wait(), patience)
                return
            with contextlib.suppress(ProcessLookupError):
                end()
        await process.wait()


def run_workers() -> None:
    """Run the workers of one node, as its task of the step; the keys are in its environment.

    Arguments: the scheduler's address, a JSON object (node → its part of the request), and what
    else `dask worker` is to have.
    """
    from dask.cli import run_cli

    scheduler, parts, *more = sys.argv[1:]
    node = os.environ["SLURMD_NODENAME"]
    # The size has the job's grant; the variables here have the step's, which is all of it.
    size = fit_here(LocalRequest(**json.loads(parts)[node]), {})
    sys.argv[1:] = [
        "worker", scheduler, f"--name={node}", f"--nworkers={size.max_workers}",
        f"--nthreads={size.threads}", f"--memory-limit={size.memory}", "--no-dashboard",
        f"--death-timeout={DEATH_TIMEOUT}", *more,
    ]  # fmt: skip
    run_cli()


def divide(
    request: LocalRequest, here: str, names: Sequence[str], environ: Mapping[str, str]
) -> tuple[LocalRequest, dict[str, LocalRequest], str | None]:
    """Return this node's part of the request, that of each other one, and what has no room.

    Nodes are filled one after the other, this one first: workers that share a node have the
    shortest way to each other. Each of them counts its own limits once more before it starts. The
    site's policy bounds all nodes together.
    """
    listed = parse_cores(environ.get("SLURM_JOB_CPUS_PER_NODE", ""))
    cores = dict(zip(names, listed, strict=False))
    names = sorted(names, key=lambda name: name != here)
    policy, left, parts = dict(request.policy), request.max_workers, dict[str, LocalRequest]()
    if request.unsaid:
        # As many nodes as the policy has room for get equal parts of it.
        memory = request.worker_memory or SMALLEST_WORKER
        least = {"max_workers": 1, "max_cores": 1, "max_memory": memory}
        bounds = [name for name in least if name in policy]
        rooms = [int(policy[name] // least[name]) for name in bounds]
        names = names[: max(1, min([len(names), *rooms]))]
        policy.update({name: policy[name] / len(names) for name in bounds})
    for name in names:
        part = replace(request, policy=policy)
        if name == here:
            size = fit_here(part, environ)
        else:
            part = _within_grant(part, environ, cores.get(name, 1))
            size = fit(part, Bound(part.local_cores or 1), Bound(part.local_memory or sys.maxsize))
        count = size.max_workers if request.unsaid else min(size.max_workers, left)
        left -= count
        if count:
            # No minimum: a node's workers are there from the start to the end.
            parts[name] = replace(part, min_workers=count, max_workers=count)
    if request.unsaid:
        return parts.pop(here), parts, None
    total, shortfall = request.max_workers - left, None
    if left > 0:
        nodes = len(names)
        shortfall = f"The allocation's {nodes} nodes give {total} of {request.max_workers} workers"
    # Wherever they are, all workers have equal parts of the policy's bounds.
    for whole, one in (("max_cores", "worker_cores"), ("max_memory", "worker_memory")):
        if whole in policy and total:
            policy[one] = min(policy[whole] / total, policy.get(one, policy[whole]))
    parts = {name: replace(part, policy=policy) for name, part in parts.items()}
    return parts.pop(here, request), parts, shortfall


def _within_grant(part: LocalRequest, environ: Mapping[str, str], cores: int) -> LocalRequest:
    """Return a part within what Slurm granted on a node with so many `cores`."""
    memory, own = slurm_memory(environ, cores), part.local_memory
    bounds = [bound for bound in (own, int(memory.amount) if memory else None) if bound is not None]
    return replace(
        part,
        local_cores=min(part.local_cores or cores, cores),
        local_memory=min(bounds, default=None),
    )


def parse_cores(listed: str) -> Iterator[int]:
    """Read Slurm's list of cores of each node, such as `8(x2),4`."""
    for cores, times in re.findall(r"(\d+)(?:\(x(\d+)\))?", listed):
        yield from [int(cores)] * int(times or 1)


def _environment(environ: Mapping[str, str], folder: Path) -> dict[str, str]:
    """The variables of workers elsewhere: they cannot read this machine's files."""
    kept = {
        name: value
        for name, value in environ.items()
        if (not name.startswith("SLURM_") or name in KEPT) and not name.startswith(tls.VARIABLE)
    }
    if not any(name.startswith("DASK_LOGGING") for name in kept):
        # As quiet as the workers of a LocalCluster.
        kept["DASK_LOGGING__DISTRIBUTED"] = "warning"
    return {**kept, **tls.as_text(folder, "worker"), "DASK_DISTRIBUTED__WORKER__HTTP__ROUTES": "[]"}


async def _output(*command: str) -> str:
    status, printed, error = await ask(*command)
    if status != 0:
        raise OSError(f"{' '.join(command[:3])}: {error}")
    return printed
