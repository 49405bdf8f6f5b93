"""Jobs over HTTP: what they give, in which order, and what is refused."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import rasterio

from tests.support.job_service import Service, request
from tests.support.launcher import wait_for

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("job-service")]


def test_a_job_from_request_to_rasters(start_service: Callable[..., Service]) -> None:
    """On a local cluster of its own, with a scene that is missing and one that is none."""
    service = start_service(claim={"local_cores": 1, "max_workers": 1})
    (service.inputs / "broken.tif").write_text("no raster")
    paths = ("a.tif", "beside.tif", "no/such.tif", "broken.tif")
    job_id = service.post(*paths, resampling="average", keep_intermediate=True)
    with service.http.stream("GET", f"/jobs/{job_id}/log?follow=true") as answer:
        log = answer.read().decode()
    job = service.job(job_id)
    assert job["state"] == "done", job
    assert (job["progress"], job["exit_status"], job["receipt"]["gone"]) == (1, 0, True)
    assert {name: scene["state"] for name, scene in job["scenes"].items()} == {
        "s0": "done", "s1": "done", "s2": "missing", "s3": "failed"
    }  # fmt: skip
    assert "not recognized" in job["scenes"]["s3"]["detail"]
    # The stream lasted until the end, and the tail is its tail.
    assert "The local cluster stopped" in log and log.endswith(job["log_tail"])

    for name, left in (("s0", 0), ("s1", 25)):
        answer = service.http.get(f"/jobs/{job_id}/out/{name}")
        assert answer.headers["content-type"] == "image/tiff"
        with rasterio.MemoryFile(answer.content) as file, file.open() as raster:
            assert raster.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
            assert raster.crs == "EPSG:32633"
            assert raster.bounds == (500000, 4999000, 501000, 5000000)
            counts = raster.read(1)
        assert counts.shape == (50, 50)
        # The mean of rows 0 and 1, columns 0 and 1 of counts that grow by 1 and 100: 51.5.
        assert counts[0, left] in (51, 52)
        # GDAL's average gives a value to the pixel that only touches the scene's edge, too.
        assert (counts[:, : max(0, left - 1)] == 0).all() and (counts[:, left:] > 0).all()
    folder = service.data / "jobs" / job_id.replace("-", "")
    assert sorted(path.name for path in (folder / "work").iterdir()) == ["s0.tif", "s1.tif"]


def test_many_jobs_at_once(start_service: Callable[..., Service], job_cluster: str) -> None:
    """Never more than the limit, each started in the order it came, each with its own outcome."""
    service = start_service({"DASK_SCHEDULER_ADDRESS": job_cluster}, limit=3)
    ids = [service.post("a.tif" if number % 4 else "gone.tif") for number in range(8)]
    most = 0

    def all_over() -> bool:
        nonlocal most
        states = [job["state"] for job in service.http.get("/jobs").json()]
        most = max(most, states.count("running"))
        return not {"running", "queued"} & set(states)

    wait_for(all_over, "end of all jobs", 240, service.log.read_text)
    jobs = [service.job(job_id) for job_id in ids]
    assert most == 3
    assert [job["state"] for job in jobs] == ["failed", *["done"] * 3] * 2
    starts = [job["started"] for job in jobs]
    assert starts == sorted(starts)
    # Asked for by nobody, intermediate files are gone.
    assert not list(service.data.glob("jobs/*/work"))
    metrics = service.http.get("/metrics").text
    assert 'jobs{state="done"} 6.0' in metrics
    assert 'jobs_ended_total{state="failed"} 2.0' in metrics


@pytest.mark.parametrize(
    "name", ["../x", "..", ".hidden", "/etc/passwd", "a/b", "a\\b", "a\0", "a\n", "$(id)", "", "ä"]
)
def test_names_that_are_refused(name: str) -> None:
    from pydantic import ValidationError

    from examples.job_service.models import Scene

    with pytest.raises(ValidationError):
        Scene(name=name, path="a.tif")
    if name not in ("a/b", ".."):
        with pytest.raises(ValidationError):
            Scene(name="a", path=name)


def test_what_is_refused_and_what_leads_outside(
    start_service: Callable[..., Service], job_cluster: str, tmp_path: Path
) -> None:
    service = start_service({"DASK_SCHEDULER_ADDRESS": job_cluster})
    for wrong, what in (
        (request("../secret.tif"), "path"),
        (request("a.tif", grid={**request()["grid"], "resolution": 1e-9}), "pixels"),
        (request("a.tif", grid={**request()["grid"], "crs": "EPSG:999999"}), "not known"),
        (request("a.tif", resources={"max_workers": 1000}), "a job may have 8"),
        (request("a.tif", resources={"worker_memory": "much"}), "worker_memory"),
        (request("a.tif", resources={"gateway_url": "http://elsewhere"}), "gateway_url"),
        (request("a.tif") | {"scenes": [{"name": "s", "path": "a.tif"}] * 2}, "several"),
    ):
        answer = service.http.post("/jobs", json=wrong)
        assert answer.status_code == 422 and what in answer.text, answer.text
    assert service.http.get("/jobs").json() == []
    # A page elsewhere whose name leads here.
    assert service.http.get("/jobs", headers={"Host": "evil.example"}).status_code == 400

    (tmp_path / "secret.tif").write_bytes((service.inputs / "a.tif").read_bytes())
    (service.inputs / "link.tif").symlink_to(tmp_path / "secret.tif")
    (service.inputs / "names.vrt").write_text(
        '<VRTDataset rasterXSize="9" rasterYSize="9"><VRTRasterBand dataType="UInt16" band="1">'
        f"<SimpleSource><SourceFilename>{tmp_path}/secret.tif</SourceFilename></SimpleSource>"
        "</VRTRasterBand></VRTDataset>"
    )
    job = service.ended(service.post("link.tif", "names.vrt"))
    assert [scene["state"] for scene in job["scenes"].values()] == ["failed", "failed"]
    assert "outside" in job["scenes"]["s0"]["detail"]
    for path in ("out/..%2Frequest", "out/..%2F..%2F..%2Fservice", "out/s0", "out/other"):
        assert service.http.get(f"/jobs/{job['id']}/{path}").status_code == 404


@pytest.mark.deep
def test_the_service_keeps_to_its_own_schema(
    start_service: Callable[..., Service], job_cluster: str
) -> None:
    """Schemathesis, all checks but two.

    Rules between fields are in no schema, so 422 is right; and a cancelled job is still there. One
    job runs meanwhile, so that those that are made here only wait.
    """
    service = start_service({"DASK_SCHEDULER_ADDRESS": job_cluster}, limit=1)
    job_id = service.post("a.tif")
    service.ended(job_id)
    service.in_progress(service.post("blocked.tif"))
    (service.folder / "schemathesis.toml").write_text(
        f'[parameters]\n"path.job_id" = "{job_id}"\n"path.name" = "s0"\n'
    )
    program = Path(sys.executable).with_name("schemathesis")
    checked = subprocess.run(
        [program, "run", f"http://127.0.0.1:{service.port}/openapi.json", "--checks=all",
         "--exclude-checks=positive_data_acceptance,use_after_free",
         "--max-examples=8", "--seed=1",
         "--request-timeout=60", "--no-color"],
        capture_output=True, text=True, cwd=service.folder,
    )  # fmt: skip
    assert checked.returncode == 0, checked.stdout[-6000:] + checked.stderr[-2000:]
    assert service.http.get("/readyz").status_code == 200
    assert "Traceback" not in service.log.read_text()
