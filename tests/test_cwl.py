"""The CWL document: a real runner, on a local cluster and on a real gateway, makes the same map."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
import uuid
from functools import cache
from importlib.metadata import packages_distributions, requires
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import dask_claim
from tests.support.cwl import ROOT, Cwltool
from tests.support.gateway import clean_environment, free_port
from tests.support.launcher import PYTHON, processes_with, wait_for

DOCUMENT = ROOT / "cwl" / "bai.cwl"
PROCESS = f"{DOCUMENT}#burned-area"


@pytest.mark.slow
def test_faults_are_permanent_and_a_gateway_that_is_away_temporary(
    cwltool: Cwltool, tmp_path: Path
) -> None:
    """The operator's variables are passed on by name; nothing is written, nothing runs on."""
    (tmp_path / "items").mkdir()
    items = {"class": "Directory", "path": str(tmp_path / "items")}
    pair = {"items": items, "pre_event": "pre.json", "post_event": "post.json"}
    (tmp_path / "job.json").write_text(json.dumps(pair))
    away = {"DASK_CLAIM_GATEWAY_URL": f"http://127.0.0.1:{free_port()}"}
    for variables, status, words, kind in (
        ({"DASK_CLAIM_WORKER_CORES": "-1"}, 78, "DASK_CLAIM_WORKER_CORES", "permanent"),
        ({**away, "DASK_CLAIM_START_TIMEOUT": "1"}, 75, "was not ready", "temporary"),
    ):
        variables["TEST_RUN"] = mark = str(uuid.uuid4())
        ended = cwltool(
            "--no-container", *(f"--preserve-environment={name}" for name in variables),
            # The tool's own folder is looked at, which is its HOME, too: it is not cleaned up.
            "--leave-tmpdir", "--tmp-outdir-prefix", tmp_path / kind / "t",
            "--outdir", tmp_path / "out", PROCESS, tmp_path / "job.json",
            folder=tmp_path, **variables,
        )  # fmt: skip
        wait_for(lambda mark=mark: not processes_with(f"TEST_RUN={mark}"), "end of its processes")
        assert f"exited with status: {status}" in ended.err and words in ended.err
        assert f"Final process status is {kind}Fail" in ended.err
        assert ended.status == 1 and set(ended.outputs.values()) == {None}
        assert not [path for path in (tmp_path / kind).rglob("*") if path.is_file()]


READ_AND_IMPORT = """
import os
from dask_claim.claim.dask_config import gateway_of_dask
from dask_claim.imports import import_quietly
print(*(source for source, _ in gateway_of_dask(os.environ)))
import_quietly("dask_gateway")
"""


@pytest.mark.slow
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
    lasting = {reason.exit_status for reason in Reason} - {None, 75}
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


@cache
def brought(name: str, extra: str = "") -> frozenset[str]:
    """All that is installed with a distribution."""
    needed = [Requirement(text) for text in requires(name) or ()]
    given = {"extra": extra}
    direct = {each.name for each in needed if each.marker is None or each.marker.evaluate(given)}
    return frozenset(direct).union(*map(brought, direct))


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
