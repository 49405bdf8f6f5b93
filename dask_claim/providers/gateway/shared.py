"""Which cluster of a user those runs share that have the same key and the same request.

It is the oldest, by the gateway's own time, then by name. The mark on a request tells it while the
cluster is still starting; where a gateway takes no variables the lease does, once there is one.
"""

from __future__ import annotations

import asyncio
import time
from time import monotonic
from typing import TYPE_CHECKING, Any

from dask_claim.errors import DaskClaimError
from dask_claim.providers.gateway.reports import (
    Hold,
    Look,
    Mark,
    look_at_lease,
    mark_on,
    status_of,
)
from dask_claim.providers.share import Share

if TYPE_CHECKING:
    from dask_gateway.client import ClusterReport

    from dask_claim.providers.gateway.api import GatewayApi

# A launcher places its lease within seconds of its cluster's start; so long after the request an
# unmarked cluster without one is none of dask-claim's.
LEASED_WITHIN = 120.0
LEASED_SOON = 10.0
LOOK_AGAIN_AFTER = 0.5


class SharedClusters:
    """The clusters of one user, as a run that shares one sees them."""

    def __init__(self, api: GatewayApi, share: Share, avoid: frozenset[str]) -> None:
        """`avoid`: names of clusters that were of no use to this run."""
        self._api, self._share, self._avoid = api, share, avoid
        self.others = False
        """Whether there is one with the same key for another request."""

    async def oldest(self) -> str | None:
        """Return the name of the cluster that is shared; None: there is none yet."""
        same, _ = await self._sort(await self._there())
        return await self._first_that_stays(same)

    async def _first_that_stays(self, reports: list[ClusterReport]) -> str | None:
        for report in reports:
            # Its mark does not tell that it is about to end.
            running = status_of(report) == "RUNNING"
            look = await look_at(self._api, report.name) if running else None
            if look is None or not look.ending:
                return str(report.name)
        return None

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
            same, open_ones = await self._sort(older)
            if (name := await self._first_that_stays(same)) is not None:
                return name
            now = monotonic()
            alike = [each for each in open_ones if mine and each.options == mine.options]
            running = [each for each in alike if status_of(each) == "RUNNING"]
            times = [now - since.setdefault(each.name, now) for each in running]
            if len(running) == len(alike) and all(time > LEASED_SOON for time in times):
                return None
            await asyncio.sleep(LOOK_AGAIN_AFTER)

    async def _there(self) -> list[ClusterReport]:
        """Return those that run or will, the oldest first."""
        reports = [each for each in await self._api.clusters() if each.name not in self._avoid]
        return sorted((r for r in reports if status_of(r) in ("PENDING", "RUNNING")), key=_age)

    async def _sort(
        self, reports: list[ClusterReport]
    ) -> tuple[list[ClusterReport], list[ClusterReport]]:
        """Return those that are shared, and those of which it is not known yet."""
        found = await asyncio.gather(*map(self._share_of, reports))
        shares = list(zip(reports, found, strict=True))
        self.others = any(
            one is not None and one.key == self._share.key and one != self._share
            for _, one in shares
        )
        return (
            [each for each, one in shares if one == self._share],
            [each for each, one in shares if one is None and self._may_yet_tell(each)],
        )

    async def _share_of(self, report: ClusterReport) -> Share | None:
        if (text := mark_on(report)) is not None:
            mark = Mark.parse(text)
            return (mark.share if mark else None) or Share("", "")
        look = await look_at(self._api, report.name) if status_of(report) == "RUNNING" else None
        if look is None or look.hold in (Hold.NONE, Hold.UNREACHABLE):
            return None
        return look.share if look.share and not look.ending else Share("", "")

    def _may_yet_tell(self, report: ClusterReport) -> bool:
        ahead = self._api.clock_ahead
        return ahead is not None and _seconds_old(report, ahead) < LEASED_WITHIN


async def look_at(api: GatewayApi, name: str) -> Look | None:
    """Look at the lease of a running cluster; None where it does not run, or nobody can tell."""
    try:
        # The list comes without the credentials that the scheduler wants.
        report = await api.report(name)
    except DaskClaimError:
        return None
    return await look_at_lease(report) if status_of(report) == "RUNNING" and report else None


def _age(report: ClusterReport) -> tuple[Any, str]:
    return report.start_time, str(report.name)


def _seconds_old(report: ClusterReport, clock_ahead: float) -> float:
    return float(time.time() + clock_ahead - report.start_time.timestamp())
