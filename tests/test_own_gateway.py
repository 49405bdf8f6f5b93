"""Programs that speak only Gateway, where there is none: they run unmodified on this machine."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner

from dask_claim.claim.model import Claim
from dask_claim.cli.main import cli
from dask_claim.doctor.examine import examine
from dask_claim.errors import ConfigurationError
from dask_claim.providers.local import local_provider as local
from dask_claim.providers.values import Request
from dask_claim.registry import provider_class
from dask_claim.threads import in_time
from tests.support.claims import NOWHERE
from tests.support.launcher import PYTHON, Launcher, processes_with, wait_for
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
# Neither an argument nor a file tells it, and without it nobody is served.
NOBODY_SEES_THE_PASSWORD = """
import os, stat, subprocess, urllib.request, urllib.error
password = os.environ["DASK_GATEWAY__AUTH__KWARGS__PASSWORD"]
shown = subprocess.check_output(["ps", "-eww", "-o", "args"], text=True)
assert "ps -eww" in shown and password not in shown
for folder, _, names in os.walk(os.environ["TMPDIR"]):
    if "dask-claim-" in folder:
        assert stat.S_IMODE(os.stat(folder).st_mode) == 0o700, folder
    for name in names:
        assert password.encode() not in open(os.path.join(folder, name), "rb").read(), name
url = os.environ["DASK_GATEWAY__ADDRESS"]
assert url.startswith("http://127.0.0.1:")
directly = urllib.request.build_opener(urllib.request.ProxyHandler({}))
for header in ({}, {"Authorization": "Basic dGVzdGVyOg=="}):
    try:
        directly.open(urllib.request.Request(url + "/api/v1/clusters/", headers=header))
        raise SystemExit("served")
    except urllib.error.HTTPError as error:
        assert error.code == 401, error
