"""A cluster that the runner has made is adopted: used, handed over, and never ended."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from dask_claim.claim.model import Claim
from dask_claim.errors import TemporaryError
from dask_claim.providers import provider_class
from dask_claim.providers.base import Provider
from dask_claim.providers.values import Request
from tests.support.faulty import CLUSTER, Faulty, faulty
from tests.support.gateway import GatewayServer
from tests.support.launcher import DASK_CLAIM, ONE_TASK, PYTHON, Launcher
from tests.support.scenes import until_ready

PROGRAM = f"import os; print(os.environ['DASK_CLUSTER'])\n{ONE_TASK}"


@pytest.fixture
def made(launcher: Launcher, gateway: GatewayServer) -> Iterator[str]:
    """The name of a cluster that somebody holds."""
    claim = {"gateway_url": gateway.url, "min_workers": 1}
    run = launcher.start("sh", "-c", "echo ready; read line", claim=claim, stdin=-1)
    until_ready(run)
    name = run.until(r"Cluster (\w+) is requested").group(1)
    yield name
    assert name in gateway.clusters()  # whoever adopted it has not ended it
    run.process.communicate(b"\n", timeout=60)


@pytest.mark.parametrize("address", ["DASK_GATEWAY__ADDRESS", "DASK_GATEWAY_URL", "claim"])
@pytest.mark.parametrize("variable", ["DASK_CLUSTER", "DASK_GATEWAY_CLUSTER", "file"])
def test_adopted(
    launcher: Launcher,
    gateway: GatewayServer,
    made: str,
    tmp_path: Path,
    variable: str,
    address: str,
) -> None:
    if variable == "file":
        (tmp_path / "name").write_text(made + "\n")
        env = {"DASK_CLUSTER_NAME_PATH": str(tmp_path / "name")}
    else:
        env = {variable: made}
    claim = {"worker_cores": 1}
    if address == "claim":
        claim["gateway_url"] = gateway.url
    else:
        env[address] = gateway.url
    run = launcher(PYTHON, "-c", PROGRAM, claim=claim, env=env)
    assert (run.status, run.out) == (0, f"{made}\n42\n".encode()), run.err
    assert "which is there already" in run.err.splitlines()[1]
    receipt = run.receipt
    assert (receipt["provider"], receipt["adopted"], receipt["gone"]) == ("attach", True, None)
    assert receipt["cluster_name"] == made
    assert gateway.clusters() == [made]


def test_launcher_below_a_launcher_makes_no_second_cluster(
    launcher: Launcher, gateway: GatewayServer
) -> None:
    claim = {"gateway_url": gateway.url}
    run = launcher(DASK_CLAIM, "--", PYTHON, "-c", ONE_TASK, claim=claim)
    assert (run.status, run.out) == (0, b"42\n"), run.err
    assert run.err.count("is requested") == 1


def test_cluster_that_is_not_there(launcher: Launcher, gateway: GatewayServer) -> None:
    env = {"DASK_CLUSTER": "0" * 32, "DASK_GATEWAY_URL": gateway.url}
    run = launcher("true", env=env)
    assert run.status == 75, run.err
    assert "0" * 32 in run.err.splitlines()[-1]


def test_name_that_cannot_be_read(launcher: Launcher) -> None:
    run = launcher("true", env={"DASK_CLUSTER_NAME_PATH": "/nowhere/name"})
    assert run.status == 78, run.err
    assert "/nowhere/name" in run.err


def attached(server: Faulty) -> Provider:
    claim = Claim.model_validate({**server.claim(), "fallback": "local"})
    request = Request(claim, claim.plan({}), {"DASK_CLUSTER": CLUSTER}, start_timeout=1.0)
    return provider_class("attach")(request, lambda ticket: None, print)


@pytest.mark.parametrize("scheduler", ["refused", "reset", "hang", "closed"])
def test_scheduler_that_is_not_reached_for_its_workers(scheduler: str) -> None:
    with faulty(scheduler) as server:
        provider = attached(server)

        async def wait() -> None:
            await provider.submit()
            await provider.wait_until_running()
            await provider.wait_for_workers(1)

        with pytest.raises(TemporaryError, match=r"no scheduler answers at gateway://.*proxy_url"):
            asyncio.run(wait())


def test_cluster_that_still_starts_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """A gateway answers later then; nothing can take the place of somebody's cluster."""
    monkeypatch.setattr("dask_claim.providers.gateway.patience.SOON", 0.2)
    with faulty("none") as server:
        server.late = 1.5
        provider = attached(server)
        asyncio.run(provider.submit())
    assert provider.cluster.cluster_name == CLUSTER
