"""The CWL document: a real runner, on a local cluster and on a real gateway, makes the same map."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import sys
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import yaml

import dask_claim
from tests.support.gateway import GatewayServer, clean_environment
from tests.support.launcher import PYTHON, processes_with, wait_for

ROOT = Path(__file__).resolve().parent.parent
DOCUMENT = ROOT / "cwl" / "bai.cwl"
PROCESS = f"{DOCUMENT}#burned-area"
CWLTOOL = str(Path(sys.executable).with_name("cwltool"))
FILES = {
    "catalog.json", "bai.json", "bai.tif", "bai-severity.tif", "bai-severity.tif.aux.xml",
    "bai.png",
}  # fmt: skip
PIXELS = 256


@dataclass
class Ended:
    """A finished run of the runner."""

    status: int
    err: str
    outputs: dict[str, Any]
    folder: Path
    """Where the runner put what the document calls outputs."""

    written: set[str]
    """Every file that the tool wrote into its working directory, which is its HOME, too."""


class Runner:
    """Runs the document with cwltool, on the sample pair."""

    def __init__(self, folder: Path, sample: Path) -> None:
        self._folder = folder
        self._job = folder / "job.json"
        items = {"class": "Directory", "path": str(sample)}
        pair = {"items": items, "pre_event": "pre.json", "post_event": "post.json"}
        self._job.write_text(json.dumps(pair))

    def __call__(self, name: str, **variables: str) -> Ended:
        """Run it with an operator's `variables`, each passed on by name."""
        folder = self._folder / name
        marker = f"TEST_RUN={uuid.uuid4()}"
        variables |= dict([marker.split("=")])
        passed = [f"--preserve-environment={variable}" for variable in variables]
        run = subprocess.run(
            [
                CWLTOOL, "--no-container", *passed,
                "--outdir", folder / "out",
                # The tool's own folder is looked at, too, so nothing is moved away or cleaned up.
                "--copy-outputs", "--leave-tmpdir",
                "--tmpdir-prefix", folder / "tmp" / "t",
                "--tmp-outdir-prefix", folder / "tool" / "t",
                PROCESS, self._job,
            ],
            env=clean_environment(**variables),
            cwd=self._folder,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )  # fmt: skip
        wait_for(lambda: not processes_with(marker), "end of every process of this run")
        tool = folder / "tool"
        written = {str(path.relative_to(tool)) for path in tool.rglob("*") if path.is_file()}
        return Ended(
            run.returncode,
            run.stderr,
            json.loads(run.stdout),
            folder / "out",
            {path.partition("/")[2] for path in written},
        )


@pytest.fixture(scope="session")
def sample_pair(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sample pair, made by the command that the documents tell."""
    folder = tmp_path_factory.mktemp("cwl") / "sample"
    command = [PYTHON, "-m", "bai_example.sample", folder, "--size", str(PIXELS)]
    subprocess.run(command, env=clean_environment(), check=True, capture_output=True)
    return folder


@pytest.fixture
def cwltool(tmp_path: Path, sample_pair: Path) -> Runner:
    """Runs the document."""
    return Runner(tmp_path, sample_pair)


def pixels(run: Ended) -> np.ndarray:
    with rasterio.open(run.folder / "burned-area" / "bai.tif") as file:
        return file.read(1)


def test_same_map_on_a_local_cluster_and_on_a_gateway(
    cwltool: Runner, gateway: GatewayServer
) -> None:
    local = cwltool("local")
    remote = cwltool("gateway", DASK_CLAIM_GATEWAY_URL=gateway.url)
    for run in (local, remote):
        assert run.status == 0, run.err
        assert {path.name for path in (run.folder / "burned-area").iterdir()} == FILES
        assert run.written == {f"burned-area/{name}" for name in FILES}
        assert [output["basename"] for output in run.outputs.values()] == ["burned-area"]
        assert " stopped after " in run.err
    # The document's claim was heard, whoever fulfilled it; the runner granted the tool one core.
    assert "Adapting cluster: minimum=1, maximum=2" in remote.err
    assert "1 of 2 workers: it has 1 core (local_cores)" in local.err
    assert "from this machine (LocalCluster)" in local.err
    assert f"from the Dask Gateway at {gateway.url}" in remote.err
    assert pixels(local).shape == (PIXELS, PIXELS)
    assert np.isfinite(pixels(local)).any()
    assert np.array_equal(pixels(local), pixels(remote), equal_nan=True)


@pytest.mark.slow
def test_fault_in_the_claim_is_a_permanent_failure(cwltool: Runner) -> None:
    run = cwltool("fault", DASK_CLAIM_WORKER_CORES="-1")
    assert "exited with status: 78" in run.err
    assert "DASK_CLAIM_WORKER_CORES" in run.err
    assert "Final process status is permanentFail" in run.err
    assert (run.status, run.written) == (1, set())


@pytest.mark.slow
def test_unreachable_gateway_is_a_temporary_failure(cwltool: Runner) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and never listens
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        # It is asked until then.
        run = cwltool("unreachable", DASK_CLAIM_GATEWAY_URL=url, DASK_CLAIM_START_TIMEOUT="3")
    assert "exited with status: 75" in run.err
    assert "Final process status is temporaryFail" in run.err
    assert (run.status, run.written) == (1, set())
    assert set(run.outputs.values()) == {None}


@pytest.mark.slow
@pytest.mark.parametrize("job", [[], ["cwl/job-remote.yml"]], ids=["document", "remote job"])
def test_document_is_valid(job: list[str]) -> None:
    run = subprocess.run(
        [CWLTOOL, "--validate", PROCESS, *job],
        env=clean_environment(), cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    assert "is valid CWL" in run.stdout + run.stderr


READ_AND_IMPORT = """
import os
from dask_claim.claim.dask_config import said_by_dask
from dask_claim.providers.base import import_quietly
print(*(source for source, _ in said_by_dask(os.environ)))
import_quietly("dask_gateway")
"""


def test_nothing_is_written_where_the_tool_works(tmp_path: Path) -> None:
    """Its outputs are in HOME, where Dask's libraries would put their configuration."""
    variables = {"HOME": str(tmp_path), "DASK_GATEWAY__ADDRESS": "http://127.0.0.1:9"}
    environment = clean_environment(**variables)
    del environment["DASK_CONFIG"]
    command = [PYTHON, "-c", READ_AND_IMPORT]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert "gateway.address" in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_exit_statuses_are_those_of_the_launcher() -> None:
    from dask_claim.errors import ConfigurationError, DaskClaimError, TemporaryError, UsageError
    from dask_claim.launch.child import CommandNotExecutable, CommandNotFound
    from dask_claim.launch.launcher import LIFETIME_OVER

    tool = next(part for part in document()["$graph"] if part["class"] == "CommandLineTool")
    lasting = (
        UsageError, DaskClaimError, ConfigurationError, CommandNotExecutable, CommandNotFound
    )  # fmt: skip
    assert tool["temporaryFailCodes"] == [TemporaryError.exit_status]
    assert set(tool["permanentFailCodes"]) == {
        LIFETIME_OVER, *(error.exit_status for error in lasting)
    }  # fmt: skip


def test_versions_agree() -> None:
    assert document()["s:softwareVersion"] == dask_claim.__version__
    texts = [DOCUMENT.read_text(), (ROOT / "README.md").read_text()]
    tags = [tag for text in texts for tag in re.findall(r"dask-claim(?::|==)(\d[\w.-]*)", text)]
    assert tags
    assert set(tags) == {dask_claim.__version__}


def document() -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load(DOCUMENT.read_text())
    return content
