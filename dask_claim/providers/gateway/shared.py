"""Finding the cluster that a run shares among those of its user: by the marks, or by the leases."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from dask_claim.errors import DaskClaimError
from dask_claim.providers.gateway.reports import Look, Mark, look_at_lease, mark_on, status_of
from dask_claim.providers.share import Share

if TYPE_CHECKING:
    from dask_gateway.client import ClusterReport

    from dask_claim.providers.gateway.api import GatewayApi


async def find_shared(
    api: GatewayApi, share: Share, avoid: frozenset[str]
) -> tuple[ClusterReport | None, bool]:
    """Return the oldest cluster for the same key and request, and whether others have the key.

    All runs agree on the oldest: by the gateway's own time, then by name. `avoid`: names of those
    that have refused this run.
    """
    reports = [each for each in await api.clusters() if each.name not in avoid]
    there = [each for each in reports if status_of(each) in ("PENDING", "RUNNING")]
    shares = await asyncio.gather(*(_share_of(api, each) for each in there))
    of_key = [(each, one) for each, one in zip(there, shares, strict=True) if one]
    of_key = [(each, one) for each, one in of_key if one.key == share.key]
    same = [each for each, one in of_key if one == share]
    return min(same, key=age_and_name, default=None), len(of_key) > len(same)


def age_and_name(report: ClusterReport) -> tuple[float, str]:
    """Return by what the oldest cluster is chosen."""
    return report.start_time.timestamp(), str(report.name)


async def _share_of(api: GatewayApi, report: ClusterReport) -> Share | None:
    """Return with whom a listed cluster is shared; None: with nobody, or nobody can tell."""
    if (text := mark_on(report)) is not None:
        mark = Mark.parse(text)
        return mark.share if mark else None
    if status_of(report) != "RUNNING":
        return None
    look = await look_at(api, report.name)
    return look.share if look and not look.ending else None


async def look_at(api: GatewayApi, name: str) -> Look | None:
    """Look at the lease of a running cluster; None where it does not run, or nobody can tell."""
    try:
        # The list comes without the credentials that the scheduler wants.
        report = await api.report(name)
    except DaskClaimError:
        return None
    return await look_at_lease(report) if status_of(report) == "RUNNING" and report else None
