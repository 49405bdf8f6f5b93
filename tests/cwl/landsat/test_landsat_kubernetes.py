"""The workflow's Kubernetes objects, and what Calrissian makes of the document."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.cwl import ROOT, Calrissian, load
from tests.support.images import LANDSAT
from tests.support.kubectl import kustomize
from tests.support.landsat import DOCUMENT, FOLDER

OBJECTS = ROOT / "k8s" / "landsat"


@pytest.fixture(scope="module")
def objects() -> dict[str, Any]:
    """The rendered objects by kind, config maps by the first file in them."""
    found = [*yaml.safe_load_all(kustomize(OBJECTS))]
    return {each["kind"] if "data" not in each else min(each["data"]): each for each in found}


def mounted(objects: dict[str, Any], path: str) -> dict[str, Any]:
    """The volume that the Job's container mounts there."""
    pod = objects["Job"]["spec"]["template"]["spec"]
    (mount,) = (m for m in pod["containers"][0]["volumeMounts"] if m["mountPath"] == path)
    return next(dict(volume) for volume in pod["volumes"] if volume["name"] == mount["name"])


def test_the_package_is_whole(objects: dict[str, Any]) -> None:
    """Every file of the document, as it is; mounted where the Job's arguments look for it."""
    package = objects["landsat.cwl"]
    assert package["data"] == {name: (FOLDER / name).read_text() for name in package["data"]}
    included = {line.split(": ")[-1].rstrip("}") for line in DOCUMENT.read_text().splitlines()
                if "$include" in line}  # fmt: skip
    assert set(package["data"]) == {"landsat.cwl", *included}
    assert mounted(objects, "/config/package")["configMap"]["name"] == package["metadata"]["name"]
    env = objects["pod-env.yml"]
    assert mounted(objects, "/config/env")["configMap"]["name"] == env["metadata"]["name"]
    # Each of them becomes a variable of a pod, which must be a text.
    variables = yaml.safe_load(env["data"]["pod-env.yml"])
    assert all(isinstance(value, str) for value in variables.values())
    claim = objects["PersistentVolumeClaim"]
    assert claim["spec"]["accessModes"] == ["ReadWriteMany"]
    volume = mounted(objects, "/calrissian")["persistentVolumeClaim"]
    assert volume["claimName"] == claim["metadata"]["name"]


def test_no_secret_is_published(objects: dict[str, Any]) -> None:
    """None is rendered; the example fits the Job, has all that the workflow wants, and no value."""
    assert set(objects) == {"landsat.cwl", "pod-env.yml", "PersistentVolumeClaim", "Job"}
    secret = yaml.safe_load((OBJECTS / "secret.example.yaml").read_text())
    volume = mounted(objects, "/config/inputs")["secret"]
    assert volume["secretName"] == secret["metadata"]["name"]
    inputs = yaml.safe_load(secret["stringData"]["inputs.yml"])
    workflow = next(p for p in load(DOCUMENT.read_text())["$graph"] if p["class"] == "Workflow")
    assert set(inputs) <= set(workflow["inputs"])
    wanted = {name for name, about in workflow["inputs"].items()
              if "default" not in about and not about["type"].endswith("?")}  # fmt: skip
    assert wanted <= set(inputs)
    assert {inputs[name] for name in inputs if name.startswith("aws_")} == {"REPLACE-ME"}


@pytest.mark.slow
def test_calrissian(calrissian: Calrissian, band: Path, tmp_path: Path) -> None:
    """Its pinned cwltool makes the three jobs; no secret is in what becomes a pod."""
    dataset = tmp_path / "x_downsampled"
    dataset.mkdir()
    inputs: dict[str, dict[str, Any]] = {
        "stage-in": {"url": "https://example.org/x.TIF"},
        "process": {"image": {"class": "File", "location": band.as_uri()}},
        "stage-out": {
            "dataset": {"class": "Directory", "location": dataset.as_uri()},
            "destination": "s3://maps/x", "aws_access_key_id": "s3cret-id",
            "aws_secret_access_key": "s3cret-key", "aws_session_token": "s3cret-token",
        },
    }  # fmt: skip
    made = calrissian.jobs(*((f"{DOCUMENT}#{step}", inputs[step]) for step in inputs))
    jobs = {step: job for step, (job,) in zip(inputs, made, strict=True)}
    assert {job["image"] for job in jobs.values()} == {LANDSAT}
    assert all(job["temporary"] == [75] for job in jobs.values())
    assert jobs["process"]["command"][:3] == ["dask-claim", "--", "papermill"]
    for name, step in (("stage_in.py", "stage-in"), ("process.ipynb", "process"),
                       ("stage_out.py", "stage-out")):  # fmt: skip
        assert jobs[step]["files"][name] == (FOLDER / name).read_text()
    assert jobs["stage-out"]["files"]["credentials"].count("(secret-") == 3
    assert "s3cret" not in json.dumps(made)
