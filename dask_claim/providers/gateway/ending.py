"""Ending a gateway's clusters, by name or by a run's mark, until that is confirmed.

Everything here goes on until it is done; the caller bounds the time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import cache
from time import monotonic
from typing import TYPE_CHECKING, TypeVar

from dask_claim.claim.addresses import GatewayAddress
from dask_claim.errors import AuthenticationError, DaskClaimError, TemporaryError
from dask_claim.providers.gateway.api import GatewayApi
from dask_claim.providers.gateway.asking import repeat
from dask_claim.providers.gateway.reports import mark_on, status_of
from dask_claim.providers.values import Outcome

if TYPE_CHECKING:
    from dask_claim.providers.values import Ticket

T = TypeVar("T")

SETTLED_AFTER = 1.0
"""Seconds from the gateway's answer until a cluster may be ended: the controller on Kubernetes
forgets the pod of a scheduler whose cluster is deleted while it is being made."""

# A request that was on its way when the command ended is in the gateway's list at once.
LOOK_AGAIN_AFTER = 0.5


async def end_cluster(api: GatewayApi, name: str, made: float | None = None) -> None:
    """End a cluster and return when it is gone.

    `made`: when the gateway answered with its name, by this machine's monotonic clock, which all
    of its processes share; None where that is long ago.
    """
    await until_settled(made)
    deleted = False

    async def is_gone() -> bool:
        nonlocal deleted
        try:
            if not deleted:
                await api.delete(name)
                deleted = True
            return status_of(await api.report(name)) in ("STOPPED", "FAILED", "UNKNOWN")
        except DaskClaimError:
            deleted = False
            raise

    await persistently(api, is_gone, done=bool)


async def until_settled(made: float | None) -> None:
    """Return when a cluster may be ended; `made` as for `end_cluster`."""
    if made is not None:
        # Another machine's clock, or that of a boot before this one, says nothing.
        await asyncio.sleep(min(max(made + SETTLED_AFTER - monotonic(), 0.0), SETTLED_AFTER))


async def client_of(ticket: Ticket, timeout: float, warn: Callable[[str], None]) -> GatewayApi:
    """Return a client of a ticket's gateway, as soon as its credentials can be read.

    The file of a token may be away while it is being replaced. `timeout`: seconds for a request.
    """
    gateway, warn_once = GatewayAddress(**ticket.facts["gateway"]), cache(warn)

    async def make() -> GatewayApi:
        return GatewayApi(gateway, timeout, ticket.login)

    def tell(error: DaskClaimError, pause: float) -> float:
        if not isinstance(error, (AuthenticationError, TemporaryError)):
            raise error
        warn_once(f"{error}. They are read again until the cluster can be ended")
        return pause

    return await repeat(make, tell)


async def persistently(
    api: GatewayApi, request: Callable[[], Awaitable[T]], done: Callable[[T], bool] = lambda _: True
) -> T:
    """Repeat a request whatever the gateway answers: the cluster may still be there."""

    def renew(error: DaskClaimError, pause: float) -> float:
        if isinstance(error, AuthenticationError):
            api.renew_credentials()
        return pause

    return await repeat(request, renew, done)


async def end_marked(api: GatewayApi, mark: str, on_found: Callable[[str], None]) -> Outcome:
    """End all clusters of this user that carry a run's mark.

    Until two looks find nothing: a request may still be on its way.
    """
    outcome, looks = Outcome.NOTHING, 0
    while True:
        reports = await persistently(api, api.clusters)
        left = [report for report in reports if mark_on(report) == mark]
        for report in left:
            if status_of(report) != "STOPPING":
                on_found(report.name)
        now = monotonic()
        await asyncio.gather(*(end_cluster(api, report.name, now) for report in left))
        outcome, looks = (Outcome.GONE, 0) if left else (outcome, looks + 1)
        if looks == 2:
            return outcome
        await asyncio.sleep(LOOK_AGAIN_AFTER)
