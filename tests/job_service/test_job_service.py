"""Jobs over HTTP: what they give, in which order, and what is refused."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import rasterio

from tests.support.job_service import EXECUTION, Service, request
from tests.support.launcher import wait_for

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("job-service")]


def test_a_job_from_request_to_map(start_service: Callable[..., Service]) -> None:
    """On a local cluster of its own, by a published client of OGC API - Processes."""
    from owslib.ogcapi.processes import Processes

    service = start_service(claim={"local_cores": 1, "max_workers": 1})
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
    job = service.ended(job_id)
    assert (job["status"], job["progress"], job["receipt"]["gone"]) == ("successful", 100, True)
    assert job["request"]["index"] == "rbr" and job["created"] < job["started"] < job["finished"]
    written = (service.data / "jobs" / job_id / "progress.json").read_text()
    assert json.loads(written) == {"done": 1, "total": 1}
    assert "The local cluster stopped" in log  # the stream lasted until the end
    (results,) = (each["href"] for each in job["links"] if each["rel"].endswith("/results"))
    found = service.http.get(results).json()
    assert found["map"]["href"].endswith("/catalog.json")
    answer = service.http.get(found["bai.tif"]["href"])
    assert answer.headers["content-type"] == "image/tiff"
    with rasterio.MemoryFile(answer.content) as file, file.open() as raster:
        assert raster.crs == "EPSG:32629" and raster.read(1, masked=True).count()
    item = service.http.get(found["bai.json"]["href"]).json()
    assert Path(item["assets"]["bai"]["href"]).name == "bai.tif"
    links = {each["rel"].rpartition("/")[2]: each for each in service.http.get("/").json()["links"]}
    for rel in ("service-desc", "service-doc", "conformance", "processes", "job-list"):
        answer = service.http.get(links[rel]["href"])
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith(links[rel]["type"])


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
    refused = service.http.get(f"/jobs/{ids[0]}/results")
    assert refused.status_code == 404 and refused.json()["type"].endswith("/job-results-failed")
    newest = service.http.get("/jobs?limit=2").json()["jobs"]
    assert [job["jobID"] for job in newest] == ids[:-3:-1]


def test_what_is_refused_and_what_leads_outside(
    start_service: Callable[..., Service], job_cluster: str, tmp_path: Path
) -> None:
    service = start_service({"DASK_SCHEDULER_ADDRESS": job_cluster})
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
    # A form on a page elsewhere; a name that leads here.
    for kind in ("text/plain", ""):
        sent = {"content": json.dumps(request()), "headers": {"Content-Type": kind}}
        assert service.http.post(EXECUTION, **sent).status_code in (415, 422)
    nan = json.dumps(request(bbox=[0, 0, 1, 1])).replace("[0,", "[NaN,")
    sent = {"content": nan, "headers": {"Content-Type": "application/json"}}
    assert service.http.post(EXECUTION, **sent).status_code == 422
    assert service.http.get("/jobs", headers={"Host": "evil.example"}).status_code == 400
    assert service.http.get("/jobs").json()["jobs"] == []
    job_id = service.post("blocked.json", max_workers=100)
    service.in_progress(job_id)
    early = service.http.get(f"/jobs/{job_id}/results")
    assert early.status_code == 404 and early.json()["type"].endswith("/result-not-ready")
    for path in ("results/..%2Frequest.json", "results/..%2F..%2F..%2Fservice.yaml", "results/x"):
        assert service.http.get(f"/jobs/{job_id}/{path}").status_code == 404
    for name in ("00000000-0000-0000-0000-000000000000", "xyz", "..%2Fjobs"):
        nobody = service.http.get(f"/jobs/{name}")
        assert nobody.status_code == 404
    assert service.http.get("/jobs/xyz").json()["type"].endswith("/no-such-job")


@pytest.mark.deep
def test_the_service_keeps_to_its_own_schema(
    start_service: Callable[..., Service], job_cluster: str
) -> None:
    """Schemathesis, all checks but four.

    Which items there are is in no schema, so 422 is right; a dismissed job is still there;
    answers have more fields than the schema of a dictionary tells; and Starlette's `Allow` names
    the methods of one route, not all of a path.
    """
    service = start_service({"DASK_SCHEDULER_ADDRESS": job_cluster}, limit=1)
    job_id = service.post()
    service.ended(job_id)
    service.in_progress(service.post("blocked.json"))
    (service.folder / "schemathesis.toml").write_text(
        f'[parameters]\n"path.job_id" = "{job_id}"\n"path.name" = "bai.tif"\n'
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
