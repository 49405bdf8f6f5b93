"""A cluster that the runner has made is adopted: used, handed over, and never ended."""

from __future__ import annotations

import asyncio
import subprocess
from pathlib import Path

import pytest

from dask_claim.claim.model import Claim, load
from dask_claim.errors import ClusterFailed, ConfigurationError, TemporaryError
from dask_claim.providers.base import Provider
from dask_claim.providers.values import Request
from dask_claim.registry import provider_class
from tests.support.faulty import CLUSTER, Faulty, faulty
from tests.support.gateway import GatewayServer
from tests.support.launcher import DASK_CLAIM, ONE_TASK, PYTHON, Launcher
from tests.support.scenes import until_ready

PROGRAM = f"import os; print(os.environ['DASK_CLUSTER'])\n{ONE_TASK}"


def test_adopted(launcher: Launcher, gateway: GatewayServer, tmp_path: Path) -> None:
    """However the runner names it and its gateway; a launcher below a launcher makes no other."""
    below = f"{DASK_CLAIM} -- {PYTHON} -c '{ONE_TASK}' && echo ready && read line"
    claim = {"gateway_url": gateway.url}
    runner = launcher.start(
        "sh", "-c", below, claim=claim, flags=("--stop-timeout", "60"), stdin=subprocess.PIPE
    )
    assert runner.process.stdout.readline() == b"42\n", runner.err
    until_ready(runner)
    [made] = gateway.clusters()
    assert runner.err.count("is requested") == 1
    (tmp_path / "name").write_text(made + "\n")
    adopting = [
        launcher.start(PYTHON, "-c", PROGRAM, claim={"worker_cores": 1, **claim}, env=env)
        for claim, env in (
            ({}, {"DASK_CLUSTER": made, "DASK_GATEWAY__ADDRESS": gateway.url}),
            ({}, {"DASK_GATEWAY_CLUSTER": made, "DASK_GATEWAY_URL": gateway.url}),
            (claim, {"DASK_CLUSTER_NAME_PATH": str(tmp_path / "name")}),
        )
    ]
    for each in adopting:
        run = each.finish()
        assert (run.status, run.out) == (0, f"{made}\n42\n".encode()), run.err
        assert "which is there already" in run.err.splitlines()[1]
        receipt = run.receipt
        assert (receipt["provider"], receipt["adopted"], receipt["gone"]) == ("attach", True, None)
        assert receipt["cluster_name"] == made
    assert gateway.clusters() == [made]
    runner.process.communicate(b"\n")
    ended = runner.finish()
    assert (ended.status, ended.receipt["gone"]) == (0, True), ended.err


def test_run_inside_a_run(launcher: Launcher) -> None:
    """It uses the other one's cluster, whatever its claim says, and ends nothing."""
    inner = f"{DASK_CLAIM} -- {PYTHON} -c '{ONE_TASK}'"
    run = launcher("sh", "-c", f"{inner} && {inner}", claim={"provider": "local", "max_workers": 1})
    assert (run.status, run.out) == (0, b"42\n42\n"), run.err
    assert run.err.count("Using the running scheduler") == 2
    assert run.err.count("Local cluster: ") == 1 and "handshake" not in run.err, run.err


def test_name_that_cannot_be_read() -> None:
    with pytest.raises(ConfigurationError, match="/nowhere/name"):
        Claim().plan({"DASK_CLUSTER_NAME_PATH": "/nowhere/name"})


def test_address_that_is_none() -> None:
    with pytest.raises(
        ConfigurationError, match=r"DASK_GATEWAY_URL = http://\[: is not an address"
    ):
        Claim().plan({"DASK_CLUSTER": "x", "DASK_GATEWAY_URL": "http://["})


def attached(server: Faulty, **variables: str) -> Provider:
    claim = Claim.model_validate({**server.claim(), "fallback": "local"})
    environ = {"DASK_CLUSTER": CLUSTER, **variables}
    request = Request(claim, claim.plan(environ), environ, start_timeout=1.0)
    return provider_class("attach")(request, lambda ticket: None, print)


@pytest.mark.parametrize("scheduler", ["refused", "reset", "hang", "closed"])
def test_scheduler_that_is_not_reached_for_its_workers(scheduler: str) -> None:
    async def wait(provider: Provider) -> None:
        await provider.submit()
        await provider.wait_until_running()
        await provider.wait_for_workers(1)

    with faulty(scheduler) as server:
        said = r"no scheduler answers at gateway://.*proxy_url"
        with pytest.raises(TemporaryError, match=said):
            asyncio.run(wait(attached(server)))
        server.ended.append(CLUSTER)
        with pytest.raises(TemporaryError, match=f"cluster {CLUSTER}.* says it is STOPPED"):
            asyncio.run(wait(attached(server)))


def test_cluster_that_still_starts_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """A gateway answers later then; nothing can take the place of somebody's cluster."""
    monkeypatch.setattr("dask_claim.providers.gateway.asking.SOON", 0.2)
    with faulty("refused") as server:
        server.late = 1.0
        provider = attached(server)
        asyncio.run(provider.submit())
    assert provider.cluster.cluster_name == CLUSTER


def test_cluster_that_has_ended() -> None:
    """Another attempt may find a runner's; that of a run that is over stays away."""
    with faulty("refused") as server:
        server.ended.append(CLUSTER)
        with pytest.raises(ClusterFailed, match=r"says it is STOPPED$"):
            asyncio.run(attached(server).submit())
        with pytest.raises(ConfigurationError, match="unset DASK_CLAIM_RUN_ID and"):
            asyncio.run(attached(server, DASK_CLAIM_RUN_ID="id").submit())


def test_cluster_of_a_gateway_that_nobody_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DASK_CLUSTER", "made-by-a-runner")
    [told] = load().warnings()
    assert "made-by-a-runner" in told and "DASK_GATEWAY__ADDRESS" in told
    monkeypatch.setenv("DASK_CLAIM_PROVIDER", "local")
    assert load().warnings() == []
    monkeypatch.setenv("DASK_CLAIM_PROVIDER", "auto")
    monkeypatch.setenv("DASK_GATEWAY__ADDRESS", "http://gateway")
    assert not [each for each in load().warnings() if "made-by-a-runner" in each]
