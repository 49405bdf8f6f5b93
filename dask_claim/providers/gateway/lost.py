"""Clusters whose name nobody was told: the gateway's answer to a request was lost.

Where the gateway takes variables the request carries the run's mark, and its cluster is found by
that. Elsewhere the gateway lists all clusters of the user, and others of them may belong to other
launchers or to a person. A cluster is taken for the lost one only if it was not there before the
request, was made while the request was open (by the gateway's own clock), with the same options,
and its scheduler says, some seconds after it was up, that it has no lease, as every other
launcher places one at once.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from time import monotonic
from typing import TYPE_CHECKING, Any

from dask_claim.providers.gateway.ending import end_cluster, end_marked, persistently
from dask_claim.providers.gateway.look import Hold, look_at_lease
from dask_claim.providers.values import Outcome

if TYPE_CHECKING:
    from dask_gateway.client import ClusterReport

    from dask_claim.providers.gateway.api import GatewayApi

Tell = Callable[[str], None]

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


async def end_lost(api: GatewayApi, requested: Mapping[str, Any], tell: Tell) -> Outcome:
    """End what a request has left behind; `requested` is what its ticket says of it."""
    made = "Cluster {} was made although the gateway's answer was lost"
    if mark := requested.get("mark"):
        ended = await end_marked(api, mark, lambda name: tell(made.format(name)))
        return Outcome.GONE if ended else Outcome.NOTHING
    request = LostRequest(**{"given_up": time.time(), **requested})

    async def end_if_lost(name: str) -> Outcome:
        unheld = await _is_unheld(api, name)
        if unheld is None:
            tell(
                f"cluster {name} may be the one that was made although the gateway's answer was "
                "lost. Its scheduler does not answer, so it stays; `dask-claim clusters stop "
                f"{name}` ends it"
            )
            return Outcome.NOT_CONFIRMED
        if not unheld:
            return Outcome.NOTHING
        tell(made.format(name))
        await end_cluster(api, name, monotonic())
        return Outcome.GONE

    reports = await persistently(api, api.clusters)
    found = [report.name for report in reports if request.may_be(report, api.clock_ahead)]
    return Outcome.of_all(await asyncio.gather(*map(end_if_lost, found)))


async def _is_unheld(api: GatewayApi, name: str) -> bool | None:
    """Whether the cluster's scheduler says, some time after it was up, that it has no lease.

    None where it says nothing for so long.
    """
    up_since = None
    while True:
        report = await persistently(api, lambda: api.report(name))
        if report is None or report.status.name not in ("PENDING", "RUNNING"):
            return False
        if report.status.name == "RUNNING":
            up_since = up_since or monotonic()
            look = await look_at_lease(report)
            if look.hold in (Hold.LIVE, Hold.SILENT) or look.ends_cluster is not None:
                return False  # a launcher has been there
            if monotonic() - up_since > LEASE_EXPECTED_WITHIN:
                return True if look.hold is Hold.NONE else None
        await asyncio.sleep(0.5)
