"""The jobs of a cluster's workers on Slurm: what they wait for, and why one has ended early."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from typing import Any

from dask_claim.providers.hpc.systems import ask

ENDED = {
    "BOOT_FAIL": "its node did not boot",
    "CANCELLED": "it was cancelled",
    "DEADLINE": "it could not end before its deadline",
    "FAILED": "its worker failed",
    "NODE_FAIL": "its node failed",
    "OUT_OF_MEMORY": "it used more memory than it was granted",
    "PREEMPTED": "other jobs took precedence",
    "TIMEOUT": "it reached its walltime, which hpc.walltime sets",
}
"""State → what it means; the other ones need no word."""

# Seconds between two looks, for most jobs without a worker wait in the queue, and while a worker
# is missing whose job may not have ended yet.
FIRST, EVERY, SOON = 5.0, 30.0, 1.0
_STATE = re.compile(r"^(\d+) +([A-Z_]+) +(\d+) *(.*?) *$", re.MULTILINE)


class WorkerJobs:
    """Warns once of each job of dask-jobqueue's `cluster` that Slurm has ended or requeued.

    `tell_waiting` is called with what those wait for that are in the queue.
    """

    def __init__(
        self, cluster: Any, warn: Callable[[str], None], tell_waiting: Callable[[str], None]
    ) -> None:
        self._cluster, self._warn, self._tell_waiting = cluster, warn, tell_waiting
        self._had_worker = set[str]()
        self._warned = set[tuple[str, str]]()

    async def watch(self) -> None:
        """Look at once where a job has lost its worker, else now and then; until cancelled."""
        pause = FIRST
        while True:
            await asyncio.sleep(SOON)
            pause -= SOON
            if pause <= 0 or self._had_worker & self._without_worker().keys():
                await self.look()
                pause = EVERY

    def _without_worker(self) -> dict[str, str]:
        """Return the number of each job that has no worker → the name of that worker."""
        up = {worker.name for worker in self._cluster.scheduler.workers.values()}
        names = {job.job_id: name for name, job in self._cluster.workers.items() if job.job_id}
        self._had_worker |= {job for job, name in names.items() if name in up}
        return {job: name for job, name in names.items() if name not in up}

    async def look(self) -> None:
        """Look at the state of the jobs that have no worker."""
        names = self._without_worker()
        if not names:
            return
        _, printed, _ = await ask(
            "squeue", "--noheader", "--states=all", f"--jobs={','.join(names)}",
            "--Format=JobID:20,State:20,RestartCnt:10,Reason:80",
        )  # fmt: skip
        jobs = _STATE.findall(printed)
        if waiting := [reason for _, state, _, reason in jobs if state == "PENDING"]:
            count = "1 job waits" if len(waiting) == 1 else f"{len(waiting)} jobs wait"
            self._tell_waiting(f"{count} in the queue ({waiting[0]})")
        for job, state, restarts, _ in jobs:
            if state not in ENDED and restarts == "0":
                continue
            self._had_worker.discard(job)
            state = state if state in ENDED else "REQUEUED"
            # One that is scaled down the cluster itself has ended.
            if names.get(job) in self._cluster.worker_spec and (job, state) not in self._warned:
                self._warned.add((job, state))
                meaning = ENDED.get(state, "it is to start again")
                self._warn(f"Slurm ended job {job} of a worker ({state}): {meaning}")
