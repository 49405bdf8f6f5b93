"""The service as an operator starts it: its own process, over HTTP."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.gateway import clean_environment, free_port
from tests.support.launcher import processes_with, wait_for

EXAMPLES = Path(__file__).parents[2] / "examples"
OVER = ("successful", "failed", "dismissed")
EXECUTION = "/processes/burned-area/execution"


def request(pre: str = "pre.json", **more: Any) -> dict[str, Any]:
    """A job's request; `blocked.json` is an item that never comes."""
    return {"inputs": {"pre_event": pre, "post_event": ["post.json"], **more}}


class Service:
    """One folder of inputs and data; its process may be ended and started again."""

    def __init__(self, folder: Path, environment: dict[str, str], **settings: Any) -> None:
        import httpx

        self.folder, self.inputs = folder, folder / "inputs"
        self.data = Path(settings.pop("data", folder / "data"))
        self.inputs.mkdir()
        self.port = free_port()
        config = {"inputs": str(self.inputs), "data": str(self.data), "port": self.port, **settings}
        (folder / "service.yaml").write_text(json.dumps(config))
        # Whoever has it was started by this service, directly or not.
        self.marker = f"JOB_SERVICE_TEST={uuid.uuid4()}"
        name, _, value = self.marker.partition("=")
        self._environment = clean_environment(
            **environment, **{name: value},
            JOBS_CONFIG=str(folder / "service.yaml"), PYTHONPATH=str(EXAMPLES),
        )  # fmt: skip
        self.log = folder / "service.log"
        self.http = httpx.Client(base_url=f"http://127.0.0.1:{self.port}", timeout=60)
        self.start()

    def start(self) -> None:
        import httpx

        with self.log.open("ab") as output:
            command = [sys.executable, "-m", "job_service"]
            self.process = subprocess.Popen(
                command, env=self._environment, stdout=output, stderr=output
            )

        def ready() -> bool:
            assert self.process.poll() is None, self.log.read_text()
            with contextlib.suppress(httpx.TransportError):
                return self.http.get("/healthz").status_code == 200
            return False

        wait_for(ready, "ready service", 60, self.log.read_text)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def post(self, pre: str = "pre.json", **more: Any) -> str:
        answer = self.http.post(EXECUTION, json=request(pre, **more))
        assert answer.status_code == 201, answer.text
        assert answer.headers["location"].endswith(f"/jobs/{answer.json()['jobID']}")
        return answer.json()["jobID"]

    def job(self, job_id: str) -> dict[str, Any]:
        answer = self.http.get(f"/jobs/{job_id}")
        assert answer.status_code == 200, answer.text
        return answer.json()

    def until(self, job_id: str, what: str, condition: Callable[[dict[str, Any]], bool]) -> Any:
        def look() -> dict[str, Any] | None:
            job = self.job(job_id)
            if condition(job):
                return job
            assert job["status"] not in OVER, f"no {what}: {job}"
            return None

        return wait_for(look, what, 120, lambda: str(self.job(job_id)))

    def ended(self, job_id: str) -> dict[str, Any]:
        return self.until(job_id, "end of the job", lambda job: job["status"] in OVER)

    def in_progress(self, job_id: str) -> dict[str, Any]:
        """The command runs."""
        log = self.data / "jobs" / job_id / "log.txt"
        return self.until(
            job_id, "command", lambda job: log.is_file() and "Running " in log.read_text()
        )

    def end(self) -> None:
        self.http.close()
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(60)
            wait_for(lambda: not processes_with(self.marker), "end of all processes", 60)
        finally:
            for pid in processes_with(self.marker):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            self.process.wait()


@contextlib.contextmanager
def services(folder: Path, sample: Path) -> Iterator[Callable[..., Service]]:
    """Start services with settings and an environment, which end together.

    Who opens the item `blocked.json`, a pipe, waits until somebody writes into it.
    """
    with contextlib.ExitStack() as ends:

        def start(environment: dict[str, str] | None = None, **settings: Any) -> Service:
            service = Service(folder, environment or {}, **settings)
            ends.callback(service.end)
            for path in sample.iterdir():
                (service.inputs / path.name).hardlink_to(path)
            os.mkfifo(service.inputs / "blocked.json")
            return service

        yield start


@pytest.fixture
def start_service(tmp_path: Path, sample: Path) -> Iterator[Callable[..., Service]]:
    with services(tmp_path, sample) as start:
        yield start


@pytest.fixture(scope="session")
def job_cluster() -> Iterator[str]:
    """A cluster that is there: where it is not the clusters that a test is about, jobs share it."""
    from distributed import LocalCluster

    with LocalCluster(
        n_workers=2, threads_per_worker=2, dashboard_address=":0", silence_logs=50
    ) as cluster:
        yield cluster.scheduler_address
