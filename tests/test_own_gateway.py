"""Programs that speak only Gateway, where there is none: they run unmodified on this machine."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support.gateway import clean_environment
from tests.support.launcher import (
    DASK_CLAIM,
    PYTHON,
    Launcher,
    processes_with,
    wait_for,
)
from tests.support.scenes import command_line, kill, until_ready

# As the reference program makes its cluster, word for word in what it calls and reads.
MAKES_ITS_OWN = """
import os
from dask_gateway import Gateway

gateway = Gateway(os.getenv("DASK_GATEWAY_URL"))
options = gateway.cluster_options()
options["image"] = os.getenv("DASK_WORKER_IMAGE")
options["worker_cores"] = float(os.getenv("DASK_WORKER_CORES"))
options["worker_cores_limit"] = float(os.getenv("DASK_WORKER_CORES_LIMIT"))
options["worker_memory"] = os.getenv("DASK_WORKER_MEMORY")
cluster = gateway.new_cluster(options)
cluster.adapt(minimum=1, maximum=1)
client = cluster.get_client()
print(client.submit(sum, [20, 22]).result(), flush=True)
(worker,) = client.scheduler_info()["workers"].values()
assert (worker["nthreads"], worker["memory_limit"]) == (1, 512 * 2**20), worker
assert list(client.run(os.environ.get, "SITE").values()) == ["here"]
"""
ITS_CLAIM = {
    "EnvVarRequirement": {
        "worker_cores": "DASK_WORKER_CORES", "worker_cores_limit": "DASK_WORKER_CORES_LIMIT",
        "worker_memory": "DASK_WORKER_MEMORY", "gateway_url": "DASK_GATEWAY_URL",
        "image": "DASK_WORKER_IMAGE",
    },
    "RuntimeRequirement": {
        "min_cores": 1, "max_cores": 2, "worker_cores": 0.5, "worker_cores_limit": 1,
        "worker_memory": "512 M", "image": "bai:eb7",
    },
}  # fmt: skip

CONNECTS = """
import os
from dask_gateway import Gateway
from distributed import Client

assert os.environ["URL"] == os.environ["DASK_GATEWAY__ADDRESS"]
with Gateway() as gateway:
    cluster = gateway.connect(os.environ["DASK_CLUSTER"])
    with cluster.get_client() as client:
        print(client.submit(sum, [20, 22]).result())
with Client() as client:
    assert client.submit(lambda: __import__("beside").VALUE).result() == 3
    assert len(client.scheduler_info()["workers"]) == 1
"""


def places(folder: Path) -> list[Path]:
    return list(folder.glob("dask-claim-*"))


def test_program_makes_its_own_cluster(launcher: Launcher, tmp_path: Path) -> None:
    claim = {"create": False, **ITS_CLAIM}
    env = {
        "TMPDIR": str(tmp_path), "SITE": "here", "http_proxy": "http://127.0.0.1:9",
        # Another gateway's.
        "DASK_GATEWAY__AUTH__TYPE": "jupyterhub", "DASK_GATEWAY__AUTH__KWARGS__API_TOKEN": "x",
    }  # fmt: skip
    run = launcher(PYTHON, "-c", MAKES_ITS_OWN, claim=claim, env=env)
    assert (run.status, run.out) == (0, b"42\n"), run.err
    # Its cluster is left running by the program, and is gone.
    assert run.receipt["gone"] is True
    assert run.receipt["provider"] == "local"
    assert places(tmp_path) == []


@pytest.mark.parametrize(
    "gateway",
    [{}, {"gateway_url": "http://127.0.0.1:9", "fallback": "local"}],
    ids=["none", "away"],
)
def test_program_connects_to_the_claimed_cluster(
    launcher: Launcher, tmp_path: Path, gateway: dict[str, str]
) -> None:
    env = {"cluster_name": "DASK_CLUSTER", "gateway_url": "URL"}
    claim = {"worker_cores": 1, "worker_memory": "512M", "env": env, **gateway}
    work = tmp_path / "work"
    work.mkdir()
    (work / "beside.py").write_text("VALUE = 3\n")
    run = launcher(
        PYTHON, "-B", "-c", CONNECTS, claim=claim, env={"TMPDIR": str(tmp_path)}, cwd=work,
        flags=("--start", "workers"),
    )  # fmt: skip
    assert (run.status, run.out) == (0, b"42\n"), run.err
    assert run.receipt["gone"] is True
    assert run.receipt["workers"]["memory"] == 512 * 2**20
    assert run.receipt["tasks"] == {"done": 2, "failed": 0}
    assert {path.name for path in work.iterdir()} <= {"beside.py", "__pycache__"}
    assert places(tmp_path) == []


@pytest.mark.parametrize("whom", ["launcher", "the gateway's process, too"])
def test_sigkill_leaves_nothing(launcher: Launcher, tmp_path: Path, whom: str) -> None:
    claim = {"create": False, **ITS_CLAIM}
    env = {"TMPDIR": str(tmp_path), "SITE": "here"}
    # Once a task is done there is a worker.
    program = MAKES_ITS_OWN.replace("client.submit(sum, [20, 22]).result()", "ready()")
    program = f"ready = lambda: client.submit(str, 'ready').result()\n{program}\ninput()"
    run = launcher.start(PYTHON, "-c", program, claim=claim, env=env)
    until_ready(run)
    found = [command_line(pid) for pid in processes_with(launcher.marker)]
    for part in ("gateway_server.py", "dask-gateway-proxy", " scheduler ", " worker "):
        assert any(part in line for line in found), found
    if whom != "launcher":
        for pid in processes_with(launcher.marker):
            if "gateway_host.py" in command_line(pid):
                os.kill(pid, 9)
    kill(run)
    wait_for(lambda: not processes_with(launcher.marker), "end of all", 40)
    wait_for(lambda: not places(tmp_path), "end of the files", 20)


def test_nobody_sees_the_password(launcher: Launcher, tmp_path: Path) -> None:
    """Neither an argument, nor a file, nor the log; and without it nobody is served."""
    program = """
