"""Workers as whole jobs of a batch system, through dask-jobqueue; the scheduler stays here."""

from __future__ import annotations

import asyncio
import importlib.util
import math
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from dask_claim.errors import ConfigurationError
from dask_claim.files import private_folder, remove_private_folder
from dask_claim.processes import group_runs, kill_group
from dask_claim.providers.hosted import KILLED_WITHIN, HeldProvider
from dask_claim.providers.hpc.systems import SYSTEMS, ask, job_name, job_numbers
from dask_claim.providers.values import Cluster, Outcome, Request, Ticket
from dask_claim.threads import in_time

MEMORY = 2 * 2**30
"""Bytes of a worker where the claim does not say."""

# Whoever is not heard of for so long has lost its scheduler.
DEATH_TIMEOUT = 60


# LSF and Grid Engine fail where there is no job of a name.
NO_JOB = re.compile("is not found|do not exist")


class BatchProvider(HeldProvider):
    """Starts and ends the process that holds scheduler and jobs (see `host`)."""

    whole_cores = True
    host = Path(__file__).with_name("host.py")

    def __init__(
        self, request: Request, write: Callable[[Ticket], None], warn: Callable[[str], None]
    ) -> None:
        super().__init__(request, write, warn)
        self._system = SYSTEMS[self.name]
        self.description = f"{self._system.title} (dask-jobqueue)"
        self.no_workers = (
            f"Its jobs are named {job_name(request.run_id)}: {self._system.find[0]} tells what "
            "they wait for"
        )

    def check(self) -> None:
        super().check()
        if importlib.util.find_spec("dask_jobqueue") is None:
            raise ConfigurationError(
                f"provider {self.name} needs dask_jobqueue: pip install 'dask-claim[hpc]'"
            )
        system, path = self._system, self.request.environ.get("PATH")
        for command in (system.submit, system.find[0], system.cancel[0]):
            if shutil.which(command, path=path) is None:
                raise ConfigurationError(
                    f"provider {self.name} needs {system.title}'s {command}, which is not on PATH: "
                    "run on a node from which jobs are submitted, or choose another provider"
                )

    async def _start(self) -> None:
        self._folder = str(private_folder("keys"))
        # Before there is a job: they are found by their name.
        facts = {"name": job_name(self.request.run_id)}
        ticket = Ticket(self.name, facts, folder=self._folder)
        self._write(ticket)
        self._write(ticket.with_({"host": await self._spawn({})}))

    async def _learn(self) -> None:
        self._ask(self._asked())
        event = await self._event()
        self.cluster = Cluster(
            scheduler_address=event["scheduler_address"], tls_folder=self._folder
        )
        self.notice = f"Jobs of this run are named {job_name(self.request.run_id)}"

    def _asked(self) -> dict[str, Any]:
        claim, plan, system = self.request.claim, self.request.plan, self._system
        directives = list(claim.hpc.get("directives", ()))
        hpc = {name: str(said) for name, said in claim.hpc.items() if name != "directives"}
        if account := hpc.pop("account", None):
            hpc[system.account] = account
        if claim.gpus and self.name == "slurm":
            directives.append(f"--gpus-per-node={claim.gpus}")
        job = {
            **hpc,
            "job_name": job_name(self.request.run_id),
            "cores": math.ceil(claim.worker_cores_limit or claim.worker_cores or 1),
            "memory": claim.worker_memory.bytes if claim.worker_memory else MEMORY,
        }
        return {
            "cluster": system.cluster,
            "folder": self._folder,
            "environment": dict(claim.environment),
            "death_timeout": DEATH_TIMEOUT,
            "min_workers": plan.min_workers,
            "max_workers": plan.max_workers,
            "quiet": system.quiet,
            "directives": directives,
            "job": job,
        }

    async def wait_until_running(self) -> None:
        """Return when the minimum of jobs is submitted; they may wait in their queue."""
        await self._event()
        self._started()

    async def scale(self) -> tuple[int, int]:
        return self.request.plan.min_workers, self.request.plan.max_workers

    async def close(self) -> None:
        # It cancels its jobs by itself; those that are left are found by their name, in time.
        await self._close(self.request.stop_timeout / 2)

    @classmethod
    async def reclaim(cls, ticket: Ticket, timeout: float, warn: Callable[[str], None]) -> Outcome:
        try:
            return await in_time(_reclaim(ticket, warn), timeout)
        except asyncio.TimeoutError:
            return Outcome.NOT_CONFIRMED
        finally:
            if ticket.folder:
                remove_private_folder(ticket.folder)


class SlurmProvider(BatchProvider):
    name = "slurm"


class PbsProvider(BatchProvider):
    name = "pbs"


class LsfProvider(BatchProvider):
    name = "lsf"


class SgeProvider(BatchProvider):
    name = "sge"


class OarProvider(BatchProvider):
    name = "oar"


async def _reclaim(ticket: Ticket, warn: Callable[[str], None]) -> Outcome:
    """Cancel what has the run's name until the system knows of no such job."""
    jobs = ticket.facts
    if host := jobs.get("host"):
        # As long as it lives it may submit another one.
        for _ in range(int(KILLED_WITHIN / 0.1)):
            if not group_runs(host):
                break
            await asyncio.sleep(0.1)
        else:
            kill_group(host)
    system, told = SYSTEMS[ticket.provider], False
    while True:
        status, printed, error = await ask(*(part.format(**jobs) for part in system.find))
        found = job_numbers(printed)
        if found:
            await ask(*system.cancel, *found)
        elif status == 0 or NO_JOB.search(printed + error):
            return Outcome.GONE
        elif not told:
            told = True
            warn(f"{system.title} does not say whether jobs {jobs['name']} are gone: {error}")
        await asyncio.sleep(0.3)
