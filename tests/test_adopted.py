"""A cluster that the runner has made is adopted: used, handed over, and never ended."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import yaml

from dask_claim.claim.model import Claim, load
from dask_claim.errors import ConfigurationError, TemporaryError
from dask_claim.providers.base import Provider
from dask_claim.providers.existing import outside_ended_run
from dask_claim.providers.values import Request
from dask_claim.registry import provider_class
from tests.support.claims import NOWHERE, Fields
from tests.support.cwl import ROOT
from tests.support.faulty import CLUSTER, Faulty, faulty
from tests.support.gateway import GatewayServer
from tests.support.launcher import DASK_CLAIM, ONE_TASK, PYTHON, Launcher
from tests.support.scenes import until_ready

PROGRAM = f"import os; print(os.environ['DASK_CLUSTER'])\n{ONE_TASK}"


@pytest.mark.slow
def test_adopted(launcher: Launcher, gateway: GatewayServer, tmp_path: Path) -> None:
    """A launcher below a launcher makes no other cluster, nor does one that is given its name."""
    below = f"{DASK_CLAIM} -- {PYTHON} -c '{ONE_TASK}' && echo ready && read line"
    claim = {"gateway_url": gateway.url}
    runner = launcher.start("sh", "-c", below, claim=claim, stdin=subprocess.PIPE)
    assert runner.process.stdout.readline() == b"42\n", runner.err
    until_ready(runner)
    [made] = gateway.clusters()
    assert runner.err.count("is requested") == 1
    (tmp_path / "name").write_text(made + "\n")
    env = {"DASK_CLUSTER_NAME_PATH": str(tmp_path / "name")}
    run = launcher(PYTHON, "-c", PROGRAM, claim={"worker_cores": 1, **claim}, env=env)
    assert (run.status, run.out) == (0, f"{made}\n42\n".encode()), run.err
    assert "it will not be stopped" in run.err.splitlines()[1]
    receipt = run.receipt
    assert (receipt["provider"], receipt["adopted"], receipt["gone"]) == ("attach", True, None)
    assert receipt["cluster_name"] == made
    assert gateway.clusters() == [made]
    runner.process.communicate(b"\n")
    ended = runner.finish()
    assert (ended.status, ended.receipt["gone"]) == (0, True), ended.err
    assert f"Attached to run {ended.receipt['run']}: using cluster {made}" in ended.err


def test_run_inside_a_run(launcher: Launcher, tmp_path: Path) -> None:
    """It uses the other one's cluster, whatever its claim says, and ends nothing."""
    receipt = tmp_path / "inner.json"
    # Its claim names a gateway that is not there.
    script = f"""
        export DASK_CLAIM='{{"gateway_url": "http://127.0.0.1:9", "min_workers": 1}}'
        {DASK_CLAIM} --start workers --receipt {receipt} -- true && {PYTHON} -c '{ONE_TASK}'
    """
    run = launcher("sh", "-c", script, claim={"provider": "local", "max_workers": 1})
    assert (run.status, run.out) == (0, b"42\n"), run.err
    inner, outer = json.loads(receipt.read_text()), run.receipt
    assert (inner["attached"], outer["attached"]) == (outer["run"], None)
    assert (inner["gone"], inner["scheduler_address"]) == (None, outer["scheduler_address"])
    assert f"Attached to run {outer['run']}: using the running scheduler" in run.err
    assert run.err.count("Local cluster: ") == 1 and "handshake" not in run.err, run.err


@pytest.mark.parametrize(
    ("content", "raised", "said"),
    [
        (None, TemporaryError, "there is no such file"),
        ("", ConfigurationError, "no address"),
        ('{"address": null}', ConfigurationError, "no address"),
        ("\xff", ConfigurationError, "no address"),
        ('["tcp://host:1"]', ConfigurationError, "no address"),
        ("folder", ConfigurationError, "cannot be read: Is a directory"),
    ],
)
async def test_scheduler_file_without_an_address(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, content: str | None, raised: type, said: str
) -> None:
    monkeypatch.setattr("dask_claim.providers.existing.CONNECT_TIMEOUT", 0.2)
    file = tmp_path / "scheduler.json"
    if content == "folder":
        file.mkdir()
    elif content is not None:
        file.write_text(content)
    with pytest.raises(raised, match=f"DASK_SCHEDULER_FILE = {file}: .*{said}"):
        await attaching(DASK_SCHEDULER_FILE=str(file)).submit()


def attaching(claim: Fields | None = None, **environ: str) -> Provider:
    made = Claim.model_validate(claim or {})
    request = Request(made, made.plan(environ), environ, start_timeout=1.0)
    return provider_class("attach")(request, lambda ticket: None, print)


def test_start_timeout_says_what_was_in_the_way(launcher: Launcher) -> None:
    env = {"DASK_SCHEDULER_ADDRESS": "tcp://127.0.0.1:9"}
    run = launcher("true", env=env, flags=("--start-timeout", "9"))
    assert run.status == 75
    assert "The last obstacle: no scheduler answers at tcp://127" in run.err


