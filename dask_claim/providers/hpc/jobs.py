"""What Slurm says of single jobs: when this process's own ends, and why a worker's has ended."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable, Mapping
from typing import Any

from dask_claim.providers.hpc.systems import ask, slurm_number

ENDED = {
    "BOOT_FAIL": "its node did not start",
    "CANCELLED": "somebody cancelled it",
    "DEADLINE": "it could not end before its deadline",
    "FAILED": "its worker failed",
    "NODE_FAIL": "its node failed",
    "OUT_OF_MEMORY": "it used more memory than it was granted",
    "PREEMPTED": "other jobs went first",
    "TIMEOUT": "its walltime was over; hpc.walltime says how long jobs may run",
}
"""State → what it means; the other ones need no word."""

# Seconds between two questions about jobs without a worker, most of which wait in the queue, and
# about one that has just lost it.
EVERY, SOON = 30.0, 1.0
_STATE = re.compile(r"^(\d+) +([A-Z_]+) +(\d+)", re.MULTILINE)
_FACT = re.compile(r"(?:^|\s)(\w+)=(\S*)")


async def facts_of_own_job(environ: Mapping[str, str]) -> dict[str, str]:
    """Return what `scontrol show job` says of the job of `environ`; empty where it says nothing."""
    if not (job := slurm_number(environ, "SLURM_JOB_ID")):
        return {}
    _, printed, _ = await ask("scontrol", "--oneliner", "show", "job", str(job))
    facts: dict[str, str] = {}
    for name, value in _FACT.findall(printed):
        facts.setdefault(name, value)
    return facts


def moment(written: str | None) -> float | None:
    """Return a time of Slurm's in seconds since the epoch; None for `Unknown` and the like."""
    try:
        return time.mktime(time.strptime(written or "", "%Y-%m-%dT%H:%M:%S"))
    except ValueError:
        return None


def why_signalled(facts: Mapping[str, str], environ: Mapping[str, str]) -> str | None:
    """Return why Slurm has sent SIGTERM to this job; None where it is not ending it."""
    state = facts.get("JobState")
    # SIGNALING: it is told what `--signal` promised it.
    if state in (None, "RUNNING", "SUSPENDED", "SIGNALING"):
        return None
    starts, restarts = slurm_number(environ, "SLURM_RESTART_COUNT") or 0, facts.get("Restarts", "")
    if restarts.isdecimal() and int(restarts) > starts:
        return f"Slurm requeues this job: it will start again ({state})"
    if state in ENDED:
        return f"Slurm ends this job ({state}): {ENDED[state]}"
    return f"Slurm ends this job ({state}): it was cancelled or preempted, or its walltime is over"


class WorkerJobs:
    """Tells once of each job of a cluster's workers that Slurm has ended or requeued itself."""

    def __init__(self, cluster: Any, warn: Callable[[str], None]) -> None:
        """`cluster`: dask-jobqueue's, in this process."""
        from distributed.diagnostics.plugin import SchedulerPlugin

        self._cluster, self._warn = cluster, warn
        self._lost = lost = asyncio.Event()
        self._seen: set[str] = set()
        """The jobs that have had a worker."""

        seen = self._seen
        self._told: set[tuple[str, str]] = set()
        self._unsettled = False

        class Watch(SchedulerPlugin):  # type: ignore[misc]
            def add_worker(self, scheduler: Any, worker: str, **_: Any) -> None:
                if job := cluster.workers.get(scheduler.workers[worker].name):
                    seen.add(job.job_id)

            def remove_worker(self, *_: Any, **__: Any) -> None:
                lost.set()

        cluster.scheduler.add_plugin(Watch(), name="dask-claim-jobs")

    async def watch(self) -> None:
        """Look whenever a worker is lost, and now and then; until cancelled."""
        while True:
            waiting = asyncio.ensure_future(self._lost.wait())
            await asyncio.wait({waiting}, timeout=SOON if self._unsettled else EVERY)
            waiting.cancel()
            self._lost.clear()
            await self.look()

    async def look(self) -> None:
        """Ask for the state of the jobs that have no worker."""
        cluster = self._cluster
        up = {worker.name for worker in cluster.scheduler.workers.values()}
        jobs = {job.job_id: name for name, job in cluster.workers.items() if job.job_id}
        without = [job for job, name in jobs.items() if name not in up]
        self._unsettled = False
        if not without:
            return
        _, printed, _ = await ask(
            "squeue", "--noheader", "--states=all", f"--jobs={','.join(without)}",
            "--Format=JobID:20,State:20,RestartCnt:10",
        )  # fmt: skip
        for job, state, restarts in _STATE.findall(printed):
            # Whoever is scaled down is no longer wanted, and ended by us.
            if jobs.get(job) not in cluster.worker_spec:
                continue
            if state in ENDED:
                self._tell(job, state, ENDED[state])
            elif restarts != "0":
                self._tell(job, "REQUEUED", "it is to start again")
            elif job in self._seen:
                self._unsettled = True

    def _tell(self, job: str, state: str, meaning: str) -> None:
        if (job, state) not in self._told:
            self._told.add((job, state))
            self._warn(f"Slurm ended job {job} of a worker ({state}): {meaning}")
