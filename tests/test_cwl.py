"""The CWL document: a real runner, on a local cluster and on a real gateway, makes the same map."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib.metadata import packages_distributions, requires
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import dask_claim
from tests.support.cwl import BIN, ROOT, Cwltool, Done, run
from tests.support.gateway import GatewayServer, clean_environment, free_port
from tests.support.launcher import PYTHON, processes_with, wait_for

DOCUMENT = ROOT / "cwl" / "bai.cwl"
PROCESS = f"{DOCUMENT}#burned-area"
FILES = {
    "catalog.json", "bai.json", "bai.tif", "bai-severity.tif", "bai-severity.tif.aux.xml",
    "bai.png",
}  # fmt: skip
PIXELS = 256


@dataclass
class Ended(Done):
    folder: Path
    """Where the runner put what the document calls outputs."""

    written: set[str]
    """Every file that the tool wrote into its working directory, which is its HOME, too."""


@pytest.fixture(scope="session")
def sample_pair(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sample pair, made by the command that the documents tell."""
    folder = tmp_path_factory.mktemp("cwl") / "sample"
    command = [PYTHON, "-m", "bai_example.sample", folder, "--size", str(PIXELS)]
    subprocess.run(command, env=clean_environment(), check=True, capture_output=True)
    return folder


def run_document(
    runner: Callable[..., Done], sample: Path, folder: Path, **variables: str
) -> Ended:
    """Run it on the sample pair with an operator's `variables`, each passed on by name."""
    folder.mkdir()
    items = {"class": "Directory", "path": str(sample)}
    pair = {"items": items, "pre_event": "pre.json", "post_event": "post.json"}
    (folder / "job.json").write_text(json.dumps(pair))
    variables["TEST_RUN"] = str(uuid.uuid4())
    done = runner(
        "--no-container", *(f"--preserve-environment={name}" for name in variables),
        "--outdir", folder / "out",
        # The tool's own folder is looked at, too, so nothing is moved away or cleaned up.
        "--copy-outputs", "--leave-tmpdir",
        "--tmpdir-prefix", folder / "tmp" / "t", "--tmp-outdir-prefix", folder / "tool" / "t",
        PROCESS, folder / "job.json", folder=folder, **variables,
    )  # fmt: skip
    marker = f"TEST_RUN={variables['TEST_RUN']}"
    wait_for(lambda: not processes_with(marker), "end of every process of this run")
    paths = (folder / "tool").rglob("*")
    written = {str(path.relative_to(folder / "tool")) for path in paths if path.is_file()}
    written = {path.partition("/")[2] for path in written}
    return Ended(done.status, done.out, done.err, folder / "out", written)


def pixels(run: Ended) -> np.ndarray:
    import rasterio

    with rasterio.open(run.folder / "burned-area" / "bai.tif") as file:
        return file.read(1)


@pytest.mark.deep
def test_same_map_on_a_local_cluster_and_on_a_gateway(
    sample_pair: Path, gateway: GatewayServer, tmp_path: Path
) -> None:
    command = partial(run, BIN / "cwltool")
    local = run_document(command, sample_pair, tmp_path / "local")
    url = {"DASK_CLAIM_GATEWAY_URL": gateway.url}
    remote = run_document(command, sample_pair, tmp_path / "gateway", **url)
    for ended in (local, remote):
        assert ended.status == 0, ended.err
        assert {path.name for path in (ended.folder / "burned-area").iterdir()} == FILES
        assert ended.written == {f"burned-area/{name}" for name in FILES}
        assert [output["basename"] for output in ended.outputs.values()] == ["burned-area"]
        assert " stopped after " in ended.err
    # The document's claim was heard, whoever fulfilled it; the runner granted the tool one core.
    assert "Adapting cluster: minimum=1, maximum=2" in remote.err
    assert "1 of 2 workers: it has 1 core (local_cores)" in local.err
    assert "from this machine (LocalCluster)" in local.err
    assert f"from the Dask Gateway at {gateway.url}" in remote.err
    assert pixels(local).shape == (PIXELS, PIXELS)
    assert np.isfinite(pixels(local)).any()
    assert np.array_equal(pixels(local), pixels(remote), equal_nan=True)


