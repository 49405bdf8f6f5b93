"""Whether the command's own Python can connect, which is told before it starts."""

from __future__ import annotations

import os
import sys
import venv
from pathlib import Path

import pytest

from dask_claim.launch.command import cannot_connect, interpreter_of
from tests.support.gateway import GatewayServer
from tests.support.launcher import PYTHON, Launcher


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Python of another environment, without packages."""
    folder = tmp_path_factory.mktemp("other")
    venv.create(folder, with_pip=False, symlinks=True)
    return folder / "bin" / "python"


@pytest.mark.parametrize(
    ("packages", "missing"),
    [
        ((), None),
        (("dask_claim", "dask_gateway"), None),
        (("distributed",), "no dask_claim and no dask_gateway"),
        (("distributed", "dask_gateway"), "no dask_claim:"),
        (("distributed", "dask_gateway", "dask_claim"), None),
    ],
)
async def test_packages(
    other: Path, tmp_path: Path, packages: tuple[str, ...], missing: str | None
) -> None:
    for name in packages:
        (tmp_path / f"{name}.py").touch()
    environ = {**os.environ, "PYTHONPATH": str(tmp_path)}
    told = await cannot_connect([str(other), "program.py"], environ)
    assert (told is None) if missing is None else (str(other) in told and missing in told)


def test_interpreters(other: Path, tmp_path: Path) -> None:
    environ = {"PATH": f"{other.parent}:{tmp_path}:/usr/bin:/bin"}
    lines = {
        "papermill": f"#!{other}",
        "by-env": "#!/usr/bin/env python",
        "with-flags": f"#!{other} -I",
        "shell": "#!/bin/sh",
        "empty": "",
        "gone": "#!/nowhere/python",
    }
    for name, line in lines.items():
        (tmp_path / name).write_text(f"{line}\n")
        (tmp_path / name).chmod(0o755)
    found = {name: interpreter_of(name, environ) for name in (*lines, "python", "nosuch")}
    expected = dict.fromkeys(("papermill", "by-env", "with-flags", "python"), other)
    assert found == {**dict.fromkeys(found), **expected}


@pytest.mark.parametrize(
    "name", ["python_job.sh", "python-pipeline", "pythonista", "python3-config", "python.sh"]
)
async def test_program_of_the_user_is_not_started(tmp_path: Path, name: str) -> None:
    """Neither where its own name begins like an interpreter's, nor its first line's."""
    started = tmp_path / "started"
    for file, line in ((name, "#!/bin/sh"), ("job", f"#!{tmp_path / name}")):
        (tmp_path / file).write_text(f"{line}\ntouch {started}\n")
        (tmp_path / file).chmod(0o755)
        assert await cannot_connect([str(tmp_path / file), "run"], os.environ) is None
        assert not started.exists()


@pytest.mark.parametrize("name", ["python", "python3", "python3.13", "python3.13t"])
def test_names_of_interpreters(tmp_path: Path, name: str) -> None:
    (tmp_path / name).touch(0o755)
    assert interpreter_of(name, {"PATH": str(tmp_path)}) == tmp_path / name


@pytest.mark.slow
def test_command_does_not_wait_for_the_look(
    launcher: Launcher, gateway: GatewayServer, tmp_path: Path
) -> None:
    """Its interpreter is looked at beside the cluster's start; one that hangs tells nothing."""
    runs = {}
    for name, answer in {"hangs": "read line < pipe; ", "answers": ""}.items():
        (folder := tmp_path / name).mkdir()
        os.mkfifo(folder / "pipe")
        (python := folder / "python").touch(0o755)
        python.write_text(f"#!/bin/sh\nif [ $1 = -c ]; then {answer}echo dask_gateway; fi\n")
        claim = {"gateway_url": gateway.url}
        runs[name] = launcher.start(str(python), "program", claim=claim, cwd=folder)
    for name, run in runs.items():
        ended = run.finish()
        assert ended.status == 0, ended.err
        told = [each for each in ended.receipt["warnings"] if "has no dask_gateway" in each]
        assert len(told) == (name == "answers")


async def test_own_interpreter_is_not_started(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("asyncio.create_subprocess_exec", None)
    assert await cannot_connect([PYTHON], os.environ) is None
    assert await cannot_connect([sys.executable], os.environ) is None
