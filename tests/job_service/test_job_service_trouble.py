"""What goes wrong around a job: cancelled, killed, no room; and the page on which people see it."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.gateway import GatewayServer, free_port
from tests.support.job_service import Service
from tests.support.launcher import processes_with, wait_for
from tests.support.missing import CHROMIUM, need

pytestmark = pytest.mark.slow


def on(gateway: GatewayServer, **claim: object) -> dict[str, object]:
    return {"limit": 1, "claim": {"gateway_url": gateway.url, "max_workers": 1, **claim}}


@pytest.fixture
def postgresql(tmp_path: Path) -> Iterator[str]:
    """The URL of a PostgreSQL server of this test's own, on loopback."""
    need("PostgreSQL")
    programs = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    # It refuses to be root.
    user = ["setpriv", "--reuid=nobody", "--clear-groups"] if os.getuid() == 0 else []
    port, folder = free_port(), Path(tempfile.mkdtemp(prefix="postgresql-"))
    data, log = folder / "data", folder / "log.txt"
    if user:
        shutil.chown(folder, "nobody")
    initdb = [programs[-1] / "initdb", "--username=jobs", "--auth=trust", "--no-sync", "-D", data]
    subprocess.run([*user, *initdb], check=True, capture_output=True)
    settings = ["-F", "-c", "listen_addresses=127.0.0.1", "-c", f"unix_socket_directories={folder}"]
    command = [*user, programs[-1] / "postgres", "-D", data, "-p", str(port), *settings]
    with log.open("wb") as output:
        server = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
    try:
        ready = [programs[-1] / "pg_isready", "-q", "-h", "127.0.0.1", "-p", str(port)]
        wait_for(lambda: subprocess.run(ready).returncode == 0, "server", 60, log.read_text)
        yield f"postgresql+psycopg://jobs:secret-of-jobs@127.0.0.1:{port}/postgres"
    finally:
        server.send_signal(signal.SIGINT)
        server.wait(30)
        shutil.rmtree(folder)


@pytest.mark.parametrize("everything", [False, True], ids=["service", "whole container"])
def test_a_killed_service_loses_no_job_and_no_cluster(
    everything: bool, gateway: GatewayServer, start_service: Callable[..., Service],
    request: pytest.FixtureRequest,
) -> None:  # fmt: skip
    """Without a lease, so that it is the launcher, or the next service, that ends the cluster.

    The service alone with PostgreSQL, whose password no job sees, the container with SQLite.
    """
    url = {} if everything else {"JOBS_DATABASE": request.getfixturevalue("postgresql")}
    service = start_service(url, **on(gateway, lease_timeout=0))
    first, second = service.post("blocked.tif"), service.post("a.tif")
    service.in_progress(first)
    (cluster,) = gateway.clusters()
    # Launcher, guard and processor, too.
    processes = processes_with(service.marker)
    if everything:
        # All at the same moment.
        for signum in (signal.SIGSTOP, signal.SIGKILL):
            for pid in processes:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signum)
        service.process.wait()
        assert gateway.clusters() == [cluster]
    else:
        for pid in {*processes} - {service.process.pid}:
            assert b"secret-of-jobs" not in Path(f"/proc/{pid}/environ").read_bytes()
        service.kill()
        wait_for(lambda: gateway.clusters() == [], "end of the cluster", 60)
    service.start()
    assert service.job(second)["state"] in ("queued", "running")
    job = service.ended(first)
    assert job["state"] == "interrupted"
    assert "the service ended while it ran" in job["detail"]
    if everything:
        assert f"cluster {cluster} is gone" in job["detail"]
    else:
        assert job["receipt"]["gone"] is True
    assert cluster not in gateway.clusters()
    assert service.ended(second)["state"] == "done"
    assert [job["id"] for job in service.http.get("/jobs").json()] == [second, first]
    assert bool(list(service.data.glob("*.sqlite"))) == everything


def test_the_page_shows_and_cancels(
    gateway: GatewayServer, start_service: Callable[..., Service], tmp_path: Path
) -> None:
    from playwright.sync_api import expect, sync_playwright

    need("Chromium")
    service = start_service(None, **on(gateway))
    done = service.post("a.tif", "gone.tif")
    blocked, queued = service.post("a.tif", "blocked.tif"), service.post("a.tif")
    service.ended(done)
    service.until(blocked, "half of the scenes", lambda job: job["progress"] == 0.5)
    (cluster,) = gateway.clusters()
    shots = Path(os.environ.get("JOB_SERVICE_SCREENSHOTS", tmp_path))
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1100, "height": 420})
        faults: list[str] = []
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("console", lambda line: line.type == "error" and faults.append(line.text))
        page.goto(f"http://127.0.0.1:{service.port}/")

        def row(job_id: str):
            return page.locator("tr", has=page.locator(f"code[title='{job_id}']"))

        expect(row(blocked)).to_contain_text("running", timeout=30_000)
        expect(row(blocked)).to_contain_text("50 %")
        expect(row(queued)).to_contain_text("queued")
        expect(row(done)).to_contain_text("s1: missing")
        dashboard = row(blocked).get_by_role("link", name="dashboard").get_attribute("href")
        assert dashboard == f"{gateway.url}/clusters/{cluster}/status"
        with page.expect_download() as download:
            row(done).get_by_role("link", name="s0.tif").click()
        assert Path(download.value.path()).read_bytes()[:2] == b"II"
        page.screenshot(path=shots / "running.png")
        # One that waits is cancelled at once, one that runs when its cluster is gone.
        row(queued).get_by_role("button", name="Cancel").click()
        expect(row(queued)).to_contain_text("cancelled while queued", timeout=30_000)
        row(blocked).get_by_role("button", name="Cancel").click()
        expect(row(blocked)).to_contain_text("cancelled while running", timeout=60_000)
        page.screenshot(path=shots / "cancelled.png")
        browser.close()
    assert gateway.clusters() == []
    assert faults == []
    assert service.job(blocked)["receipt"]["gone"] is True


@pytest.mark.needs("root")
@pytest.mark.xdist_group("job-service")
def test_a_full_disk(
    start_service: Callable[..., Service], job_cluster: str, tmp_path: Path
) -> None:
    """A job that has no room is refused; one that ran to its end meanwhile is not forgotten."""
    data = tmp_path / "small"
    data.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", data], check=True)
    try:
        service = start_service({"DASK_SCHEDULER_ADDRESS": job_cluster}, data=str(data))
        running = service.post("blocked.tif")
        service.in_progress(running)
        filler = data / "filler"
        with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
            while file.write(bytes(512)):
                pass
        # What is there can be read, nothing can be added.
        answer = service.http.post("/jobs", json=service.job(running)["request"])
        assert answer.status_code == 507, answer.text
        assert [job["id"] for job in service.http.get("/jobs").json()] == [running]
        # Opened and closed again: the scene is there, and empty.
        (service.inputs / "blocked.tif").open("wb").close()
        wait_for(
            lambda: "to be tried again" in service.log.read_text(),
            "attempt to write down the end", 60, service.log.read_text,
        )  # fmt: skip
        assert service.job(running)["state"] == "running"
        filler.unlink()
        assert service.ended(running)["state"] == "failed"
        assert service.ended(service.post("a.tif"))["state"] == "done"
        service.end()
    finally:
        subprocess.run(["umount", "--lazy", data], check=True)
