"""Ending a gateway's clusters: asked for again and again, until it confirms that they are gone.

Everything here goes on until it is done; whoever calls it bounds the time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from time import monotonic
from typing import TYPE_CHECKING, TypeVar

from dask_claim.claim.addresses import GatewayAddress
from dask_claim.errors import AuthenticationError, DaskClaimError, TemporaryError
from dask_claim.providers.gateway.api import GatewayApi, pauses
from dask_claim.providers.gateway.variables import mark_on

if TYPE_CHECKING:
    from dask_claim.providers.values import Ticket

T = TypeVar("T")

SETTLED_AFTER = 1.0
"""Seconds from the gateway's answer until a cluster may be ended: the controller on Kubernetes
forgets the pod of a scheduler whose cluster is deleted while it is being made."""

# A request that was on its way when the command ended is known to the gateway at once.
LOOK_AGAIN_AFTER = 0.5


async def client_of(ticket: Ticket, timeout: float, warn: Callable[[str], None]) -> GatewayApi:
    """The client of a ticket's gateway, as soon as its credentials can be read.

    The file of a token may be away while it is being replaced. `timeout`: seconds for a request.
    """
    told = False
    for pause in pauses():
        try:
            return GatewayApi(GatewayAddress(**ticket.facts["gateway"]), timeout, ticket.login)
        except (AuthenticationError, TemporaryError) as error:
            if not told:
                warn(f"{error}. They are read again until the cluster can be ended")
                told = True
        await asyncio.sleep(pause)
    raise AssertionError("pauses never end")


async def persistently(api: GatewayApi, request: Callable[[], Awaitable[T]]) -> T:
    """Repeat a request until the gateway answers it."""
    for pause in pauses():
        try:
            return await request()
        except DaskClaimError as error:
            # Whatever the gateway answers, the cluster may still be there.
            if isinstance(error, AuthenticationError):
                api.renew_credentials()
        await asyncio.sleep(pause)
    raise AssertionError("pauses never end")


async def end_cluster(api: GatewayApi, name: str, made: float | None = None) -> None:
    """End a cluster and return when it is gone.

    `made`: when the gateway has told its name, by this machine's monotonic clock, which all of its
    processes share; None where that is long ago.
    """
    if made is not None:
        # Another machine's clock, or that of a boot before this one, says nothing.
        await asyncio.sleep(min(max(made + SETTLED_AFTER - monotonic(), 0.0), SETTLED_AFTER))

    deleted = False

    async def is_gone() -> bool:
        nonlocal deleted
        try:
            if not deleted:
                await api.delete(name)
                deleted = True
            report = await api.report(name)
        except DaskClaimError:
            deleted = False
            raise
        return report is None or report.status.name in ("STOPPED", "FAILED")

    for pause in pauses():
        if await persistently(api, is_gone):
            return
        await asyncio.sleep(pause)


async def end_marked(api: GatewayApi, mark: str, on_found: Callable[[str], None]) -> list[str]:
    """End all clusters of this user that carry a run's mark; return their names.

    Until two looks find nothing: a request may still be on its way.
    """
    ended: list[str] = []
    looks = 0
    while True:
        listed = await persistently(api, api.clusters)
        left = [report for report in listed if mark_on(report) == mark]
        for report in left:
            if report.status.name != "STOPPING":
                on_found(report.name)
        seen = monotonic()
        await asyncio.gather(*(end_cluster(api, report.name, seen) for report in left))
        ended += [report.name for report in left]
        looks = 0 if left else looks + 1
        if looks == 2:
            return ended
        await asyncio.sleep(LOOK_AGAIN_AFTER)
