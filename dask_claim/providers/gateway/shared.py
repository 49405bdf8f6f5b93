"""A gateway's cluster that several runs share: one of them requests it, the others join.

It is the oldest one of a user with the same key and the same request, by the gateway's own time,
then by name. The mark on a request tells it while the cluster is still starting; where a gateway
takes no variables the lease does, once there is one.
"""

from __future__ import annotations

import asyncio
import time
from time import monotonic
from typing import TYPE_CHECKING, Any

from loguru import logger

from dask_claim.errors import ClusterFailed, ClusterGone, LimitReached, TemporaryError
from dask_claim.providers.gateway.provider import GatewayProvider
from dask_claim.providers.gateway.reports import Hold, Mark, look_at, mark_on, status_of
from dask_claim.providers.share import Share
from dask_claim.providers.values import Outcome, Request, Ticket, Warn, Write

if TYPE_CHECKING:
    from dask_gateway.client import ClusterReport
    from dask_gateway.options import Options

    from dask_claim.providers.gateway.api import GatewayApi

# A launcher places its lease within seconds of its cluster's start; so long after the request an
# unmarked cluster without one is none of dask-claim's.
LEASED_WITHIN = 120.0
LEASED_SOON = 10.0
LOOK_AGAIN_AFTER = 0.5

OTHER_REQUEST = (
    "share: a cluster for {key!r} is there for another request (image, options, size of a worker, "
    "GPUs, environment, no_workers_timeout or versions): this run does not use that one"
)
NOT_SHARED = Share("", "")


class SharedClusters:
    """The clusters of one user, as a run that shares one sees them."""

    def __init__(self, api: GatewayApi, share: Share, avoid: frozenset[str]) -> None:
        """`avoid`: names of clusters that were of no use to this run."""
        self._api, self._share, self._avoid = api, share, avoid
        self.others = False
        """Whether there is one with the same key for another request."""

    async def oldest(self) -> str | None:
        """Return the name of the cluster that is shared; None: there is none yet."""
        name, _ = await self._sort(await self._there())
        return name

    async def older_than(self, own: str) -> str | None:
        """Return the name of an older one than this run's own; None: its own is the oldest.

        Where it cannot be seen yet whether an older one is shared, it is waited for: not by two
        runs for each other, since only the younger one waits.
        """
        since: dict[str, float] = {}
        while True:
            there = await self._there()
            mine = next((each for each in there if each.name == own), None)
            older = [each for each in there if mine and _age(each) < _age(mine)]
            name, unclear = await self._sort(older)
            now = monotonic()
            if name is not None or not any(
                status_of(each) != "RUNNING"
                or now - since.setdefault(each.name, now) <= LEASED_SOON
                for each in unclear
                if mine and each.options == mine.options
            ):
                return name
            await asyncio.sleep(LOOK_AGAIN_AFTER)

    async def _there(self) -> list[ClusterReport]:
        """Return those that run or will, the oldest first."""
        reports = [each for each in await self._api.clusters() if each.name not in self._avoid]
        return sorted((r for r in reports if status_of(r) in ("PENDING", "RUNNING")), key=_age)

    async def _sort(self, reports: list[ClusterReport]) -> tuple[str | None, list[ClusterReport]]:
        """Return the name of the first that is shared, and those of which it is not clear yet."""
        shares = await asyncio.gather(*map(self._share_of, reports))
        self.others = any(
            share is not None and share.key == self._share.key and share != self._share
            for share in shares
        )
        found = list(zip(reports, shares, strict=True))
        unclear = [each for each, share in found if share is None and self._may_yet_tell(each)]
        return next((str(r.name) for r, share in found if share == self._share), None), unclear

    async def _share_of(self, report: ClusterReport) -> Share | None:
        """Return what a cluster takes runs for; None: nobody can tell."""
        share = None
        if (text := mark_on(report)) is not None:
            mark = Mark.parse(text)
            share = (mark.share if mark else None) or NOT_SHARED
        if status_of(report) != "RUNNING" or share not in (None, self._share):
            return share
        look = await look_at(self._api, report.name)
        if look is None or look.hold in (Hold.NONE, Hold.UNREACHABLE):
            return share
        # Its mark does not tell that it is about to end.
        return NOT_SHARED if look.ending else share or look.share or NOT_SHARED

    def _may_yet_tell(self, report: ClusterReport) -> bool:
        ahead = self._api.clock_ahead
        return ahead is not None and _seconds_old(report, ahead) < LEASED_WITHIN


def _age(report: ClusterReport) -> tuple[Any, str]:
    return report.start_time, str(report.name)


def _seconds_old(report: ClusterReport, clock_ahead: float) -> float:
    return float(time.time() + clock_ahead - report.start_time.timestamp())


class SharedGatewayProvider(GatewayProvider):
    """The one cluster of all runs with the same key and request, or this run's own until then.

    Which one that is all of them see alike. Its scheduler has the last word: it may refuse a run,
    which then starts over.
    """

    shares = True

    def __init__(self, request: Request, write: Write, warn: Warn) -> None:
        super().__init__(request, write, warn)
        # Nobody ends it by this ticket while others use it.
        self._ticket = self._ticket.with_({"shared": True})
        self._has_told = False

    async def _request(self, api: GatewayApi, options: Options) -> None:
        if await self._join(api):
            return
        try:
            await self._create(api, options)
        except LimitReached:
            # Another run may have taken the last place at this moment, for both.
            if not await self._join(api):
                raise
            return
        await self._give_way()

    async def wait_until_running(self) -> None:
        try:
            await super().wait_until_running()
        except ClusterFailed as error:
            if not self.joined:
                raise
            raise ClusterGone(f"the shared cluster {self._name} is gone: {error}") from error

    async def agree(self) -> None:
        while not self.joined and await self._give_way():
            await self.wait_until_running()

    def shared_ticket(self) -> Ticket | None:
        return self._ticket

    def _clusters(self, api: GatewayApi) -> SharedClusters:
        assert self.request.share is not None
        return SharedClusters(api, self.request.share, self.request.avoid)

    async def _join(self, api: GatewayApi) -> bool:
        clusters = self._clusters(api)
        name = await clusters.oldest()
        if clusters.others and not self._has_told:
            self._has_told = True
            logger.info(OTHER_REQUEST.format(key=self.request.claim.share))
        return name is not None and self._use(api, name)

    async def _give_way(self) -> bool:
        """Where two runs have requested one at the same time: use the older, give this one back."""
        from dask_claim.providers.gateway.reclaiming import Ending

        api, own = self._api, self._name
        assert api is not None and own is not None
        try:
            older = await self._clusters(api).older_than(own)
        except TemporaryError:
            return False  # this one serves as well
        if older is None:
            return False
        # One that others have joined meanwhile stays theirs.
        outcome = await Ending(api, lambda _: None).end_unused(own, monotonic())
        logger.info(
            f"Cluster {own} is {'given back' if outcome is Outcome.GONE else 'left to others'}: "
            f"{older}, which is older, is shared"
        )
        self._write(self._ticket)
        return self._use(api, older)

    def _use(self, api: GatewayApi, name: str) -> bool:
        self._name, self.joined = name, True
        self.cluster = api.cluster(name, None)
        return True
