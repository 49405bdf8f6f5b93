"""A cluster whose name nobody was told, on a gateway whose clock is not the launcher's."""

from __future__ import annotations

import asyncio
import time

import pytest

from dask_claim.claim.model import Claim
from dask_claim.providers.gateway import lost
from dask_claim.providers.gateway.api import GatewayApi
from dask_claim.providers.gateway.lost import end_lost
from dask_claim.providers.values import Outcome
from tests.support.gateway import GatewayServer
from tests.support.proxy import Proxy


@pytest.mark.parametrize("ahead", [3600.0, -3600.0])
def test_lost_cluster_is_found_whatever_the_clocks_say(
    gateway: GatewayServer, ahead: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lost, "LEASE_EXPECTED_WITHIN", 0.5)
    for name in ("LOGNAME", "USER"):
        monkeypatch.setenv(name, "tester")

    async def lose(claim: Claim) -> tuple[str, list[str], list[Outcome]]:
        api = GatewayApi(claim)
        options = await api.options()
        before = [report.name for report in await api.clusters()]
        sent = time.time()
        name = await api.create(options)
        told: list[str] = []
        request = {"before": before, "sent": sent, "options": dict(options)}
        earlier = {**request, "sent": sent - 60, "given_up": sent - 30}
        known = {**request, "before": [name]}
        try:
            outcomes = [
                await end_lost(api, each, told.append) for each in (earlier, known, request)
            ]
            return name, told, outcomes
        finally:
            await api.close()

    with Proxy(gateway, ahead=ahead) as proxy:
        name, told, outcomes = asyncio.run(lose(Claim.model_validate(proxy.claim())))
    assert told == [f"Cluster {name} was made although the gateway's answer was lost"]
    assert outcomes == [Outcome.NOTHING, Outcome.NOTHING, Outcome.GONE]
    assert gateway.clusters() == []
