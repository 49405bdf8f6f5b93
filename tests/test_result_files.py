"""Files that tell a program where its cluster is: there while it runs, and only for its user."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from tests.support.gateway import GatewayServer
from tests.support.launcher import PYTHON, Launcher, wait_for

ENV = {"scheduler_file": "WHERE", "cluster_name_file": "NAME_FILE", "cluster_name": "NAME"}

PROGRAM = """
import os, stat
from pathlib import Path
from distributed import Client

file = Path(os.environ["WHERE"])
assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
name = os.environ.get("NAME")
assert ("NAME_FILE" in os.environ) == (name is not None)
assert name is None or Path(os.environ["NAME_FILE"]).read_text() == name
with Client(scheduler_file=str(file)) as client:
    assert client.submit(sum, [20, 22]).result() == 42
print(file.parent)
"""


@pytest.mark.parametrize("where", ["gateway", "local"])
def test_read_and_removed(launcher: Launcher, gateway: GatewayServer, where: str) -> None:
    claim = {"worker_cores": 1, "env": ENV}
    if where == "gateway":
        claim["gateway_url"] = gateway.url
    run = launcher(PYTHON, "-c", PROGRAM, claim=claim)
    assert run.status == 0, run.err
    assert not Path(run.out.decode().strip()).exists()
    assert run.receipt["gone"] is True


def test_removed_after_sigkill(launcher: Launcher, tmp_path: Path) -> None:
    env = {"TMPDIR": str(tmp_path)}
    command = ("sh", "-c", 'cat "$WHERE" > seen.tmp; mv seen.tmp seen; exec sleep 600')
    claim = {"env": {"scheduler_file": "WHERE"}}
    run = launcher.start(*command, claim=claim, env=env, cwd=tmp_path)
    seen = tmp_path / "seen"
    wait_for(seen.exists, "the command", 60, lambda: run.err)
    assert json.loads(seen.read_text())["address"].startswith("tls://127.0.0.1:")
    assert list(tmp_path.glob("dask-claim-files-*"))
    os.kill(run.process.pid, 9)
    run.finish()
    wait_for(lambda: not list(tmp_path.glob("dask-claim-files-*")), "end of the files", 60)


def test_nothing_where_the_program_makes_its_own(launcher: Launcher) -> None:
    program = "import os; print('WHERE' in os.environ or 'NAME_FILE' in os.environ)"
    run = launcher(PYTHON, "-c", program, claim={"create": False, "env": ENV})
    assert (run.status, run.out) == (0, b"False\n"), run.err
