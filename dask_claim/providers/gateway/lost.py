"""Clusters whose name nobody was told: the gateway's answer to a request was lost.

The gateway lists all clusters of the user, and others of them may belong to other launchers or to
a person. A cluster is taken for the lost one only if it was not there before the request, was
made while the request was open (by the gateway's own clock), with the same options, and nobody
has placed a lease on it some seconds after it was up, as every other launcher does at once.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dask_claim.providers.gateway.look import Hold, look_at_lease

if TYPE_CHECKING:
    from dask_gateway.client import ClusterReport

    from dask_claim.providers.gateway.api import GatewayApi

# Between the clocks of a gateway's machines, and for times that come in whole seconds.
CLOCK_SKEW = 5.0
# Every launcher places its lease within a second or two of a cluster's start.
LEASE_EXPECTED_WITHIN = 10.0


@dataclass(frozen=True)
class LostRequest:
    """A request for a cluster that was sent, and whose answer is not known."""

    before: list[str]
    """Names of the user's clusters before it."""

    sent: float
    """When it was sent, and below when it was given up; seconds since the epoch on this
    machine's clock, which may be wrong."""

    given_up: float

    options: dict[str, Any]
    """As they were requested."""

    def may_be(self, report: ClusterReport, clock_ahead: float | None) -> bool:
        """Whether the cluster may be the one that was requested.

        `clock_ahead`: seconds that the gateway's clock is ahead of this machine's; None where it
        does not tell the time.
        """
        if report.name in self.before or any(
            report.options.get(name) != value for name, value in self.options.items()
        ):
            return False
        if clock_ahead is None:
            return True
        start: float = report.start_time.timestamp() - clock_ahead
        return self.sent - CLOCK_SKEW <= start <= self.given_up + CLOCK_SKEW


async def find(api: GatewayApi, request: LostRequest) -> list[str]:
    """Names of the clusters that the request has left behind."""
    reports = await api.clusters()
    candidates = [report for report in reports if request.may_be(report, api.clock_ahead)]
    lost = await asyncio.gather(*(_is_unheld(api, report.name) for report in candidates))
    return [report.name for report, unheld in zip(candidates, lost, strict=True) if unheld]


async def _is_unheld(api: GatewayApi, name: str) -> bool:
    """Whether the cluster's scheduler says, some time after it was up, that it has no lease."""
    up_since = None
    now = asyncio.get_running_loop().time
    while True:
        report = await api.report(name)
        if report is None or report.status.name not in ("PENDING", "RUNNING"):
            return False
        if report.status.name == "RUNNING":
            up_since = up_since or now()
            look = await look_at_lease(report)
            if look.hold is not Hold.NONE:
                return False
            if now() - up_since > LEASE_EXPECTED_WITHIN:
                return True
        await asyncio.sleep(0.5)
