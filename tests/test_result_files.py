"""Files that tell a program where its cluster is: there while it runs, and only for its user."""

from __future__ import annotations

import json
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
    claim = {"max_workers": 1, "env": {"scheduler_file": "WHERE"}}
    if where == "gateway":
        claim = {"gateway_url": gateway.url, "env": ENV}
    run = launcher(PYTHON, "-c", PROGRAM, claim=claim)
    assert run.status == 0, run.err
    assert not Path(run.out.decode().strip()).exists()
    assert run.receipt["gone"] is True


def test_removed_after_sigkill(
    launcher: Launcher, tmp_path: Path, scheduler: dict[str, str]
) -> None:
    run = launcher.start(
        "sh", "-c", 'tr -d "\\n" <"$WHERE"; echo; exec sleep 600',
        claim={"env": {"scheduler_file": "WHERE"}}, env={"TMPDIR": str(tmp_path), **scheduler},
    )  # fmt: skip
    said = json.loads(run.process.stdout.readline())
    assert said["address"] == scheduler["DASK_SCHEDULER_ADDRESS"]
    assert list(tmp_path.glob("dask-claim-files-*"))
    run.process.kill()
    run.finish()
    wait_for(lambda: not list(tmp_path.glob("dask-claim-files-*")), "end of the files")
