"""What goes wrong around a job: dismissed, killed, no room; and the page on which people see it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.gateway import GatewayServer
from tests.support.job_service import EXECUTION, Service
from tests.support.launcher import processes_with, wait_for
from tests.support.missing import CHROMIUM, need

pytestmark = pytest.mark.slow


def on(gateway: GatewayServer, **claim: object) -> dict[str, object]:
    return {"limit": 1, "claim": {"gateway_url": gateway.url, "max_workers": 1, **claim}}


def test_no_end_of_the_service_loses_a_job_or_a_cluster(
    gateway: GatewayServer, start_service: Callable[..., Service]
) -> None:
    """Without a lease, so that it is the launcher, or the next service, that ends the cluster.

    The operator's gateway gets the operator's credentials, a job no more workers than requested.
    """
    # The user whose clusters `gateway.clusters()` lists.
    user = {"DASK_GATEWAY__AUTH__TYPE": "basic", "DASK_GATEWAY__AUTH__KWARGS__USERNAME": "tester"}
    service = start_service(user, **on(gateway, max_workers=4, lease_timeout=0))
    first, second, third = (service.post("blocked.json", max_workers=most) for most in (2, 9, 1))
    early = service.http.get(f"/jobs/{first}/results")
    assert early.status_code == 404 and early.json()["type"].endswith("/result-not-ready")

    # SIGTERM ends a log that is followed, the job, and its cluster; what waits, waits.
    service.in_progress(first)
    with service.http.stream("GET", f"/jobs/{first}/log?follow=true") as answer:
        lines = answer.iter_lines()
        assert "claim" in next(lines)
        service.process.send_signal(signal.SIGTERM)
        assert [*lines]
    assert service.process.wait(60) in (0, -signal.SIGTERM)
    assert gateway.clusters() == []
    service.start()
    job = service.job(first)
    assert job["status"] == "failed" and "the service was stopped" in job["message"]
    receipt = job["receipt"]
    assert receipt["sources"]["gateway_url"] == "DASK_CLAIM_GATEWAY_URL"
    assert receipt["plan"]["max_workers"] == 2 and receipt["gone"]
    assert not [each for each in receipt["warnings"] if "credentials" in each]
    refused = service.http.get(f"/jobs/{first}/results")
    assert refused.status_code == 404 and refused.json()["type"].endswith("/job-results-failed")

    # SIGKILL: the launcher gives its cluster back.
    assert service.in_progress(second)["receipt"]["plan"]["max_workers"] == 4
    assert len(gateway.clusters()) == 1
    service.kill()
    wait_for(lambda: gateway.clusters() == [], "end of the cluster")
    service.start()
    job = service.ended(second)
    assert job["status"] == "failed" and job["receipt"]["gone"] is True
    assert "the service ended while it ran" in job["message"]

    # SIGKILL of launcher, guard and processor, too, all at the same moment: the next service does.
    service.in_progress(third)
    (cluster,) = gateway.clusters()
    processes = processes_with(service.marker)
    for signum in (signal.SIGSTOP, signal.SIGKILL):
        for pid in processes:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signum)
    service.process.wait()
    assert gateway.clusters() == [cluster]
    service.start()
    job = service.ended(third)
    assert job["status"] == "failed" and f"cluster {cluster} is gone" in job["message"]
    assert gateway.clusters() == []
    listed = service.http.get("/jobs").json()["jobs"]
    assert [job["jobID"] for job in listed] == [third, second, first]


def finished(service: Service) -> str:
    """A job of an earlier service, which is its folder and nothing else."""
    folder = service.data / "jobs" / str(uuid.uuid4())
    (folder / "out").mkdir(parents=True)
    (folder / "status.json").write_text(
        json.dumps({"status": "successful", "created": "2026-01-01T00:00:00+00:00"})
    )
    for name in ("catalog.json", "bai.tif"):
        (folder / "out" / name).write_text(f"this is {name}")
    return folder.name


def test_the_page_shows_and_dismisses(
    gateway: GatewayServer, start_service: Callable[..., Service], tmp_path: Path
) -> None:
    from playwright.sync_api import expect, sync_playwright

    need("Chromium")
    service = start_service(None, **on(gateway))
    done = finished(service)
    blocked, waiting = service.post("blocked.json"), service.post()
    service.in_progress(blocked)
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
        expect(row(waiting)).to_contain_text("accepted")
        expect(row(done)).to_contain_text("100 %")
        dashboard = row(blocked).get_by_role("link", name="dashboard").get_attribute("href")
        assert dashboard == f"{gateway.url}/clusters/{cluster}/status"
        with page.expect_download() as download:
            row(done).get_by_role("link", name="bai.tif").click()
        assert Path(download.value.path()).read_text() == "this is bai.tif"
        page.screenshot(path=shots / "running.png")
        # One that waits is dismissed at once, one that runs when its cluster is gone.
        row(waiting).get_by_role("button", name="Dismiss").click()
        expect(row(waiting)).to_contain_text("dismissed", timeout=30_000)
        row(blocked).get_by_role("button", name="Dismiss").click()
        expect(row(blocked)).to_contain_text("dismissed", timeout=60_000)
        page.screenshot(path=shots / "dismissed.png")
        browser.close()
    assert gateway.clusters() == []
    assert faults == []
    assert service.job(blocked)["receipt"]["gone"] is True


@pytest.mark.needs("root")
@pytest.mark.xdist_group("job-service")
def test_a_full_disk(
    start_service: Callable[..., Service], job_cluster: str, tmp_path: Path
) -> None:
    """A job that has no room is refused; how one ended that ran meanwhile is not forgotten."""
    data = tmp_path / "small"
    data.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", data], check=True)
    try:
        service = start_service({"DASK_SCHEDULER_ADDRESS": job_cluster}, data=data)
        running = service.post("blocked.json")
        job = service.in_progress(running)
        filler = data / "filler"
        with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
            while file.write(bytes(512)):
                pass
        # What is there can be read, nothing can be added.
        answer = service.http.post(EXECUTION, json={"inputs": job["request"]})
        assert answer.status_code == 507, answer.text
        assert [job["jobID"] for job in service.http.get("/jobs").json()["jobs"]] == [running]
        # Opened and closed again: the item is there, and empty.
        (service.inputs / "blocked.json").open("wb").close()
        wait_for(
            lambda: "to be tried again" in service.log.read_text(),
            "attempt to write down the end", 60, service.log.read_text,
        )  # fmt: skip
        assert service.job(running)["status"] == "running"
        filler.unlink()
        assert service.ended(running)["status"] == "failed"
        service.post()
        service.end()
    finally:
        subprocess.run(["umount", "--lazy", data], check=True)
