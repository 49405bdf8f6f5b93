"""A cluster whose name nobody was told, for the gateway's answer was lost."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess

import pytest

from dask_claim.claim.addresses import GatewayAddress
from dask_claim.claim.model import Claim
from dask_claim.providers.gateway import reclaiming
from dask_claim.providers.gateway.api import GatewayApi
from dask_claim.providers.gateway.reclaiming import Ending
from dask_claim.providers.values import Outcome, Ticket
from tests.support.gateway import GatewayServer
from tests.support.launcher import Launcher
from tests.support.proxy import CREATION, Proxy
from tests.support.scenes import WAITING, processes_of, until_ready


def test_lost_cluster_is_a_new_one_with_the_same_options(
    gateway: GatewayServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reclaiming, "LEASE_EXPECTED_WITHIN", 0.5)
    for name in ("LOGNAME", "USER"):
        monkeypatch.setenv(name, "tester")

    told: list[str] = []

    async def lose(claim: Claim) -> str:
        api = GatewayApi(GatewayAddress(str(claim.gateway_url), claim.proxy_url))
        try:
            options = await api.options()
            request = {"before": [], "options": dict(options)}
            name = await api.create(options)
            for more, outcome in (
                ({"before": [name]}, Outcome.NOTHING),
                ({"options": {**options, "worker_cores": 7}}, Outcome.NOTHING),
                ({}, Outcome.GONE),
            ):
                ticket = Ticket("gateway", {"requested": {**request, **more}})
                assert await Ending(api, told.append).end_all_of(ticket) is outcome
            return name
        finally:
            await api.close()

    with Proxy(gateway) as proxy:
        name = asyncio.run(lose(Claim.model_validate(proxy.claim())))
    assert told == [f"Cluster {name} was made although the gateway's answer was lost"]
    assert gateway.clusters() == []


def test_creation_without_an_answer(launcher: Launcher, variables_gateway: GatewayServer) -> None:
    """It is repeated until there is a cluster, which is told by its mark from another such one."""
    with Proxy(variables_gateway) as proxy:
        other = launcher.start(*WAITING, claim=proxy.claim(), stdin=subprocess.PIPE)
        until_ready(other)
        [busy] = processes_of(variables_gateway, "scheduler")
        os.kill(busy, signal.SIGSTOP)
        for kind in ("429", "502", "reset", "swallow"):
            proxy.fault(kind, CREATION, times=1)
        run = launcher("true", claim=proxy.claim())
        assert variables_gateway.clusters() == [other.until(r"Cluster (\w+) is requested").group(1)]
        os.kill(busy, signal.SIGCONT)
        assert proxy.left() == []
        assert (run.status, run.receipt["gone"]) == (0, True), run.err
        [warning] = run.receipt["warnings"]
        assert "was made although the gateway's answer was lost" in warning
        other.process.communicate(b"\n")
        assert other.finish().status == 5