print(password)
"""
ITS_CLAIM = {
    "create": False,
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


@pytest.mark.parametrize("at", ["start", "the import of Dask"])
async def test_scheduler_that_is_stopped_while_it_starts(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], at: str
) -> None:
    """It ends without a word."""
    server = pytest.importorskip("dask_claim.providers.local.gateway_host")
    name = "sitecustomize.py" if at == "start" else "dask.py"
    (tmp_path / name).write_text("import os; os.kill(os.getpid(), 2); import time; time.sleep(1)")
    words = [PYTHON, "-c", server.QUIET + server.RUN_DASK, str(tmp_path), "scheduler"]
    cluster = SimpleNamespace(state={"workdir": tmp_path})

    async def run() -> None:
        environ = {"PYTHONPATH": str(tmp_path)}
        pid = await server.Backend.start_process(None, cluster, words, environ, "scheduler")
        while Path(f"/proc/{pid}").exists():  # until asyncio has waited for it
            await asyncio.sleep(0.02)

    await in_time(run(), 30)
    assert capfd.readouterr() == ("", "")


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
    env = {
        "TMPDIR": str(tmp_path), "SITE": "here", "http_proxy": "http://127.0.0.1:9",
        # Another gateway's.
        "DASK_GATEWAY__AUTH__TYPE": "jupyterhub", "DASK_GATEWAY__AUTH__KWARGS__API_TOKEN": "x",
    }  # fmt: skip
    program = NOBODY_SEES_THE_PASSWORD + MAKES_ITS_OWN
    run = launcher(PYTHON, "-c", program, claim=ITS_CLAIM, env=env)
    assert run.status == 0, run.err
    password, result = run.out.decode().split()
    assert result == "42" and len(password) > 30
    assert password not in run.err + str(run.receipt)
    # Its cluster is left running by the program, and is gone.
    assert run.receipt["gone"] is True
    assert run.receipt["provider"] == "local"
    assert places(tmp_path) == []
    # The server ends after the schedulers, which report to it.
    assert "Failed to send heartbeat" not in run.err


def test_program_connects_to_the_claimed_cluster(launcher: Launcher, tmp_path: Path) -> None:
    """Where the gateway is away; its own is then what the command is told of."""
    claim = {
        "gateway_url": "http://127.0.0.1:9", "fallback": "local", "worker_cores": 1,
        "worker_memory": "512M", "env": {"cluster_name": "DASK_CLUSTER", "gateway_url": "URL"},
    }  # fmt: skip
    (work := tmp_path / "work").mkdir()
    (work / "beside.py").write_text("VALUE = 3\n")
    run = launcher(
        PYTHON, "-B", "-c", CONNECTS, claim=claim, env={"TMPDIR": str(tmp_path)}, cwd=work,
        flags=("--start", "workers"),
    )  # fmt: skip
    assert (run.status, run.out) == (0, b"42\n"), run.err
    assert run.receipt["gone"] is True
    assert run.receipt["workers"]["memory"] == 512 * 2**20
    assert run.receipt["tasks"] == {"done": 2, "failed": 0}
    assert "Failed to send heartbeat" not in run.err
    assert {path.name for path in work.iterdir()} <= {"beside.py", "__pycache__"}
    assert places(tmp_path) == []


@pytest.mark.parametrize(
    "whom", [pytest.param("launcher", marks=pytest.mark.deep), "the gateway's process, too"]
)
def test_sigkill_leaves_nothing(launcher: Launcher, tmp_path: Path, whom: str) -> None:
    env = {"TMPDIR": str(tmp_path), "SITE": "here"}
    # Once a task is done there is a worker.
    program = MAKES_ITS_OWN.replace("client.submit(sum, [20, 22]).result()", "ready()")
    program = f"ready = lambda: client.submit(str, 'ready').result()\n{program}\ninput()"
    run = launcher.start(PYTHON, "-c", program, claim=ITS_CLAIM, env=env)
    until_ready(run)
    found = [command_line(pid) for pid in processes_with(launcher.marker)]
    for part in ("gateway_host.py", "dask-gateway-proxy", " scheduler ", " worker "):
        assert any(part in line for line in found), found
    if whom != "launcher":
        for pid in processes_with(launcher.marker):
            if "gateway_host.py" in command_line(pid):
                os.kill(pid, 9)
    kill(run)
    wait_for(lambda: not processes_with(launcher.marker), "end of all")
    wait_for(lambda: not places(tmp_path), "end of the files")


@pytest.mark.parametrize(
    ("claim", "kind", "told"),
    [
        ({"create": False, "env": {"gateway_url": "URL"}}, None, True),
        ({"create": False, "env": {"gateway_url": "URL"}, "strict": False}, "none", True),
        ({"env": {"gateway_url": "URL"}}, "local", True),
        ({"create": False}, "none", False),
    ],
)
async def test_without_the_extra(
    monkeypatch: pytest.MonkeyPatch, claim: dict[str, Any], kind: str | None, told: bool
) -> None:
    """What the run does, and what doctor says."""
    monkeypatch.setattr(local, "has_server", lambda: False)
    for name, value in {**NOWHERE, "DASK_CLAIM": json.dumps(claim)}.items():
        monkeypatch.setenv(name, value)
    warnings: list[str] = []
    sound = Claim.model_validate(claim)
    plan = sound.plan()
    warnings += plan.choice.warnings
    try:
        made = provider_class(plan.choice.backend)(Request(sound, plan, {}), print, print)
        made.check()
        assert plan.choice.backend == kind
    except ConfigurationError as error:
        assert kind is None
        warnings.append(str(error))
    assert ("install dask-claim[local-gateway]" in str(warnings)) is told

    (found,) = [each async for each in examine({}) if each.name == "provider"]
    assert found.state == ("fail" if kind is None else "warn" if told else "ok")
    assert (local.INSTALL in found.message) is told


def test_show_tells_of_it() -> None:
    for claim, told in {
        '{"env": {"gateway_url": "URL"}}': "env.gateway_url is set",
        '{"create": false}': "create is false",
        "{}": "",
    }.items():
        shown = CliRunner(env={**NOWHERE, "DASK_CLAIM": claim}).invoke(cli, ["show"]).stdout
        assert ("a Dask Gateway is started for the command" in shown) is bool(told)
        assert told in shown
