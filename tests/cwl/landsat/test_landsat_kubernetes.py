"""The workflow's Kubernetes objects, and what Calrissian makes of the document."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.cwl.landsat.conftest import DOCUMENT, FOLDER, IMAGE, ROOT
from tests.cwl.support import load
from tests.support.kubectl import kustomize

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


# What Calrissian does up to the point where a pod would start.
BUILD = """
import json, sys
from cwltool.context import LoadingContext, RuntimeContext
from cwltool.load_tool import load_tool
from cwltool.secrets import SecretStore
from calrissian.tool import CalrissianCommandLineTool, calrissian_make_tool
from cwltool.command_line_tool import CommandLineTool

# Its job class wants a Kubernetes to be there; the one below it builds the same command.
CalrissianCommandLineTool.make_job_runner = CommandLineTool.make_job_runner
context = LoadingContext()
context.construct_tool_object = calrissian_make_tool
made = {}
for name, inputs in json.load(open(sys.argv[2])).items():
    tool = load_tool(f"file://{sys.argv[1]}#{name}", context)
    runtime = RuntimeContext()
    runtime.secret_store = SecretStore()
    secrets, _ = tool.get_requirement("http://commonwl.org/cwltool#Secrets")
    if secrets:
        runtime.secret_store.store([s.rpartition("/")[2] for s in secrets["secrets"]], inputs)
    job = next(tool.job(inputs, None, runtime))
    made[name] = {
        "command": job.command_line,
        "environment": job.environment,
        "image": tool.get_requirement("DockerRequirement")[0]["dockerPull"],
        "files": {f["basename"]: f.get("contents") for f in job.generatefiles["listing"]},
        "temporary": job.temporaryFailCodes,
    }
print(json.dumps(made))
"""


@pytest.mark.slow
def test_calrissian(calrissian: Path, band: Path, tmp_path: Path) -> None:
    """Its pinned cwltool makes the three jobs; no secret is in what becomes a pod."""
    dataset = tmp_path / "x_downsampled"
    dataset.mkdir()
    inputs = {
        "stage-in": {"url": "https://example.org/x.TIF"},
        "process": {"image": {"class": "File", "location": band.as_uri()}},
        "stage-out": {
            "dataset": {"class": "Directory", "location": dataset.as_uri()},
            "destination": "s3://maps/x", "aws_access_key_id": "s3cret-id",
            "aws_secret_access_key": "s3cret-key", "aws_session_token": "s3cret-token",
        },
    }  # fmt: skip
    (tmp_path / "inputs.json").write_text(json.dumps(inputs))
    done = subprocess.run(
        [calrissian / "python", "-c", BUILD, DOCUMENT, tmp_path / "inputs.json"],
        cwd=tmp_path, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    made = json.loads(done.stdout.splitlines()[-1])
    assert {job["image"] for job in made.values()} == {IMAGE}
    assert all(job["temporary"] == [75] for job in made.values())
    assert made["process"]["command"][:3] == ["dask-claim", "--", "papermill"]
    for name, step in (("stage_in.py", "stage-in"), ("process.ipynb", "process"),
                       ("stage_out.py", "stage-out")):  # fmt: skip
        assert made[step]["files"][name] == (FOLDER / name).read_text()
    credentials = made["stage-out"]["files"]["credentials"]
    assert credentials.count("(secret-") == 3
    assert "s3cret" not in done.stdout
