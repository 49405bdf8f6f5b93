"""Versions of packages here and on the workers: one warning, an error, or nothing."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from dask_claim.launch.versions import SCHEDULER, WORKERS, differences, versions_here
from tests.support.gateway import GatewayServer
from tests.support.launcher import ONE_TASK, PYTHON, Launcher


def other_version(folder: Path, package: str = "cloudpickle", version: str = "0.0.1") -> str:
    """A folder that makes a package seem to be of another version where Python finds it first."""
    installed = folder / f"{package}-{version}.dist-info"
    installed.mkdir(parents=True)
    text = f"Metadata-Version: 2.1\nName: {package}\nVersion: {version}\n"
    (installed / "METADATA").write_text(text)
    return str(folder)


def test_differences_that_matter() -> None:
    here = {"python": "3.11", "dask": "2026.1.0", "numpy": "2.1.0", "msgpack": None}
    assert differences(here, dict(here), WORKERS) == []
    there = {"python": "3.12", "dask": "2026.1.0", "msgpack": "1.0"}
    assert differences(here, there, WORKERS) == [
        "python 3.11 here, 3.12 on the workers",
        "numpy 2.1.0 here, none on the workers",
    ]
    assert differences(here, there, SCHEDULER) == ["python 3.11 here, 3.12 on the scheduler"]
    assert {"python", "dask", "distributed"} <= {k for k, v in versions_here().items() if v}


def test_one_warning_names_package_and_versions(
    gateway: GatewayServer, launcher: Launcher, tmp_path: Path
) -> None:
    env = {"PYTHONPATH": other_version(tmp_path / "other")}
    claim = {"gateway_url": gateway.url}
    run = launcher(PYTHON, "-c", ONE_TASK, claim=claim, env=env, flags=("--start", "workers"))
    assert run.status == 0 and run.receipt
    found = [text for text in run.receipt["warnings"] if "different versions" in text]
    assert len(found) == 1
    assert re.search(r"cloudpickle 0\.0\.1 here, \d+\.\d+\S* on the scheduler", found[0])


@pytest.mark.parametrize("start", ["ready", "eager"])
def test_strict_ends_the_run(
    gateway: GatewayServer, launcher: Launcher, tmp_path: Path, start: str
) -> None:
    env = {"PYTHONPATH": other_version(tmp_path / "other")}
    claim = {"gateway_url": gateway.url, "versions": "strict"}
    command = ("sh", "-c", "echo started; exec sleep 60")
    run = launcher(*command, claim=claim, env=env, flags=("--start", start))
    assert run.status == 78
    assert (run.out == b"started\n") is (start == "eager")
    assert "cloudpickle 0.0.1 here" in run.err and "versions: strict" in run.err
    assert run.receipt and run.receipt["gone"] is True


def test_same_versions_and_ignored_ones_are_not_told(
    gateway: GatewayServer, launcher: Launcher, tmp_path: Path
) -> None:
    same = launcher("true", claim={"gateway_url": gateway.url, "versions": "strict"})
    assert same.status == 0 and "different versions" not in same.err
    env = {"PYTHONPATH": other_version(tmp_path / "other")}
    claim = {"gateway_url": gateway.url, "versions": "ignore"}
    run = launcher(PYTHON, "-c", ONE_TASK, claim=claim, env=env)
    assert run.status == 0 and "different versions" not in run.err
