"""A Slurm allocation as a cluster: this node's share, and the other nodes by a step of the job."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import socket
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from dask_claim.errors import ConfigurationError
from dask_claim.providers.hpc.systems import ask, name_jobs, read_number
from dask_claim.providers.local.local_provider import LocalProvider
from dask_claim.providers.values import Outcome, Request, Ticket, Warn, Write
from dask_claim.threads import in_time

if TYPE_CHECKING:
    from dask_claim.claim.fields import ClaimFields

_STEP = re.compile(r"^(\S+) (\S+)$", re.MULTILINE)


class AllocationProvider(LocalProvider):
    """A local cluster within what Slurm granted here, and workers of it on the other nodes."""

    name = "allocation"
    description = "this node's share of the Slurm allocation"

    def __init__(self, request: Request, write: Write, warn: Warn) -> None:
        super().__init__(request, write, warn)
        environ = request.environ
        nodes = read_number(environ, "SLURM_JOB_NUM_NODES") or 1
        if nodes > 1 and _can_step(environ):
            self._facts = {"name": name_jobs(request.run_id), "job": environ["SLURM_JOB_ID"]}
            self.description = f"the {nodes} nodes of the Slurm allocation"
        elif nodes > 1:
            warn(
                f"only this one of the allocation's {nodes} nodes is used; to use them all, start "
                "dask-claim once, in the job's script or by srun --ntasks=1, with srun, scontrol, "
                "squeue and scancel on PATH"
            )
        elif not environ.get("SLURMD_NODENAME"):
            warn(
                "not running on a node of the allocation (SLURMD_NODENAME is not set: salloc may "
                "have been called here); starting the cluster here anyway. To have it in the "
                "allocation, write srun --ntasks=1 before dask-claim"
            )

    @classmethod
    def serves_with(cls, claim: ClaimFields) -> tuple[str, str | None]:
        return cls.name if claim.create else "none", None

    def check(self) -> None:
        super().check()
        networks = [name for _, name in socket.if_nameindex()]
        interface = self.request.claim.hpc.get("interface")
        if self._facts and interface and interface not in networks:
            raise ConfigurationError(
                f"this node has no network {interface} (hpc.interface): it has "
                f"{', '.join(networks)}"
            )

    def _host_request(self) -> dict[str, Any]:
        request = super()._host_request()
        if self._facts:
            interface = self.request.claim.hpc.get("interface")
            request["others"] = {"name": self._facts["name"], "interface": interface}
        return request

    @classmethod
    async def reclaim(cls, ticket: Ticket, timeout: float, warn: Callable[[str], None]) -> Outcome:
        outcome = await super().reclaim(ticket, timeout, warn)
        if ticket.facts:
            try:
                await in_time(_end_step(**ticket.facts), timeout)
            except asyncio.TimeoutError:
                return Outcome.NOT_CONFIRMED
        return outcome


def _can_step(environ: Mapping[str, str]) -> bool:
    """Whether a step can be run on the other nodes, and is this process's alone to run."""
    names = ("SLURM_JOB_ID", "SLURM_JOB_NODELIST", "SLURMD_NODENAME")
    path = environ.get("PATH", os.defpath)
    commands = (shutil.which(name, path=path) for name in ("srun", "scontrol", "squeue", "scancel"))
    alone = (read_number(environ, "SLURM_STEP_NUM_TASKS") or 1) == 1
    return alone and all(map(environ.get, names)) and all(commands)


async def _end_step(name: str, job: str) -> None:
    """Cancel the step of this run until the job has none of its name, or is over itself."""
    while True:
        status, printed, error = await ask(
            "squeue", "--steps", "--noheader", f"--jobs={job}", "--format=%i %j"
        )
        if steps := [step for step, its_name in _STEP.findall(printed) if its_name == name]:
            await ask("scancel", *steps)
        elif status == 0 or "Invalid job id" in error:
            return
        await asyncio.sleep(0.2)