import os, stat, subprocess, urllib.request, urllib.error
password = os.environ["DASK_GATEWAY__AUTH__KWARGS__PASSWORD"]
assert password not in subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True).stdout
for folder, _, names in os.walk(os.environ["TMPDIR"]):
    if "dask-claim-" in folder:
        assert stat.S_IMODE(os.stat(folder).st_mode) == 0o700, folder
    for name in names:
        assert password.encode() not in open(os.path.join(folder, name), "rb").read(), name
url = os.environ["DASK_GATEWAY__ADDRESS"]
assert url.startswith("http://127.0.0.1:")
for header in ({}, {"Authorization": "Basic dGVzdGVyOg=="}):
    try:
        urllib.request.urlopen(urllib.request.Request(url + "/api/v1/clusters/", headers=header))
        raise SystemExit("served")
    except urllib.error.HTTPError as error:
        assert error.code == 401, error
print(password)
"""
    run = launcher(PYTHON, "-c", program, claim={"create": False}, env={"TMPDIR": str(tmp_path)})
    assert run.status == 0, run.err
    password = run.out.decode().strip()
    assert len(password) > 30
    assert password not in run.err and password not in json.dumps(run.receipt)


def without_server() -> list[str]:
    """A command before the launcher that hides dask-gateway-server from it."""
    hide = (
        "import importlib.util, runpy, sys; find = importlib.util.find_spec; "
        "importlib.util.find_spec = lambda name, *more: "
        "None if name == 'dask_gateway_server' else find(name, *more); "
        "sys.argv[:1] = []; runpy.run_path(sys.argv[0], run_name='__main__')"
    )
    return [sys.executable, "-c", hide]


@pytest.mark.parametrize(
    ("claim", "status"),
    [
        ({"create": False, "env": {"gateway_url": "URL"}}, 78),
        ({"create": False, "env": {"gateway_url": "URL"}, "strict": False}, 0),
        ({"env": {"gateway_url": "URL"}}, 0),
        ({"create": False}, None),
    ],
)
def test_without_the_extra(
    launcher: Launcher, tmp_path: Path, claim: dict[str, Any], status: int | None
) -> None:
    program = "import os; print(os.environ.get('URL'))"
    run = launcher(PYTHON, "-c", program, claim=claim, before=without_server())
    assert run.status == (status or 0), run.err
    told = "pip install 'dask-claim[local-gateway]'" in run.err
    assert told is (status is not None)
    assert run.out == (b"" if status == 78 else b"None\n")


def test_doctor_tells_of_the_missing_extra(tmp_path: Path) -> None:
    told = subprocess.run(
        [*without_server(), DASK_CLAIM, "doctor", "--json"],
        env=clean_environment(DASK_CLAIM='{"env": {"gateway_url": "URL"}}'),
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    (found,) = (row for row in json.loads(told.stdout) if row["name"] == "provider")
    assert found["state"] == "warn", told.stderr
    assert found["hint"] == "pip install 'dask-claim[local-gateway]'"


def test_show_tells_of_it() -> None:
    for claim, told in (
        ('{"env": {"gateway_url": "URL"}}', "env.gateway_url is set"),
        ('{"create": false}', "create is false"),
        ("{}", None),
    ):
        shown = subprocess.run(
            [DASK_CLAIM, "show"], env=clean_environment(DASK_CLAIM=claim),
            capture_output=True, text=True, check=True,
        ).stdout  # fmt: skip
        assert ("a Dask Gateway is started for the command" in shown) is (told is not None)
        assert told is None or told in shown
