"""The jobs of a cluster's workers on Slurm: what they wait for, and why one has ended early."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
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

# Seconds between two looks at jobs without a worker, most of which wait in the queue, and at one
# that has just lost it.
FIRST, EVERY, SOON = 5.0, 30.0, 1.0
_STATE = re.compile(r"^(\d+) +([A-Z_]+) +(\d+) *(.*?) *$", re.MULTILINE)


@asynccontextmanager
async def watched_jobs(
    cluster: Any, warn: Callable[[str], None], tell_waiting: Callable[[str], None]
) -> AsyncIterator[None]:
    """Warn once of each job of dask-jobqueue's `cluster` that Slurm has ended or requeued.

    `tell_waiting` is called with what those wait for that are in the queue.
    """
    jobs = _WorkerJobs(cluster, warn, tell_waiting)
    watching = asyncio.create_task(jobs.watch())
    try:
        yield
    finally:
        watching.cancel()
        await asyncio.wait({watching})
        await jobs.look()


class _WorkerJobs:
    def __init__(
        self, cluster: Any, warn: Callable[[str], None], tell_waiting: Callable[[str], None]
    ) -> None:
        from distributed.diagnostics.plugin import SchedulerPlugin

        self._cluster, self._warn, self._tell_waiting = cluster, warn, tell_waiting
        self._lost = lost = asyncio.Event()
        self._had_worker = had_worker = set[str]()
        self._warned: set[tuple[str, str]] = set()
        self._pause = FIRST

        class Watch(SchedulerPlugin):  # type: ignore[misc]
            def add_worker(self, scheduler: Any, worker: str, **_: Any) -> None:
                if job := cluster.workers.get(scheduler.workers[worker].name):
                    had_worker.add(job.job_id)

            def remove_worker(self, *_: Any, **__: Any) -> None:
                lost.set()

        cluster.scheduler.add_plugin(Watch(), name="dask-claim-jobs")

    async def watch(self) -> None:
        """Look whenever a worker is lost, and now and then; until cancelled."""
        while True:
            waiting = asyncio.ensure_future(self._lost.wait())
            await asyncio.wait({waiting}, timeout=self._pause)
            waiting.cancel()
            self._lost.clear()
            await self.look()

    async def look(self) -> None:
        """Look at the state of the jobs that have no worker."""
        cluster, self._pause = self._cluster, EVERY
        up = {worker.name for worker in cluster.scheduler.workers.values()}
        names = {job.job_id: name for name, job in cluster.workers.items() if job.job_id}
        without = [job for job, name in names.items() if name not in up]
        if not without:
            return
        _, printed, _ = await ask(
            "squeue", "--noheader", "--states=all", f"--jobs={','.join(without)}",
            "--Format=JobID:20,State:20,RestartCnt:10,Reason:80",
        )  # fmt: skip
        found = _STATE.findall(printed)
        waiting = [reason for _, state, _, reason in found if state == "PENDING"]
        if waiting:
            jobs = "1 job waits" if len(waiting) == 1 else f"{len(waiting)} jobs wait"
            self._tell_waiting(f"{jobs} in the queue ({waiting[0]})")
        for job, state, restarts, _ in found:
            if names.get(job) not in cluster.worker_spec:
                continue  # scaled down: the cluster itself has ended it
            if state not in ENDED and restarts == "0":
                self._pause = SOON if job in self._had_worker else self._pause
                continue
            if state not in ENDED:
                state = "REQUEUED"
            if (job, state) not in self._warned:
                self._warned.add((job, state))
                meaning = ENDED.get(state, "it is to start again")
                self._warn(f"Slurm ended job {job} of a worker ({state}): {meaning}")
