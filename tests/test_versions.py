"""Versions of packages here and on the workers, compared by `versions: strict`."""

from __future__ import annotations

from pathlib import Path

import pytest

from dask_claim.providers.versions import SCHEDULER, WORKERS, differences, installed_versions
from tests.support.gateway import GatewayServer
from tests.support.launcher import Launcher
from tests.support.scenes import SMALL


def other_version(folder: Path, package: str = "cloudpickle", version: str = "0.0.1") -> str:
    """A folder that makes a package seem to be of another version where Python finds it first."""
    installed = folder / f"{package}-{version}.dist-info"
    installed.mkdir(parents=True)
    text = f"Metadata-Version: 2.1\nName: {package}\nVersion: {version}\n"
    (installed / "METADATA").write_text(text)
    return str(folder)


def test_differences_that_matter() -> None:
    here = {"python": "3.11", "dask": "2026.1.0", "numpy": "2.1.0", "msgpack": None}
    assert differences(here, {SCHEDULER: here, WORKERS: here}) == ""
    there = {"python": "3.12", "dask": "2026.1.0", "msgpack": "1.0"}
    assert differences(here, {SCHEDULER: there, WORKERS: there}) == (
        "different versions: python 3.11 here, 3.12 on the scheduler; python 3.11 here, 3.12 on "
        "the workers; numpy 2.1.0 here, none on the workers"
    )
    assert {"python", "dask", "distributed"} <= {k for k, v in installed_versions().items() if v}


@pytest.fixture
def other(tmp_path: Path) -> dict[str, str]:
    """The launcher finds another version than its scheduler has."""
    return {"PYTHONPATH": other_version(tmp_path / "other")}


@pytest.mark.parametrize("start", [pytest.param("ready", marks=pytest.mark.deep), "eager"])
def test_strict_ends_the_run(
    gateway: GatewayServer, launcher: Launcher, other: dict[str, str], start: str
) -> None:
    claim = {"gateway_url": gateway.url, "versions": "strict", **SMALL}
    command = ("sh", "-c", "echo started; exec sleep 60")
    run = launcher(*command, claim=claim, env=other, flags=("--start", start))
    assert (run.status, run.out) == (78, b"started\n" if start == "eager" else b"")
    assert "cloudpickle 0.0.1 here" in run.err and "versions: strict" in run.err
    assert run.receipt["gone"] is True


def test_a_scheduler_of_somebody_else_is_compared_too(
    scheduler: dict[str, str], launcher: Launcher, other: dict[str, str]
) -> None:
    for env, status in (({}, 0), (other, 78)):
        run = launcher("echo", "started", claim={"versions": "strict"}, env={**scheduler, **env})
        assert (run.status, run.receipt["warnings"]) == (status, []), run.err
        assert bool(run.out) is (status == 0)
