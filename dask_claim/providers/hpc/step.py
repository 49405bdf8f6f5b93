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

PROGRAM = Path(__file__).with_name("node.py")
# It ends with its workers.
ENDS_WITHIN, KILLED_WITHIN = 5.0, 3.0

# `srun` takes its options from variables, too, and those of the job's script mean its own steps.
KEPT = ("SLURM_CONF", "SLURM_JOB_ID", "SLURM_CLUSTERS", "SLURM_WORKING_CLUSTER", "SLURM_JWT")


@dataclass
class Step:
    """Workers on the other nodes, by one `srun`; it ends within seconds of the cluster's end."""

    here: LocalRequest
    """What is left of the request for this node."""

    others: dict[str, LocalRequest]
    """Node → what is asked of it."""

    address: str
    """This node's, as the others reach it."""

    shortfall: str | None
    """One line on the workers that the allocation has no room for; None if it has."""

    job: str
    name: str
    """By which the step is found among the job's."""

    interface: str | None = None
    """The network on which the nodes meet; None: the one that leads there."""

    _process: asyncio.subprocess.Process | None = field(default=None, init=False)
    _ending: bool = field(default=False, init=False)
    _watching: asyncio.Task[None] | None = field(default=None, init=False)

    @classmethod
    async def plan(
        cls, request: LocalRequest, said: Mapping[str, Any], environ: Mapping[str, str]
    ) -> Step:
        """Divide `request` among the nodes of the allocation that `environ` tells of.

        `said` has the step's `name` and the claimed `interface`, or None.
        """
        nodes = environ["SLURM_JOB_NODELIST"]
        names = (await _said("scontrol", "show", "hostnames", nodes)).split()
        here, interface = environ["SLURMD_NODENAME"], said.get("interface")
        local, others, shortfall = divide(request, here, names, environ)
        if interface:
            address = _address_of(interface)
        else:
            address = await _route_to(next(name for name in names if name != here))
        return cls(
            local, others, address, shortfall, environ["SLURM_JOB_ID"], said["name"], interface
        )

    @property
    def workers(self) -> int:
        """How many are asked for on the other nodes."""
        return sum(request.max_workers for request in self.others.values())

    def __str__(self) -> str:
        each = ", ".join(f"{name}: {asked.max_workers}" for name, asked in self.others.items())
        return f"Workers on the allocation's other nodes: {each or 'none'}"

    async def start(self, scheduler: str, folder: Path, warn: Callable[[str], None]) -> None:
        """Start the workers of `scheduler`, with the keys of `folder`."""
        if not self.others:
            return
        asked = {name: asdict(request) for name, request in self.others.items()}
        count = len(asked)
        self._process = await asyncio.create_subprocess_exec(
            "srun", "--quiet", f"--jobid={self.job}", f"--job-name={self.name}",
            f"--nodes={count}", f"--ntasks={count}", "--ntasks-per-node=1",
            f"--nodelist={','.join(asked)}",
            # All that the job has on these nodes, whatever its script does there meanwhile.
            "--overlap", "--mem=0", "--cpu-bind=none", "--mpi=none",
            # One node's end is not the others'.
            "--no-kill", "--kill-on-bad-exit=0", "--wait=0", "--input=none",
            sys.executable, str(PROGRAM), scheduler, json.dumps(asked),
            *([f"--interface={self.interface}"] if self.interface else []),
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
            env=_environment(os.environ, folder),
        )  # fmt: skip
        self._watching = asyncio.create_task(self._watch(self._process, warn))

    async def _watch(
        self, process: asyncio.subprocess.Process, warn: Callable[[str], None]
    ) -> None:
        """Pass on what `srun` and its workers say, and tell where they end before the cluster."""
        assert process.stdout is not None
        while said := await process.stdout.read(2**16):
            # What it says of being ended is noise.
            if not self._ending:
                os.write(2, said)
        status = await process.wait()
        if not self._ending:
            warn(
                f"srun on the allocation's other nodes ended (status {status}): the run goes on "
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


def divide(
    request: LocalRequest, here: str, names: Sequence[str], environ: Mapping[str, str]
) -> tuple[LocalRequest, dict[str, LocalRequest], str | None]:
    """Return what is asked of this node and of each other one, and what there is no room for.

    Nodes are filled one after the other, this one first: workers that share a node have the
    shortest way to each other. Each of them counts its own limits once more before it starts. The
    site's policy bounds all nodes together.
    """
    cores = dict(
        zip(names, cores_of_nodes(environ.get("SLURM_JOB_CPUS_PER_NODE", "")), strict=False)
    )
    left, rest, asked = request.max_workers, dict(request.policy), dict[str, LocalRequest]()
    for name in sorted(names, key=lambda name: name != here):
        share = replace(request, policy=dict(rest))
        if name == here:
            size = fit_here(share, environ)
        elif request.unsaid and _used_up(share):
            break
        else:
            share = within(share, environ, cores.get(name, 1))
            has = Bound(share.local_cores or 1), Bound(share.local_memory or sys.maxsize)
            size = fit(share, *has)
        count = size.max_workers if request.unsaid else min(size.max_workers, left)
        left -= count
        if request.unsaid:
            _take(rest, max_workers=count, max_cores=count * size.threads)
            _take(rest, max_memory=count * size.memory)
        if count:
            # No minimum: a node's workers are there from the start to the end.
            asked[name] = replace(share, min_workers=count, max_workers=count)
    if request.unsaid:
        return asked.pop(here), asked, None
    shortfall = None
    total = request.max_workers
    if left > 0:
        shortfall = f"The allocation's {len(names)} nodes give {total - left} of {total} workers"
    policy = _of_each(request.policy, total - left)
    asked = {name: replace(share, policy=policy) for name, share in asked.items()}
    return asked.pop(here, request), asked, shortfall


def _used_up(request: LocalRequest) -> bool:
    """Whether the policy, less what other nodes give, has no room for one worker."""
    least = {"max_workers": 1, "max_cores": 1}
    least["max_memory"] = request.worker_memory or SMALLEST_WORKER
    return any(request.policy.get(bound, needed) < needed for bound, needed in least.items())


def _take(policy: dict[str, float], **given: int) -> None:
    for bound, amount in given.items():
        if bound in policy:
            policy[bound] -= amount


def _of_each(policy: Mapping[str, float], workers: int) -> dict[str, float]:
    """Return a policy that gives so many workers, wherever they are, equal parts of its bounds."""
    each = dict(policy)
    for whole, one in (("max_cores", "worker_cores"), ("max_memory", "worker_memory")):
        if whole in policy and workers:
            part = policy[whole] / workers
            each[one] = min(part, policy.get(one, part))
    return each


def within(request: LocalRequest, environ: Mapping[str, str], cores: int | None) -> LocalRequest:
    """Return the request within what Slurm granted on a node with so many `cores`."""
    memory = slurm_memory(environ, cores)
    return replace(
        request,
        local_cores=_least(request.local_cores, cores),
        local_memory=_least(request.local_memory, int(memory.amount) if memory else None),
    )


def cores_of_nodes(said: str) -> Iterator[int]:
    """Read Slurm's list of cores of each node, such as `8(x2),4`."""
    for cores, times in re.findall(r"(\d+)(?:\(x(\d+)\))?", said):
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


async def _route_to(node: str) -> str:
    """Return the address with which this node speaks to another one of the allocation."""
    printed = await _said("scontrol", "--oneliner", "show", "node", node)
    said = re.search(r"\bNodeAddr=(\S+)", printed)
    family, kind, protocol, _, target = socket.getaddrinfo(
        said.group(1) if said else node, 9, type=socket.SOCK_DGRAM
    )[0]
    with socket.socket(family, kind, protocol) as way:
        way.connect(target)  # nothing is sent
        return str(way.getsockname()[0])


def _address_of(interface: str) -> str:
    from distributed.utils import get_ip_interface

    return str(get_ip_interface(interface))


async def _said(*command: str) -> str:
    status, printed, error = await ask(*command)
    if status != 0:
        raise OSError(f"{' '.join(command[:3])}: {error}")
    return printed


def _least(one: Any, other: Any) -> Any:
    return min((value for value in (one, other) if value is not None), default=None)
