"""Runs the jobs: each one `dask-claim`, several at a time, the others in the order they came.

The database says what is to be done, and the runner does it: whatever happens in between, it finds
its work there again. What a killed service leaves behind is dealt with by what outlives it:

- each launcher gets SIGTERM from the kernel when the service dies, and gives its cluster back;
- it holds its job's lock until it is gone, so the next service knows when that is;
- where the launcher was killed too, its guard or the cluster's lease ends the cluster, and the next
  service asks the gateway to, by the name that is in the job's log.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import logging
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, TypeVar

from sqlalchemy.exc import SQLAlchemyError

from job_service.models import State
from job_service.settings import PREFIX, Settings
from job_service.store import JobRow, Store

T = TypeVar("T")
log = logging.getLogger("uvicorn.error")

LOOK = 1.0
"""Seconds after which the runner looks at the database again, asked or not."""

DASK_CLAIM = [sys.executable, "-m", "dask_claim"]


def claim_of(settings: Settings, request: dict[str, Any]) -> dict[str, Any]:
    """The operator's claim, with what the request may say of it."""
    resources = {k: v for k, v in request["resources"].items() if v is not None}
    claim = {**settings.claim, **resources}
    claim["env"] = {**claim.get("env", {}), "dashboard_url": "JOB_DASHBOARD"}
    return claim


def locked(path: Path) -> IO[str] | None:
    """The file, locked; None where another process has it."""
    file = path.open("a")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        return None
    return file


def read_json(path: Path) -> dict[str, Any] | None:
    """What a job has written; None where it is not there."""
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) else None


