"""Ending what a ticket names, as far as it is certain that this is the run's own, and unused.

Everything here goes on until it is done; the caller bounds the time.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Collection, Mapping
from functools import cache
from time import monotonic
from typing import TYPE_CHECKING, Any, TypeVar

from dask_claim.claim.addresses import GatewayAddress
from dask_claim.errors import AuthenticationError, DaskClaimError, TemporaryError
from dask_claim.providers.gateway.api import GatewayApi
from dask_claim.providers.gateway.asking import STOP_REQUEST_TIMEOUT, repeat
from dask_claim.providers.gateway.reports import Hold, look_at, look_at_lease, mark_on, status_of
from dask_claim.providers.values import Outcome

if TYPE_CHECKING:
    from dask_gateway.client import ClusterReport

    from dask_claim.providers.values import Ticket

T = TypeVar("T")

SETTLED_AFTER = 1.0
"""Seconds from the gateway's answer until a cluster may be ended: the controller on Kubernetes
forgets the pod of a scheduler whose cluster is deleted while it is being made."""

GONE = ("STOPPED", "FAILED", "UNKNOWN")
POLL = 0.1
# A request that was on its way when the command ended is in the gateway's list at once.
LOOK_AGAIN_AFTER = 0.5
# Every launcher places its lease within a second or two of a cluster's start.
LEASE_EXPECTED_WITHIN = 10.0

LOST = "Cluster {} was made although the gateway's answer was lost"
LEFT = "cluster {}, which the command has made, is left: it is stopped"


async def end_all_of(ticket: Ticket, timeout: float, warn: Callable[[str], None]) -> Outcome:
    """End what a ticket names; `timeout` seconds are there for all of it."""
    if not (ticket.cluster_name or ticket.facts.get("made") or ticket.facts.get("requested")):
        return Outcome.NOTHING
    # A client of its own: that of the run may hold a connection that hangs.
    api = await client_of(ticket, min(STOP_REQUEST_TIMEOUT, timeout / 2), warn)
    try:
        return await Ending(api, warn).end_all_of(ticket)
    finally:
        with contextlib.suppress(Exception):
            await api.close()


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


async def until_settled(made: float | None) -> None:
    """Return when a cluster may be ended.

    `made`: when the gateway answered with its name, by this machine's monotonic clock, which all
    of its processes share; None where that is long ago.
    """
    if made is not None:
        # Another machine's clock, or that of a boot before this one, says nothing.
        await asyncio.sleep(min(max(made + SETTLED_AFTER - monotonic(), 0.0), SETTLED_AFTER))


class Ending:
    """Ends clusters of one gateway; `warn` is called with lines for a person."""

    def __init__(self, api: GatewayApi, warn: Callable[[str], None]) -> None:
        self._api, self._warn = api, warn

    async def end_all_of(self, ticket: Ticket) -> Outcome:
        """End what a ticket names."""
        facts, name = ticket.facts, ticket.cluster_name
        if (made := facts.get("made")) is not None:
            if made["option"] is not None:
                return await self._end_marked(made["mark"], self.end, LEFT)
            return await self._name_new(made["before"])
        end = self.end_unused if facts.get("shared") else self.end
        outcomes = [] if name is None else [await end(name, facts.get("named_at"))]
        requested = facts.get("requested") or {}
        try:
            if requested and (name is None or requested.get("repeated")):
                if mark := requested.get("mark"):
                    outcomes.append(await self._end_marked(mark, end, LOST))
                else:
                    outcomes.append(await self._end_guessed(requested))
        except asyncio.CancelledError:
            if name is None:
                self._warn(
                    f"{self._api.where} may have made a cluster although its answer was lost; it "
                    "is not certain that it is gone (dask-claim clusters lists yours)"
                )
            raise
        return Outcome.of_all(outcomes)

    async def end(self, name: str, made: float | None = None) -> Outcome:
        """End a cluster and return when it is gone; `made` as for `until_settled`."""
        await until_settled(made)

        async def delete() -> None:
            await self._api.delete(name)
            pause = POLL
            while status_of(await self._api.report(name)) not in GONE:
                await asyncio.sleep(pause)
                pause = min(1.2 * pause, 1.0)

        await self._ask(delete)
        return Outcome.GONE

    async def end_unused(self, name: str, made: float | None = None) -> Outcome:
        """As `end`, but not where other runs that share the cluster use it, or may join it."""
        # The look comes last: nothing lies between it and the request in which a run could join.
        await until_settled(made)
        return await self.end(name) if await self._is_unused(name) else Outcome.KEPT

    async def _is_unused(self, name: str) -> bool:
        """Whether no run uses a cluster that may be shared, once that is certain.

        One that is still pending nobody uses: runs that wait for it request another one.
        """
        try:
            while True:
                report = await self._ask(lambda: self._api.report(name))
                if report is None or status_of(report) != "RUNNING":
                    return True
                look = await look_at_lease(report)
                if look.hold is not Hold.UNREACHABLE:
                    return look.hold is Hold.NONE or (look.hold is Hold.SILENT and not look.ending)
                await asyncio.sleep(LOOK_AGAIN_AFTER)
        except asyncio.CancelledError:
            self._warn(
                f"nobody answers whether other runs use cluster {name}, so it stays; `dask-claim "
                f"clusters stop {name}` ends it"
            )
            raise

    async def _end_marked(
        self, mark: str, end: Callable[[str, float | None], Awaitable[Outcome]], warning: str
    ) -> Outcome:
        """Have `end` end all clusters of this user that carry a run's mark.

        Until two looks find no other one: a request may still be on its way.
        """
        outcomes: dict[str, Outcome] = {}
        looks = 0
        while True:
            reports = await self._ask(self._api.clusters)
            new = [each for each in reports if mark_on(each) == mark and each.name not in outcomes]
            for report in new:
                if status_of(report) != "STOPPING":
                    self._warn(warning.format(report.name))
            now = monotonic()
            ended = await asyncio.gather(*(end(report.name, now) for report in new))
            outcomes |= {report.name: outcome for report, outcome in zip(new, ended, strict=True)}
            looks = 0 if new else looks + 1
            if looks == 2:
                return Outcome.of_all([*outcomes.values()])
            await asyncio.sleep(LOOK_AGAIN_AFTER)

    async def _end_guessed(self, requested: Mapping[str, Any]) -> Outcome:
        """End what a request without a mark has left behind whose answer was lost.

        A cluster is taken for it that was not there before, has the same options, and whose
        scheduler says, some seconds after it was up, that it has no lease, as every launcher places
        one at once. `requested` is the ticket's.
        """
        reports = await self._ask(self._api.clusters)
        similar = [each.name for each in reports if _may_be(each, requested)]
        return Outcome.of_all(await asyncio.gather(*map(self._end_unheld, similar)))

    async def _end_unheld(self, name: str) -> Outcome:
        for seconds in (0.0, LEASE_EXPECTED_WITHIN):
            await asyncio.sleep(seconds)
            report = await self._ask(lambda: self._api.settled(name))
            if report is None or status_of(report) != "RUNNING":
                return Outcome.NOTHING
            look = await look_at_lease(report)
            if look.hold in (Hold.LIVE, Hold.SILENT, Hold.KEPT) or look.ends_cluster is not None:
                return Outcome.NOTHING  # a launcher has been there
        if look.hold is Hold.UNREACHABLE:
            self._warn(
                f"cluster {name} may be the one that was made although the gateway's answer was "
                "lost. Its scheduler does not answer, so it stays; `dask-claim clusters stop "
                f"{name}` ends it"
            )
            return Outcome.NOT_CONFIRMED
        self._warn(LOST.format(name))
        return await self.end(name, monotonic())

    async def _name_new(self, before: Collection[str]) -> Outcome:
        """Warn of what is new, where nothing tells whether the command has made it."""
        with contextlib.suppress(DaskClaimError):
            new = [each.name for each in await self._api.clusters() if each.name not in before]
            looks = await asyncio.gather(*(look_at(self._api, name) for name in new))
            held = [look is not None and look.hold is Hold.LIVE for look in looks]
            if unheld := [name for name, one in zip(new, held, strict=True) if not one]:
                self._warn(
                    f"clusters of yours on {self._api.where} that are new since this run began: "
                    f"{', '.join(unheld)}. This gateway cannot tell whether the command has made "
                    "them; `dask-claim clusters stop NAME` ends them"
                )
        return Outcome.NOTHING

    async def _ask(self, request: Callable[[], Awaitable[T]]) -> T:
        """Repeat a request whatever the gateway answers: the cluster may still be there."""

        def renew(error: DaskClaimError, pause: float) -> float:
            if isinstance(error, AuthenticationError):
                self._api.renew_credentials()
            return pause

        return await repeat(request, renew)


def _may_be(report: ClusterReport, requested: Mapping[str, Any]) -> bool:
    """Whether a cluster may be the one that was requested.

    `requested`: the names that there were `before` it, and its `options`.
    """
    options = requested["options"].items()
    is_new = report.name not in requested["before"]
    return is_new and all(report.options.get(name) == value for name, value in options)
