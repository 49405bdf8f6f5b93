"""Jobs: a folder for each, and the tasks that run them, one `dask-claim` each.

A job's folder is the truth. When the service is killed, each launcher gets SIGTERM from the kernel
and gives its cluster back; it holds its job's lock until it is gone, so the next service knows when
that is. Where the launcher was killed too, the next service ends the cluster in its receipt.
"""

from __future__ import annotations

import asyncio
import fcntl
import json
import logging
import os
import shutil
import subprocess
import sys
import uuid
from collections.abc import Coroutine
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import IO, Any

from dask_claim import Claim
from job_service.models import PREFIX, Inputs, Settings

log = logging.getLogger("uvicorn.error")
OVER = ("successful", "failed", "dismissed")
DASK_CLAIM = [sys.executable, "-m", "dask_claim"]


def now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="microseconds")


def locked(path: Path) -> IO[str] | None:
    """The file, locked; None where another process has it."""
    file = path.open("a")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        return None
    return file


@dataclass(frozen=True)
class Job:
    folder: Path

    def read(self, name: str) -> dict[str, Any]:
        try:
            return dict(json.loads((self.folder / name).read_text()))
        except (OSError, ValueError):
            return {}

    @property
    def status(self) -> dict[str, Any]:
        return self.read("status.json")

    @property
    def results(self) -> list[str]:
        return sorted(path.name for path in self.folder.glob("out/[!.]*") if path.is_file())

    def update(self, **facts: Any) -> None:
        part = self.folder / "status.part"
        part.write_text(json.dumps({**self.status, **facts, "updated": now()}))
        part.replace(self.folder / "status.json")


class Jobs:
    """All jobs; `limit` of them run at a time, in the order in which they came."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.folder = settings.data.absolute() / "jobs"
        self._room = asyncio.Semaphore(settings.limit)
        self._tasks: dict[Job, asyncio.Task[None]] = {}
        self._launchers: dict[Job, subprocess.Popen[bytes]] = {}
        self.stopping = asyncio.Event()
        for job in reversed(self.all()):
            if (status := job.status["status"]) not in OVER:
                self._begin(job, self._run(job) if status == "accepted" else self._recover(job))

    def all(self) -> list[Job]:
        jobs = [Job(path.parent) for path in self.folder.glob("*/status.json")]
        whole = [job for job in jobs if "created" in job.status]
        return sorted(whole, key=lambda job: job.status["created"], reverse=True)

    def add(self, inputs: Inputs) -> Job:
        """Accept a job. Raises OSError where there is no room for it."""
        job = Job(self.folder / str(uuid.uuid4()))
        try:
            job.folder.mkdir()
            (job.folder / "request.json").write_text(inputs.model_dump_json())
            job.update(status="accepted", created=now())
        except OSError:
            shutil.rmtree(job.folder, ignore_errors=True)
            raise
        self._begin(job, self._run(job))
        return job

    def dismiss(self, job: Job) -> None:
        if launcher := self._launchers.get(job):
            launcher.terminate()
            job.update(dismiss=True)
        elif job.status["status"] == "accepted":
            job.update(status="dismissed", message="dismissed before it ran", finished=now())
            self._tasks[job].cancel()

    async def stop(self) -> None:
        self.stopping.set()
        for job, task in self._tasks.items():
            if launcher := self._launchers.get(job):
                launcher.terminate()
            else:
                task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    def _begin(self, job: Job, work: Coroutine[Any, Any, None]) -> None:
        self._tasks[job] = asyncio.create_task(work)
        self._tasks[job].add_done_callback(lambda _: self._tasks.pop(job))

    async def _run(self, job: Job) -> None:
        async with self._room:
            try:
                launcher = self._launchers[job] = self._launch(job, await self._lock(job))
            except Exception as error:
                return await self._end(job, None, f"could not be started: {error}")
            await self._record(job, status="running", started=now())
            status = await asyncio.to_thread(launcher.wait)
            del self._launchers[job]
        why = "the service was stopped" if self.stopping.is_set() else "see the log"
        why = job.read("receipt.json").get("error") or why
        await self._end(job, status, f"ended with status {status}: {why}")

    async def _lock(self, job: Job) -> IO[str]:
        while (lock := locked(job.folder / "lock")) is None:  # a launcher of an earlier service
            await asyncio.sleep(0.2)
        return lock

    def _launch(self, job: Job, lock: IO[str]) -> subprocess.Popen[bytes]:
        inputs = Inputs.model_validate(job.read("request.json"))
        command = ["setpriv", "--pdeathsig", "TERM", "--", *DASK_CLAIM]
        command += [f"--receipt={job.folder / 'receipt.json'}", "--"]
        command += [sys.executable, "-m", "bai_example", *inputs.arguments()]
        command += [f"--items={self.settings.inputs.absolute()}", "--overwrite"]
        command += [f"--output-dir={job.folder / 'out'}"]
        command += [f"--progress={job.folder / 'progress.json'}"]
        with lock, (job.folder / "log.txt").open("ab") as output:
            files = {"stdin": subprocess.DEVNULL, "stdout": output, "stderr": output}
            more = {"env": self._environment(job), "pass_fds": [lock.fileno()]}
            return subprocess.Popen(command, start_new_session=True, **files, **more)

    def _environment(self, job: Job) -> dict[str, str]:
        made = {k: v for k, v in os.environ.items() if not k.startswith(PREFIX)}
        claim = Claim.model_validate(self.settings.claim)
        # As the operator's word: only a gateway that an operator names gets credentials.
        names = ("gateway_url", "proxy_url", "public_url")
        made |= {f"DASK_CLAIM_{n.upper()}": str(u) for n in names if (u := getattr(claim, n))}
        if most := job.read("request.json")["max_workers"]:
            made["DASK_CLAIM_MAX_WORKERS"] = str(min(most, claim.plan().max_workers))
        return {**made, "DASK_CLAIM": json.dumps(claim.to_dict())}

    async def _recover(self, job: Job) -> None:
        (await self._lock(job)).close()
        message, receipt = "the service ended while it ran", job.read("receipt.json")
        if receipt.get("gone") is None and (name := receipt.get("cluster_name")):
            stop = [*DASK_CLAIM, "clusters", "stop", name]
            run = {"env": self._environment(job), "capture_output": True, "text": True}
            done = await asyncio.to_thread(subprocess.run, stop, **run)
            # 64: the gateway has no such cluster any more.
            gone = "is gone" if done.returncode in (0, 64) else f"may run: {done.stderr[-500:]}"
            message += f"; cluster {name} {gone}"
        await self._end(job, receipt.get("exit_status"), message)

    async def _end(self, job: Job, exit_status: int | None, message: str) -> None:
        ended = "dismissed" if job.status.get("dismiss") else "failed"
        if exit_status == 0:
            ended, message = "successful", "the map is written"
        await self._record(job, status=ended, message=message, finished=now())

    async def _record(self, job: Job, **facts: Any) -> None:
        while True:  # a full disk must not lose how a job ended; the next service finds its receipt
            try:
                return job.update(**facts)
            except OSError as error:
                log.error("job %s, to be tried again: %s", job.folder.name, error)
            if self.stopping.is_set():
                return
            await asyncio.sleep(1)
