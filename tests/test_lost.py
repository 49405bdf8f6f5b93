"""A cluster whose name nobody was told, on a gateway whose clock is not the launcher's."""

from __future__ import annotations

import asyncio
import time

import pytest

from dask_claim.claim.model import Claim
from dask_claim.providers.gateway import lost
from dask_claim.providers.gateway.api import GatewayApi
from dask_claim.providers.gateway.lost import LostRequest
from tests.support.gateway import GatewayServer
from tests.support.proxy import Proxy


@pytest.mark.parametrize("ahead", [3600.0, -3600.0])
def test_lost_cluster_is_found_whatever_the_clocks_say(
    gateway: GatewayServer, ahead: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lost, "LEASE_EXPECTED_WITHIN", 0.5)
    for name in ("LOGNAME", "USER"):
        monkeypatch.setenv(name, "tester")

    async def lose(claim: Claim) -> tuple[str, list[str], list[str], list[str]]:
        api = GatewayApi(claim)
        options = await api.options()
        before = [report.name for report in await api.clusters()]
        sent = time.time()
        name = await api.create(options)
        try:
            request = LostRequest(before, sent, time.time(), dict(options))
            earlier = LostRequest(before, sent - 60, sent - 30, dict(options))
            known = LostRequest([name], sent, time.time(), dict(options))
            return name, *[await lost.find(api, each) for each in (request, earlier, known)]
        finally:
            await api.delete(name)
            while (report := await api.report(name)) and report.status.name != "STOPPED":
                await asyncio.sleep(0.1)
            await api.close()

    with Proxy(gateway, ahead=ahead) as proxy:
        name, found, earlier, known = asyncio.run(lose(Claim.model_validate(proxy.claim())))
    assert (found, earlier, known) == ([name], [], [])
