"""The same documents under every runner: the same results, and no cluster is left.

The Landsat workflow's own tests (tests/cwl/landsat) have its part of the table in docs/cwl.md.
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dask_claim.cwl.translate import translate
from tests.cwl.running import pixels, run
from tests.cwl.support import CWLTOOL, DOCUMENTS
from tests.cwl.test_cwl_container import with_user
from tests.support.gateway import GatewayServer

pytestmark = pytest.mark.slow

PUBLISHED = Path(__file__).parents[2] / "cwl" / "bai.cwl"
# The names of fixtures, which say what is tested side by side.
RUNNERS = ["cwltool", pytest.param("podman", marks=pytest.mark.container), "toil"]


class Runner:
    """Runs a document in a folder of its own; gives what it says of the outputs."""

    def __init__(self, name: str, request: pytest.FixtureRequest, folder: Path) -> None:
        self._folder = folder
        self._more: dict[str, str] = {}
        self._command: list[Any] = [CWLTOOL, "--no-container"]
        if name == "podman":
            self._more = with_user(request.getfixturevalue(name), "48213:39911", folder)
            self._command = [CWLTOOL, "--disable-pull", "--custom-net", "host"]
        elif name == "toil":
            bin_folder = request.getfixturevalue(name)
            # Behind this Python: the tool's `python` is the one that has Dask.
            path = [str(Path(CWLTOOL).parent), str(bin_folder), os.environ["PATH"]]
            self._more["PATH"] = os.pathsep.join(path)
            self._command = [bin_folder / "toil-cwl-runner", "--workDir", folder,
                             "--clean", "always", "--no-container"]  # fmt: skip

    def __call__(self, document: str, inputs: dict[str, Any]) -> dict[str, Any]:
        job = self._folder / "job.json"
        job.write_text(json.dumps(inputs))
        command = [*self._command, "--outdir", self._folder / "outputs", document, job]
        return run(command, self._folder, **self._more)


@pytest.fixture(params=RUNNERS)
def runner(request: pytest.FixtureRequest, tmp_path: Path) -> Runner:
    return Runner(request.param, request, tmp_path)


def translated(name: str, folder: Path, gateway_url: str | None = None) -> Path:
    path = folder / f"{name}.cwl"
    path.write_text(translate(DOCUMENTS / "run" / f"{name}.cwl", gateway_url=gateway_url))
    return path


def text(output: dict[str, Any]) -> str:
    return Path(output["path"]).read_text()


def test_the_published_package(runner: Runner, pair: Path, expected: np.ndarray) -> None:
    """The burned-area workflow; what it reads is on this machine, so is the cluster."""
    pair.chmod(0o755)
    inputs = {"items": {"class": "Directory", "location": pair.as_uri()}}
    outputs = runner(f"{PUBLISHED}#burned-area",
                     inputs | {"pre_event": "pre.json", "post_event": "post.json"})  # fmt: skip
    found = pixels(Path(outputs["burned_area"]["path"]) / "bai.tif")
    assert np.array_equal(found, expected, equal_nan=True)


def test_a_scatter(runner: Runner, gateway: GatewayServer, tmp_path: Path) -> None:
    """Each of its jobs has a cluster of its own, and gives it back."""
    path = translated("scatter", tmp_path, gateway.url)
    outputs = runner(str(path), {"numbers": [3, 7]})
    assert [text(each) for each in outputs["squares"]] == ["9\n", "49\n"]


def test_a_condition(runner: Runner, gateway: GatewayServer, tmp_path: Path) -> None:
    """What is not run claims nothing."""
    path = translated("conditional", tmp_path, gateway.url)
    outputs = runner(f"{path}#main", {"number": 7})
    assert text(outputs["large"]) == "49\n" and outputs["small"] is None


# What Calrissian does up to the point where a pod would start, for a whole workflow.
BUILD = """
import itertools, json, sys
from cwltool.context import LoadingContext, RuntimeContext
from cwltool.load_tool import load_tool
from calrissian.tool import CalrissianCommandLineTool, calrissian_make_tool
from cwltool.command_line_tool import CommandLineTool

context = LoadingContext()
context.construct_tool_object = calrissian_make_tool
# Its job class wants a Kubernetes to be there; the one below it builds the same command.
CalrissianCommandLineTool.make_job_runner = CommandLineTool.make_job_runner
workflow = load_tool("file://" + sys.argv[1], context)
jobs = workflow.job(json.load(open(sys.argv[2])), lambda *_: None, RuntimeContext())
print(json.dumps([
    {"command": job.command_line, "environment": job.environment,
     "temporary": job.temporaryFailCodes}
    # None: the others wait for the end of these.
    for job in itertools.takewhile(lambda job: job is not None, jobs)
    # The workflow itself is one, too.
    if hasattr(job, "command_line")
]))
"""


def test_calrissian(calrissian: Path, pair: Path, tmp_path: Path) -> None:
    """It makes the same jobs of the three: as many as there are, each with its claim."""
    url = "http://gateway.example.org"
    items = {"class": "Directory", "location": pair.as_uri()}
    bai = {"items": items, "pre_event": "pre.json", "post_event": "post.json"}
    for document, inputs, count, last in (
        (f"{PUBLISHED}#burned-area", bai, 1, "pre.json"),
        (str(translated("scatter", tmp_path, url)), {"numbers": [3, 7]}, 2, "7"),
        (f"{translated('conditional', tmp_path, url)}#main", {"number": 7}, 1, "7"),
    ):
        (tmp_path / "job.json").write_text(json.dumps(inputs))
        done = subprocess.run(
            [calrissian / "python", "-c", BUILD, document, "job.json"],
            cwd=tmp_path, capture_output=True, text=True, timeout=120,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        made = json.loads(done.stdout.splitlines()[-1])
        assert len(made) == count
        for job in made:
            assert job["command"][:2] == ["dask-claim", "--"] and job["temporary"] == [75]
            claim = json.loads(job["environment"]["DASK_CLAIM"])
            assert claim["worker_cores"] == 1 and claim["image"] == "dask-claim:0.1.0"
            operator = job["environment"].get("DASK_CLAIM_GATEWAY_URL")
            assert operator == (None if document.startswith(str(PUBLISHED)) else url)
        assert last in made[-1]["command"]
