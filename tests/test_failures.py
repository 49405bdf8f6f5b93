"""Failures as they appear in a terminal, and the words for how runs end: as documented."""

from __future__ import annotations

import re
import time
from pathlib import Path

import pytest

from dask_claim.errors import Reason
from dask_claim.providers.troubles import RANK
from tests.support.gateway import GatewayServer
from tests.support.launcher import PYTHON, Launcher, Running

DOCUMENT = (Path(__file__).parents[1] / "docs/failures.md").read_text()

FILLS = """
import time
from distributed import Client

def fill():
    held = []
    while True:
        held.append(bytearray(b"x") * 2**23)
        time.sleep(0.01)

Client().submit(fill).result()
"""
USES_A_PACKAGE = """
from distributed import Client
import burnscars
Client().submit(burnscars.area, 1).result()
"""


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A folder with a package that no cluster has."""
    (folder := tmp_path / "packages").mkdir()
    (folder / "burnscars.py").write_text("def area(scene):\n    return 1\n")
    return folder


def started(
    launcher: Launcher, gateway: GatewayServer, failing_gateway: GatewayServer, package: Path
) -> dict[str, Running]:
    """Runs that fail, by the headings of the document; they last side by side."""
    small = {"max_workers": 1, "worker_memory": "400M"}
    image = {"gateway_url": failing_gateway.url, "image": "site/dask:1"}
    job = {"SLURM_JOB_ID": "7", "SLURM_JOB_END_TIME": str(int(time.time()) + 45)}
    return {
        "A task outgrows its worker": launcher.start(
            PYTHON, "-c", FILLS, claim=small,
            env={"DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES": "1"},
        ),
        "The cluster lacks a module": launcher.start(
            PYTHON, "-c", USES_A_PACKAGE, claim={"gateway_url": gateway.url, "max_workers": 1},
            env={"PYTHONPATH": str(package)},
        ),
        "The gateway does not answer": launcher.start(
            "true", claim={"gateway_url": "http://127.0.0.1:1"}, flags=("--start-timeout", "20")
        ),
        "The image cannot start": launcher.start("true", claim=image),
        "The job's walltime ends": launcher.start(
            "sleep", "90", env=job, flags=("--grace", "5"), claim={"max_workers": 1}
        ),
    }  # fmt: skip


def normal(text: str) -> list[str]:
    """Lines without what differs from run to run, and without Dask's own."""
    text = re.sub(r"(?m)^\d{4}-\d\d-\d\d [\d:.]+ \| ", "", text)
    text = re.sub(r"\d+(\.\d+)?", "N", re.sub(r"[0-9a-f]{32}", "NAME", text))
    others = re.compile(r"dask-claim - N workers? up | - distributed\.")
    return [line for line in text.splitlines() if not others.search(line)]


def test_failures_appear_as_documented(
    launcher: Launcher, gateway: GatewayServer, failing_gateway: GatewayServer, package: Path
) -> None:
    runs = started(launcher, gateway, failing_gateway, package)
    for heading, run in [(heading, running.finish()) for heading, running in runs.items()]:
        (shown,) = re.findall(rf"## {heading}\n.*?```\n\$ .*?\n(.*?)```", DOCUMENT, re.DOTALL)
        lines = normal(run.err)
        *before, tail = re.split(r"(?m)^…\n", shown)
        for expected in before:
            for line in normal(expected):
                assert line in lines, (heading, line, run.err)
        expected = normal(tail)
        for line, real in zip(expected, lines[-len(expected) :], strict=True):
            begins = line.removesuffix(" …")
            assert real.startswith(begins) if begins != line else real == line, (heading, run.err)
        # The log's last word is the receipt's.
        reason = run.receipt["reason"]
        assert f"({reason})" in run.err and f"({reason})" in shown
        assert all(line in run.err for line in run.receipt["explanation"])


def test_the_document_has_every_reason() -> None:
    text = (Path(__file__).parents[1] / "docs/statuses.md").read_text()
    rows = dict(re.findall(r"^\| `(\w+)` \| ([\w ]+) \| .* \|$", text, re.MULTILINE))
    assert rows == {
        reason.value: "its own" if reason.exit_status is None else str(reason.exit_status)
        for reason in Reason
    }
    losses = re.findall(r"^\| `(\w+)` \| [^|]* \|$", text, re.MULTILINE)
    assert sorted(losses) == sorted(RANK)
    statuses = set(re.findall(r"^\| (\d+) \|", text, re.MULTILINE))
    assert statuses == {str(each.exit_status) for each in Reason if each.exit_status}