@pytest.mark.slow
def test_faults_are_permanent_and_a_gateway_that_is_away_temporary(
    cwltool: Cwltool, sample_pair: Path, tmp_path: Path
) -> None:
    away = {"DASK_CLAIM_GATEWAY_URL": f"http://127.0.0.1:{free_port()}"}
    for name, variables, status, words, kind in (
        ("fault", {"DASK_CLAIM_WORKER_CORES": "-1"}, 78, "DASK_CLAIM_WORKER_CORES", "permanent"),
        ("away", {**away, "DASK_CLAIM_START_TIMEOUT": "1"}, 75, "was not ready", "temporary"),
    ):
        ended = run_document(cwltool, sample_pair, tmp_path / name, **variables)
        assert f"exited with status: {status}" in ended.err and words in ended.err
        assert f"Final process status is {kind}Fail" in ended.err
        assert (ended.status, ended.written) == (1, set())
        assert set(ended.outputs.values()) == {None}


@pytest.mark.slow
def test_document_is_valid(cwltool: Cwltool) -> None:
    for job in ([], ["cwl/job-remote.yml"]):
        done = cwltool("--validate", PROCESS, *job, folder=ROOT)
        assert done.status == 0 and "is valid CWL" in done.out + done.err, done.err


READ_AND_IMPORT = """
import os
from dask_claim.claim.dask_config import gateway_of_dask
from dask_claim.providers.base import import_quietly
print(*(source for source, _ in gateway_of_dask(os.environ)))
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
    from dask_claim.errors import Reason

    tool = next(part for part in document()["$graph"] if part["class"] == "CommandLineTool")
    lasting = {reason.exit_status for reason in Reason if not reason.temporary} - {None}
    assert tool["temporaryFailCodes"] == [75]
    assert set(tool["permanentFailCodes"]) == lasting


def test_versions_agree() -> None:
    assert document()["s:softwareVersion"] == dask_claim.__version__
    texts = [DOCUMENT.read_text(), (ROOT / "README.md").read_text()]
    tags = [tag for text in texts for tag in re.findall(r"dask-claim(?::|==)(\d[\w.-]*)", text)]
    assert tags
    assert set(tags) == {dask_claim.__version__}


def document() -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load(DOCUMENT.read_text())
    return content


def brought(name: str, extra: str = "") -> set[str]:
    """All that is installed with a distribution."""
    needed = [Requirement(text) for text in requires(name) or ()]
    given = {"extra": extra}
    direct = {each.name for each in needed if each.marker is None or each.marker.evaluate(given)}
    return direct.union(*map(brought, direct))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("folder", "extras"),
    [
        ("cwl/landsat", ["landsat"]),
        ("bai_example", ["bai", "s3", "planetary-computer"]),
        ("examples/job_service", ["job-service"]),
    ],
)
def test_extras_bring_what_is_imported(folder: str, extras: list[str]) -> None:
    """The tests' image has one environment for all, which would not tell."""
    cells = [
        "".join(cell["source"])
        for path in (ROOT / folder).glob("*.ipynb")
        for cell in json.loads(path.read_text())["cells"]
        if cell["cell_type"] == "code"
    ]
    programs = [path.read_text() for path in (ROOT / folder).rglob("*.py")]
    imported = set()
    for node in (node for text in [*cells, *programs] for node in ast.walk(ast.parse(text))):
        if isinstance(node, ast.Import):
            imported |= {name.name.partition(".")[0] for name in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            imported.add(str(node.module).partition(".")[0])
    imported -= {"bai_example", "dask_claim", "job_service", *sys.stdlib_module_names}
    there = {canonicalize_name(name) for extra in extras for name in brought("dask-claim", extra)}
    owners = packages_distributions()
    assert imported
    assert [n for n in imported if not {*map(canonicalize_name, owners[n])} & there] == []
