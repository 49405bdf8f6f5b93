"""Which of my clusters a gateway runs, who holds them, and stopping some."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from loguru import logger

from dask_claim.errors import ConfigurationError
from dask_claim.threads import run_loop

if TYPE_CHECKING:
    from dask_gateway.client import ClusterReport

    from dask_claim.claim.model import Resolved
    from dask_claim.providers.gateway.api import GatewayApi


# From a scheduler's start until its lease is placed, also on a machine that is busy; seconds.
LEASE_EXPECTED_WITHIN = 60.0


@dataclass(frozen=True)
class ListedCluster:
    """One cluster of this user."""

    name: str

    status: str
    """As the gateway says: pending, running or stopping."""

    age: float
    """Seconds since it was requested."""

    workers: int | None
    """Workers that are up; None where the scheduler did not tell."""

    lease: str
    """`live`: a launcher holds it. `kept`: it is shared, and waits for another run for a while.
    `silent`: its launchers are not heard any more. `none`: it has
    no lease, as a cluster that was made without dask-claim. `unreachable`: its scheduler does not
    answer, so nobody knows. `unknown`: it is not running."""

    needs_lease: bool = False
    """Whether a run of dask-claim has requested it to end with its launcher, as the mark on its
    request says, or else its lease."""

    share: str | None = None
    """The key of the runs that share it; None: it is not shared, or nobody can tell."""

    runs: int | None = None
    """Launchers that hold it; None where the scheduler did not tell."""

    ends_in: float | None = None
    """Seconds until a shared cluster that no run uses ends; None where it is used."""

    def orphaned(self, pending_after: float) -> bool:
        """Whether it is certain that nobody holds it, though a launcher should.

        Without a lease its age decides: no launcher waits for a scheduler longer than its
        --start-timeout, `pending_after` seconds, and then it places its lease.
        """
        if not self.needs_lease:
            return False
        if self.status == "pending":
            return self.age > pending_after
        if self.lease == "none":
            return self.age > pending_after + LEASE_EXPECTED_WITHIN
        return self.lease == "silent"


def find(resolved: Resolved) -> list[ListedCluster]:
    """Return the clusters of this user that are not gone, the oldest first.

    Raises
    ------
    ConfigurationError
        No gateway is configured.
    TemporaryError
        The gateway does not answer.
    """
    return run_loop(_find(resolved))


async def _find(resolved: Resolved) -> list[ListedCluster]:
    from dask_claim.providers.gateway.api import GatewayApi

    if resolved.claimed_gateway is None:
        raise ConfigurationError("no gateway: set DASK_CLAIM_GATEWAY_URL, or give --gateway-url")
    api = GatewayApi(resolved.claimed_gateway)
    try:
        reports = sorted(await api.clusters(), key=lambda report: report.start_time)
        return await asyncio.gather(*(_look(api, report) for report in reports))
    finally:
        await api.close()


def stop(resolved: Resolved, names: Sequence[str], timeout: float) -> dict[str, bool]:
    """End clusters by name; whether each is confirmed gone within `timeout` seconds."""
    from dask_claim.lifetime.reclaim import reclaim
    from dask_claim.providers.values import Outcome, Ticket

    assert resolved.claimed_gateway is not None
    facts = {"gateway": asdict(resolved.claimed_gateway)}
    tickets = [Ticket("gateway", facts, cluster_name=name) for name in names]

    async def end_all() -> list[Outcome]:
        ends = (reclaim(ticket, timeout, logger.warning) for ticket in tickets)
        return await asyncio.gather(*ends)

    outcomes = run_loop(end_all())
    return {name: outcome is Outcome.GONE for name, outcome in zip(names, outcomes, strict=True)}


async def _look(api: GatewayApi, report: ClusterReport) -> ListedCluster:
    from dask_claim.providers.gateway.reports import Mark, look_at, mark_on

    status = report.status.name
    look = await look_at(api, report.name) if status == "RUNNING" else None
    text = mark_on(report)
    mark = Mark.parse(text) if text is not None else None
    ends_cluster = look.ends_cluster if look else None
    # A mark that is not understood may mean anything.
    needs_lease = mark.leased and ends_cluster is not False if mark else not text and ends_cluster
    share = (look.share if look else None) or (mark.share if mark else None)
    return ListedCluster(
        report.name,
        status.lower(),
        # By the gateway's own clock, which may differ from the one here.
        age=time.time() + (api.clock_ahead or 0.0) - report.start_time.timestamp(),
        workers=look.workers if look else None,
        lease=look.hold.value if look else "unknown",
        needs_lease=bool(needs_lease),
        share=share.key if share else None,
        runs=look.holders if look else None,
        ends_in=look.ends_in if look else None,
    )
