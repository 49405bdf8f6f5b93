"""Real runners, each on the same documents: the map is the same, whoever makes it."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dask_claim.cwl.translate import translate
from tests.cwl.running import CLAIMS, check_outputs, document, job, run
from tests.cwl.support import CWLTOOL, DOCUMENTS, validate
from tests.support.gateway import GatewayServer, clean_environment

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("spelling", CLAIMS)
@pytest.mark.parametrize("runner", ["cwltool", "toil"])
def test_same_map(
    runner: str,
    spelling: str,
    pair: Path,
    expected: np.ndarray,
    request: pytest.FixtureRequest,
    tmp_path: Path,
) -> None:
    outputs = tmp_path / "outputs"
    more = {}
    command: list[Any] = [CWLTOOL]
    if runner == "toil":
        folder = request.getfixturevalue("toil")
        # Behind this Python: the tool's `python` is the one that has the example.
        more["PATH"] = os.pathsep.join([str(Path(CWLTOOL).parent), str(folder), os.environ["PATH"]])
        command = [folder / "toil-cwl-runner", "--workDir", tmp_path, "--clean", "always"]
    command += ["--no-container", "--outdir", outputs]
    run([*command, document(tmp_path, spelling), job(tmp_path, pair)], tmp_path, **more)
    check_outputs(outputs, expected)


@pytest.mark.parametrize("cores", [1, 2])
def test_an_expression_changes_the_cluster(
    cores: int, gateway: GatewayServer, tmp_path: Path
) -> None:
    """One that the gateway really makes: its worker has as many threads as the job says."""
    path = tmp_path / "workers.cwl"
    path.write_text(translate(DOCUMENTS / "run" / "workers.cwl", gateway_url=gateway.url))
    command = [CWLTOOL, "--no-container", "--outdir", tmp_path / "outputs", path]
    run([*command, "--cores", cores, "--workers", 1], tmp_path)
    assert (tmp_path / "outputs" / "threads.txt").read_text() == f"{cores}\n"


def test_shell_command(tmp_path: Path) -> None:
    """Pipes, `cd` and all: every part of the line runs on the cluster."""
    command = [CWLTOOL, "--no-container", "--outdir", tmp_path / "outputs"]
    command += [DOCUMENTS / "good" / "shell.expected.cwl", "--words", "a b", "--words", "$c"]
    run(command, tmp_path)
    assert (tmp_path / "outputs" / "out.txt").read_text() == "tls://\na b|$c|"


def test_a_wrong_claim_is_a_permanent_failure(tmp_path: Path) -> None:
    """And a cluster that cannot be had now is a temporary one, so that a runner tries again."""
    text = (
        "cwlVersion: v1.2\nclass: CommandLineTool\nhints:\n  DaskGatewayRequirement:\n"
        "    max_workers: $(inputs.n)\n    gateway_url: http://127.0.0.1:9\n"
        "baseCommand: 'true'\ninputs: {n: int}\noutputs: []\n"
    )
    original, path = tmp_path / "original.cwl", tmp_path / "tool.cwl"
    original.write_text(text)
    path.write_text(translate(original))
    for n, words in ((-1, "permanentFail"), (1, "temporaryFail")):
        (tmp_path / "job.json").write_text(json.dumps({"n": n}))
        done = subprocess.run(
            [CWLTOOL, "--no-container", "--preserve-environment", "DASK_CLAIM_START_TIMEOUT",
             str(path), "job.json"],
            cwd=tmp_path, env=clean_environment(DASK_CLAIM_START_TIMEOUT="5"),
            capture_output=True, text=True, timeout=120,
        )  # fmt: skip
        assert f"completed {words}" in done.stderr


# What Calrissian does up to the point where a pod would start.
BUILD = """
import json, sys
from cwltool.context import LoadingContext, RuntimeContext
from cwltool.load_tool import load_tool
from calrissian.tool import CalrissianCommandLineTool, calrissian_make_tool
from cwltool.command_line_tool import CommandLineTool

context = LoadingContext()
context.construct_tool_object = calrissian_make_tool
tool = load_tool("file://" + sys.argv[1] + "#bai", context)
assert isinstance(tool, CalrissianCommandLineTool)
# Its job class wants a Kubernetes to be there; the one below it builds the same command.
CalrissianCommandLineTool.make_job_runner = CommandLineTool.make_job_runner
job = next(tool.job(json.load(open(sys.argv[2])), None, RuntimeContext()))
print(json.dumps({
    "command": job.command_line,
    "environment": job.environment,
    "image": tool.get_requirement("DockerRequirement")[0]["dockerPull"],
    "temporary": job.temporaryFailCodes,
    "permanent": job.permanentFailCodes,
}))
"""


@pytest.mark.parametrize("spelling", CLAIMS)
def test_calrissian(spelling: str, calrissian: Path, pair: Path, tmp_path: Path) -> None:
    """Its pinned cwltool validates the document, and makes the job that was meant."""
    path = document(tmp_path, spelling)
    validate(path, str(calrissian / "cwltool"))
    done = subprocess.run(
        [calrissian / "python", "-c", BUILD, path, job(tmp_path, pair)],
        cwd=tmp_path, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    made = json.loads(done.stdout.splitlines()[-1])
    assert made["command"][:5] == ["dask-claim", "--", "python", "-m", "bai_example"]
    claim = json.loads(made["environment"]["DASK_CLAIM"])
    assert claim["worker_cores"] == 1 and claim["worker_memory"] == "1 G"
    assert claim["max_cores"] == 2 and claim["image"] == made["image"] == "dask-claim:0.1.0"
    assert made["temporary"] == [75] and made["permanent"] == [64, 70, 78, 124, 126, 127]
