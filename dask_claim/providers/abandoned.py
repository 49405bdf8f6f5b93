"""Ends the gateway's cluster of a launcher that was killed. The guard runs this file."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any

# Modules lying beside this file must not shadow anybody's.
sys.path[0:1] = []
sys.path += [str(Path(__file__).resolve().parents[2])]

# How long the gateway may be away; the lease goes on trying from the scheduler.
PATIENCE = 120.0


async def end(known: dict[str, Any]) -> None:
    from loguru import logger

    from dask_claim.claim import Claim
    from dask_claim.providers.base import Order
    from dask_claim.providers.gateway import end_cluster
    from dask_claim.providers.gateway_api import GatewayApi
    from dask_claim.providers.lost import LostRequest, find

    claim = Claim.model_validate(known["claim"])
    order = Order(claim, claim.plan(), os.environ, PATIENCE, PATIENCE, logger.warning)
    names = [known["cluster"]] if known.get("cluster") else []
    if not names and known.get("request"):
        api = GatewayApi(claim)
        try:
            names = await find(api, LostRequest(given_up=known["vanished"], **known["request"]))
        finally:
            await api.close()
    for name in names:
        gone = await end_cluster(order, name)
        say = logger.info if gone else logger.error
        say(f"cluster {name} {'is gone' if gone else 'is NOT confirmed gone'}")


if __name__ == "__main__":
    from dask_claim.log import configure

    configure("INFO")
    asyncio.run(end(json.load(sys.stdin)))
