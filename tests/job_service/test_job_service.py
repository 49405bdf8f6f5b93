"""Jobs over HTTP: what they give, in which order, and what is refused."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import rasterio

from tests.support.job_service import EXECUTION, Service, request, services
from tests.support.launcher import wait_for

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("job-service")]


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory, sample: Path) -> Iterator[Service]:
    """With jobs on local clusters of their own."""
    with services(tmp_path_factory.mktemp("service"), sample) as start:
        yield start(claim={"local_cores": 1, "max_workers": 1})


@pytest.fixture(scope="module")
def job(service: Service) -> dict[str, Any]:
    """One job, from its request by a published client of OGC API - Processes to its map."""
    from owslib.ogcapi.processes import Processes

    client = Processes(f"http://127.0.0.1:{service.port}/")
    assert f"{client.conformance()['conformsTo'][0]}".endswith("/conf/core")
    (process,) = client.processes()
    assert process["jobControlOptions"] == ["async-execute", "dismiss"]
    inputs = client.process(process["id"])["inputs"]
    assert {name for name, about in inputs.items() if about["minOccurs"]} == {
        "pre_event", "post_event"
    }  # fmt: skip
    wanted = {**request()["inputs"], "index": "rbr", "bbox": [-8.3, 39.0, -8.2, 41.0]}
    job_id = client.execute(process["id"], wanted, async_=True)["jobID"]
    with service.http.stream("GET", f"/jobs/{job_id}/log?follow=true") as answer:
        log = answer.read().decode()
    assert "The local cluster stopped" in log  # the stream lasted until the end
    return service.ended(job_id)


def test_a_job_from_request_to_map(service: Service, job: dict[str, Any]) -> None:
    assert (job["status"], job["progress"], job["receipt"]["gone"]) == ("successful", 100, True)
    assert job["request"]["index"] == "rbr" and job["created"] < job["started"] < job["finished"]
    written = (service.data / "jobs" / job["jobID"] / "progress.json").read_text()
    assert json.loads(written) == {"done": 1, "total": 1}
    (results,) = (each["href"] for each in job["links"] if each["rel"].endswith("/results"))
    found = service.http.get(results).json()
    assert found["map"]["href"].endswith("/catalog.json")
    answer = service.http.get(found["bai.tif"]["href"])
    assert answer.headers["content-type"] == "image/tiff"
    with rasterio.MemoryFile(answer.content) as file, file.open() as raster:
        assert raster.crs == "EPSG:32629" and raster.read(1, masked=True).count()
    item = service.http.get(found["bai.json"]["href"]).json()
    assert Path(item["assets"]["bai"]["href"]).name == "bai.tif"


def test_links(service: Service) -> None:
    links = {each["rel"].rpartition("/")[2]: each for each in service.http.get("/").json()["links"]}
    for rel in ("service-desc", "service-doc", "conformance", "processes", "job-list"):
        answer = service.http.get(links[rel]["href"])
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith(links[rel]["type"])


def test_refused(service: Service, tmp_path: Path) -> None:
    before = service.http.get("/jobs").json()["jobs"]
    (tmp_path / "secret.json").write_text("{}")
    (service.inputs / "link.json").symlink_to(tmp_path / "secret.json")
    names = ["../secret.json", "..", ".hidden", "/etc/passwd", "a\\b", "a\0", "a\n", "$(id)", ""]
    for wrong, what in (
        *((request(name), "pre_event") for name in names),
        (request("link.json"), "no such items"),
        (request("missing.json"), "no such items: missing.json"),
        (request(["--overwrite"]), "pre_event"),
        (request("a" * 300), "pre_event"),
        (request(index="sqrt"), "index"),
        (request(max_workers=0), "max_workers"),
        (request(bbox=[1, 2, 3]), "bbox"),
        (request(gateway_url="http://elsewhere"), "gateway_url"),
        ({}, "inputs"),
    ):
        answer = service.http.post(EXECUTION, json=wrong)
        assert answer.status_code == 422 and what in answer.json()["detail"], answer.text
    nan = json.dumps(request(bbox=[0, 0, 1, 1])).replace("[0,", "[NaN,")
    for content, kind, statuses in (
        # A form on a page elsewhere.
        (json.dumps(request()), "text/plain", (415, 422)),
        (json.dumps(request()), "", (415, 422)),
        (nan, "application/json", (422,)),
    ):
        sent = {"content": content, "headers": {"Content-Type": kind}}
        assert service.http.post(EXECUTION, **sent).status_code in statuses
    # A name of another site that leads here.
    assert service.http.get("/jobs", headers={"Host": "evil.example"}).status_code == 400
    assert service.http.get("/jobs").json()["jobs"] == before


def test_what_leads_outside(service: Service, job: dict[str, Any]) -> None:
    at = f"/jobs/{job['jobID']}/results"
    for path in (
        *(f"{at}/..%2Frequest.json", f"{at}/..%2F..%2F..%2Fservice.yaml", f"{at}/x"),
        *("/jobs/00000000-0000-0000-0000-000000000000", "/jobs/xyz", "/jobs/..%2Fjobs"),
    ):
        assert service.http.get(path).status_code == 404
    assert service.http.get("/jobs/xyz").json()["type"].endswith("/no-such-job")


@pytest.mark.deep
def test_many_jobs_at_once(start_service: Callable[..., Service], job_cluster: str) -> None:
    """Never more than the limit, each started in the order it came, each with its own outcome."""
    service = start_service({"DASK_SCHEDULER_ADDRESS": job_cluster}, limit=2)
    (service.inputs / "wrong.json").write_text("{}")
    ids = [service.post() if number % 3 else service.post("wrong.json") for number in range(4)]
    most = 0

    def all_over() -> bool:
        nonlocal most
        states = [job["status"] for job in service.http.get("/jobs").json()["jobs"]]
        most = max(most, states.count("running"))
        return not {"running", "accepted"} & set(states)

    wait_for(all_over, "end of all jobs", 240, service.log.read_text)
    jobs = [service.job(job_id) for job_id in ids]
    assert most == 2
    assert [job["status"] for job in jobs] == ["failed", *["successful"] * 2, "failed"]
    starts = [job["started"] for job in jobs]
    assert starts == sorted(starts)
    assert "status 1" in jobs[0]["message"]
    newest = service.http.get("/jobs?limit=2").json()["jobs"]
    assert [job["jobID"] for job in newest] == ids[:-3:-1]


@pytest.mark.deep
def test_the_service_keeps_to_its_own_schema(service: Service, job: dict[str, Any]) -> None:
    """Schemathesis, all checks but four.

    Which items there are is in no schema, so 422 is right; a dismissed job is still there;
    answers have more fields than the schema of a dictionary tells; and Starlette's `Allow` names
    the methods of one route, not all of a path.
    """
    for _ in range(2):  # which leaves no room for the jobs that it posts
        service.post("blocked.json")
    (service.folder / "schemathesis.toml").write_text(
        f'[parameters]\n"path.job_id" = "{job["jobID"]}"\n"path.name" = "bai.tif"\n'
    )
    program = Path(sys.executable).with_name("schemathesis")
    checked = subprocess.run(
        [program, "run", f"http://127.0.0.1:{service.port}/openapi.json", "--checks=all",
         "--exclude-checks=positive_data_acceptance,use_after_free,status_code_conformance,"
         "allow_header_conformance",
         "--max-examples=8", "--seed=1", "--request-timeout=60", "--no-color"],
        capture_output=True, text=True, cwd=service.folder,
    )  # fmt: skip
    assert checked.returncode == 0, checked.stdout[-6000:] + checked.stderr[-2000:]
    assert service.http.get("/healthz").status_code == 200
    assert "Traceback" not in service.log.read_text()