async def test_scheduler_file_that_is_still_written(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Its path is relative; the scheduler has been started in the same script, just before."""
    monkeypatch.chdir(tmp_path)
    Path("s.json").touch()
    provider = attaching(DASK_SCHEDULER_FILE="s.json")
    submitting = asyncio.ensure_future(provider.submit())
    await asyncio.sleep(0)
    Path("s.json").write_text('{"address": "tls://host:1", "workers": {}}')
    await submitting
    assert provider.cluster.scheduler_address == "tls://host:1"


async def test_scheduler_that_is_late(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its pod may have yet to start: only the start timeout ends the wait."""
    tried = []

    @asynccontextmanager
    async def client(self: Provider) -> AsyncIterator[None]:
        tried.append(self.obstacle)
        if len(tried) < 3:
            raise TemporaryError("no scheduler answers")
        yield

    monkeypatch.setattr("dask_claim.providers.existing.AttachProvider._client", client)
    monkeypatch.setattr("dask_claim.providers.gateway.asking.FIRST_PAUSE", 0.01)
    provider = attaching(DASK_SCHEDULER_ADDRESS="tcp://job-scheduler.default.svc:8786")
    await provider.wait_until_running()
    assert tried == [None, *["no scheduler answers"] * 2] and provider.obstacle is None


def test_page_on_attaching(attached: Launcher) -> None:
    """The runner of its DaskJob, as the operator starts it, and the links; tried with that CRD."""
    text = (ROOT / "docs" / "attach.md").read_text()
    job, _ = (yaml.safe_load(each) for each in re.findall(r"```yaml\n(.*?)```", text, re.DOTALL))
    [container] = job["spec"]["job"]["spec"]["containers"]
    env = {each["name"]: each["value"] for each in container["env"]}
    del env["DASK_CLAIM_RECEIPT"]
    program, *flags = container["command"]
    assert (program, flags.pop()) == ("dask-claim", "--")
    claim = {"gateway_url": "http://127.0.0.1:9"}
    run = attached(PYTHON, *container["args"][1:], flags=flags, env=env, claim=claim)
    assert (run.status, run.out, run.receipt["provider"]) == (0, b"42\n", "attach"), run.err
    for link in re.findall(r"\]\(([^)#:]+)[)#]", text):
        assert (ROOT / "docs" / link).exists(), link


def adopting(server: Faulty) -> Provider:
    return attaching({**server.claim(), "fallback": "local"}, DASK_CLUSTER=CLUSTER)


@pytest.mark.parametrize("scheduler", ["refused", "reset", "hang", "closed"])
async def test_scheduler_that_is_not_reached_for_its_workers(scheduler: str) -> None:
    with faulty(scheduler) as server:
        provider = adopting(server)
        await provider.submit()
        await provider.wait_until_running()
        with pytest.raises(TemporaryError, match=r"no scheduler answers at gateway://.*proxy_url"):
            await provider.wait_for_workers(1)
        server.ended.append(CLUSTER)
        with pytest.raises(TemporaryError, match=f"cluster {CLUSTER}.* says it is STOPPED"):
            await adopting(server).submit()


async def test_cluster_that_still_starts_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """A gateway answers later then; nothing can take the place of somebody's cluster."""
    monkeypatch.setattr("dask_claim.providers.gateway.asking.SOON", 0.2)
    with faulty("refused") as server:
        server.late = 1.0
        provider = adopting(server)
        await provider.submit()
    assert provider.cluster.cluster_name == CLUSTER


def test_cluster_of_a_run_whose_gateway_answers(launcher: Launcher) -> None:
    """Its word counts; without one the cluster may run, and the run itself waits for it."""
    with faulty("refused") as server:
        server.ended.append(CLUSTER)
        environ = {
            **NOWHERE, "DASK_CLAIM_RUN_ID": "id", "DASK_CLUSTER": CLUSTER,
            "DASK_SCHEDULER_ADDRESS": f"gateway://127.0.0.1:9/{CLUSTER}",
            "DASK_CLAIM": json.dumps(server.claim()),
        }  # fmt: skip
        inside = load(environ=environ)
        assert inside.plan().provider == "attach"
        outside = outside_ended_run(inside)
        run = launcher("true", env=environ)
    assert outside_ended_run(inside) is inside
    assert outside.plan().provider == "gateway"
    [warning] = outside.warnings()
    assert f"cluster {CLUSTER} is STOPPED" in warning
    assert run.receipt["warnings"] == [warning], run.err
    assert not {"DASK_CLUSTER", "DASK_CLAIM_RUN_ID"} & outside.environ.keys()


def test_cluster_of_an_unknown_gateway(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DASK_CLUSTER", "made-by-a-runner")
    [told] = load().warnings()
    assert "made-by-a-runner" in told and "DASK_GATEWAY__ADDRESS" in told
    monkeypatch.setenv("DASK_CLAIM_PROVIDER", "local")
    assert load().warnings() == []
    monkeypatch.setenv("DASK_CLAIM_PROVIDER", "auto")
    monkeypatch.setenv("DASK_GATEWAY__ADDRESS", "http://gateway")
    assert not [each for each in load().warnings() if "made-by-a-runner" in each]
