"""Workers as whole jobs of a batch system, through dask-jobqueue; the scheduler stays here."""

from __future__ import annotations

import asyncio
import importlib.util
import math
import re
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar

from dask_claim.claim.effective import BATCH_WORKER
from dask_claim.claim.memory import Memory
from dask_claim.errors import ConfigurationError
from dask_claim.files import remove_private_folder
from dask_claim.processes import kill_group
from dask_claim.providers.hosted import KILLED_WITHIN, HostedProvider
from dask_claim.providers.hpc import condor
from dask_claim.providers.hpc.systems import SYSTEMS, System, ask, name_jobs, parse_jobs
from dask_claim.providers.local.local_provider import group_is_gone
from dask_claim.providers.values import Cluster, Outcome, Request, Ticket, Warn, Write
from dask_claim.threads import in_time

# Seconds after which a worker gives up a scheduler that it does not hear.
DEATH_TIMEOUT = 60

# LSF and Grid Engine fail where there is no job of a name.
_NO_JOB = re.compile("is not found|do not exist")


class BatchProvider(HostedProvider):
    """Starts and ends the process that hosts scheduler and jobs (see `batch_host`)."""

    whole_cores = True
    system: ClassVar[System]
    host = Path(__file__).with_name("batch_host.py")

    def __init__(self, request: Request, write: Write, warn: Warn) -> None:
        super().__init__(request, write, warn)
        self._jobs = name_jobs(request.run_id)
        self._facts = {"name": self._jobs}
        self.description = f"{self.system.title} (dask-jobqueue)"
        self.no_workers = (
            f"Its jobs are named {self._jobs}: {self.system.find[0]} shows what they wait for"
        )

    def check(self) -> None:
        super().check()
        if importlib.util.find_spec("dask_jobqueue") is None:
            raise ConfigurationError(
                f"provider {self.name} needs dask_jobqueue: install dask-claim[hpc]"
            )
        system, path = self.system, self.request.environ.get("PATH")
        for command in (system.submit, system.find[0], system.cancel):
            if shutil.which(command, path=path) is None:
                raise ConfigurationError(
                    f"provider {self.name} needs {system.title}'s {command}, which is not on PATH: "
                    "run on a node from which jobs are submitted, or choose another provider"
                )
        hpc = self.request.claim.hpc
        for line in hpc.get("directives", ()):
            if re.match(system.renaming, line.strip()):
                raise ConfigurationError(
                    f"hpc.directives: {line!r} would rename the jobs, which are found by their name"
                )
        self._job(hpc)

    def _held(self, ticket: Ticket, process: int) -> Ticket:
        # As long as that lives it may submit another job.
        return ticket.with_({"host": process})

    async def _use(self, event: Mapping[str, Any]) -> None:
        address = event["scheduler_address"]
        self.cluster = Cluster(scheduler_address=address, tls_folder=self._folder)
        self.notice = f"Jobs of this run are named {self._jobs}"

    def _host_request(self) -> dict[str, Any]:
        claim, plan, system = self.request.claim, self.request.plan, self.system
        entries, directives = self._job(claim.hpc)
        if claim.gpus and system.gpus:
            directives.append(system.gpus.format(claim.gpus))
        cores = claim.worker_cores_limit or claim.worker_cores or BATCH_WORKER.worker_cores
        return {
            "cluster": system.cluster,
            "environment": dict(claim.environment),
            "min_workers": plan.min_workers,
            "max_workers": plan.max_workers,
            "quiet": system.quiet,
            "directives": directives,
            "job": {
                **entries,
                "job_name": self._jobs,
                "cores": math.ceil(cores),
                "memory": (claim.worker_memory or BATCH_WORKER.worker_memory).bytes,
                "death_timeout": DEATH_TIMEOUT,
            },
        }

    def _job(self, hpc: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
        """Return the arguments of dask-jobqueue's, and the directives, for the entries of `hpc`."""
        if "disk" in hpc:
            raise ConfigurationError(
                f"hpc.disk: {self.system.title} has no such request; write it under hpc.directives"
            )
        names = {"account": self.system.account}
        entries = {names.get(name, name): str(value) for name, value in hpc.items()}
        entries.pop("directives", None)
        return entries, list(hpc.get("directives", ()))

    async def scale(self) -> tuple[int, int]:
        return self.request.plan.min_workers, self.request.plan.max_workers

    async def close(self) -> None:
        # It cancels its jobs by itself; those that are left are found by their name, in time.
        await self._close(self.request.stop_timeout / 2)

    @classmethod
    async def reclaim(cls, ticket: Ticket, timeout: float, warn: Callable[[str], None]) -> Outcome:
        try:
            await in_time(
                cls._end_jobs(ticket.facts["name"], ticket.facts.get("host"), warn), timeout
            )
        except asyncio.TimeoutError:
            return Outcome.NOT_CONFIRMED
        finally:
            if ticket.folder:
                remove_private_folder(ticket.folder)
        return Outcome.GONE

    @classmethod
    async def _end_jobs(cls, name: str, host: int | None, warn: Callable[[str], None]) -> None:
        """Return when the system lists no job of this name any more."""
        if not await group_is_gone(host, KILLED_WITHIN):
            kill_group(host)
        system, warned = cls.system, False
        while True:
            status, printed, error = await ask(*(part.format(name=name) for part in system.find))
            if jobs := parse_jobs(printed):
                await ask(system.cancel, *jobs)
            elif status == 0 or _NO_JOB.search(printed + error):
                return
            elif not warned:
                warned = True
                warn(f"{system.title} did not confirm that jobs {name} are gone: {error}")
            await asyncio.sleep(0.3)


class SlurmProvider(BatchProvider):
    name, system = "slurm", SYSTEMS["slurm"]


class PbsProvider(BatchProvider):
    name, system = "pbs", SYSTEMS["pbs"]


class LsfProvider(BatchProvider):
    name, system = "lsf", SYSTEMS["lsf"]


class SgeProvider(BatchProvider):
    name, system = "sge", SYSTEMS["sge"]


class OarProvider(BatchProvider):
    name, system = "oar", SYSTEMS["oar"]


class HTCondorProvider(BatchProvider):
    name, system = "htcondor", SYSTEMS["htcondor"]

    def _job(self, hpc: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
        entries: dict[str, Any] = {name: hpc[name] for name in ("interface",) if name in hpc}
        if "disk" in hpc:
            entries["disk"] = Memory(hpc["disk"]).bytes
        return entries, condor.commands(hpc, self._jobs)