class Runner:
    def __init__(self, settings: Settings, store: Store, ended: Callable[[State], None]) -> None:
        """`ended` is told the state of each job that ends."""
        self._settings, self._store, self._told = settings, store, ended
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._launchers: dict[str, subprocess.Popen[bytes]] = {}
        self._wake = asyncio.Event()
        self._stopping = False

    def wake(self) -> None:
        """There may be something to do; from any thread."""
        self._loop.call_soon_threadsafe(self._wake.set)

    async def run(self) -> None:
        """Until `stop`, and until all jobs have given back their clusters."""
        self._loop = asyncio.get_running_loop()
        for job in await self._persist(self._store.running):
            self._begin(job, self._recover(job))
        while not self._stopping:
            self._wake.clear()
            try:
                await self._look()
            except (OSError, SQLAlchemyError) as error:
                log.error("the database: %s", error)
            timer = self._loop.call_later(LOOK, self._wake.set)
            await self._wake.wait()
            timer.cancel()
        for launcher in self._launchers.values():
            launcher.terminate()
        await asyncio.gather(*self._tasks.values())

    def stop(self) -> None:
        self._stopping = True
        self.wake()

    async def _look(self) -> None:
        for job in await asyncio.to_thread(self._store.running, to_cancel=True):
            if launcher := self._launchers.get(job.id):
                launcher.terminate()
        while len(self._tasks) < self._settings.limit and not self._stopping:
            job = await asyncio.to_thread(self._store.start_next)
            if job is None:
                return
            self._begin(job, self._run(job))

    def _begin(self, job: JobRow, work: Any) -> None:
        def over(task: asyncio.Task[None]) -> None:
            del self._tasks[job.id]
            self._wake.set()
            if not task.cancelled() and task.exception():
                log.error("job %s", job.id, exc_info=task.exception())

        self._tasks[job.id] = asyncio.create_task(work)
        self._tasks[job.id].add_done_callback(over)

    async def _run(self, job: JobRow) -> None:
        folder = self._settings.folder(job.id)
        try:
            launcher = self._launchers[job.id] = self._launch(job, folder)
        except OSError as error:
            await self._end(job, State.failed, None, f"could not be started: {error}")
            return
        status = await asyncio.to_thread(launcher.wait)
        del self._launchers[job.id]
        if status < 0:
            status = 128 - status
        receipt = read_json(folder / "receipt.json") or {}
        # dask-claim says nothing here where it is the processor that failed.
        detail = receipt.get("error") or f"ended with status {status}, see the log"
        if status == 0:
            await self._end(job, State.done, 0, None)
        elif await self._was_cancelled(job):
            await self._end(job, State.cancelled, status, "cancelled while running")
        elif self._stopping:
            await self._end(job, State.interrupted, status, "the service was stopped")
        else:
            await self._end(job, State.failed, status, detail)

    def _launch(self, job: JobRow, folder: Path) -> subprocess.Popen[bytes]:
        command = ["setpriv", "--pdeathsig", "TERM", "--", *DASK_CLAIM]
        command += ["--receipt", str(folder / "receipt.json"), "--"]
        command += [sys.executable, "-m", "job_service.processor", str(folder)]
        command += [str(self._settings.inputs.absolute())]
        lock = locked(folder / "lock")
        if lock is None:
            raise BlockingIOError("another process has this job")
        with lock, (folder / "log.txt").open("ab") as output:
            return subprocess.Popen(
                command,
                env=self._environment(job),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                pass_fds=[lock.fileno()],
                # Ctrl+C in a terminal is the service's, which then ends its jobs one by one.
                start_new_session=True,
            )

    def _environment(self, job: JobRow) -> dict[str, str]:
        # The service's own settings, a database's password among them, are not the job's.
        kept = {k: v for k, v in os.environ.items() if not k.startswith(PREFIX)}
        return {**kept, "DASK_CLAIM": json.dumps(claim_of(self._settings, job.request))}

    async def _recover(self, job: JobRow) -> None:
        """A job that a service before this one was running."""
        folder = self._settings.folder(job.id)
        while not self._stopping and folder.is_dir():
            with contextlib.suppress(OSError):
                if lock := locked(folder / "lock"):
                    lock.close()
                    break
            await asyncio.sleep(0.2)
        if self._stopping:  # The next service goes on.
            return
        receipt = read_json(folder / "receipt.json") or {}
        status = receipt.get("exit_status")
        if status == 0:
            await self._end(job, State.done, 0, None)
            return
        detail = "the service ended while it ran"
        if receipt.get("gone") is not True:
            detail += await asyncio.to_thread(self._reclaim, job, folder)
        cancelled = await self._was_cancelled(job)
        await self._end(job, State.cancelled if cancelled else State.interrupted, status, detail)

    def _reclaim(self, job: JobRow, folder: Path) -> str:
        """Stop the cluster that the job's log names; what became of it."""
        try:
            text = (folder / "log.txt").read_text(errors="replace")
        except OSError:
            text = ""
        # The launcher's line comes before anything that the processor prints.
        found = re.search(r"dask-claim - Cluster ([\w.-]+) is requested", text)
        if found is None:
            return ""
        stop = subprocess.run(
            [*DASK_CLAIM, "clusters", "stop", found[1]],
            env=self._environment(job),
            capture_output=True,
            text=True,
        )
        # The other answer (64): the gateway knows no such cluster any more.
        if stop.returncode == 0 or "no cluster of yours" in stop.stderr:
            return f"; cluster {found[1]} is gone"
        return f"; cluster {found[1]} is NOT confirmed gone: {stop.stderr[-500:]}"

    async def _was_cancelled(self, job: JobRow) -> bool:
        row = await self._persist(lambda: self._store.get(job.id))
        return row is not None and row.cancel

    async def _end(self, job: JobRow, state: State, status: int | None, detail: str | None) -> None:
        if not job.request["keep_intermediate"]:
            work = self._settings.folder(job.id) / "work"
            await asyncio.to_thread(shutil.rmtree, work, ignore_errors=True)
        await self._persist(lambda: self._store.end(job.id, state, status, detail))
        self._told(state)

    async def _persist(self, transaction: Callable[[], T]) -> T:
        """Tried until it succeeds: a full disk or a lost database must not lose how a job ended."""
        while True:
            try:
                return await asyncio.to_thread(transaction)
            except (OSError, SQLAlchemyError) as error:
                if self._stopping:
                    raise
                log.error("the database, to be tried again: %s", error)
                await asyncio.sleep(LOOK)
