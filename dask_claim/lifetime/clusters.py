"""`dask-claim clusters`: which of my clusters a gateway runs, who holds them, and stopping some."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from loguru import logger

from dask_claim.errors import ConfigurationError

if TYPE_CHECKING:
    from dask_gateway.client import ClusterReport

    from dask_claim.claim.model import Resolved
    from dask_claim.providers.gateway.api import GatewayApi


@dataclass(frozen=True)
class Cluster:
    """One cluster of this user."""

    name: str

    status: str
    """As the gateway says: pending, running or stopping."""

    age: float
    """Seconds since it was requested."""

    workers: int | None
    """Workers that are up; None where the scheduler did not tell."""

    lease: str
    """`live`: a launcher holds it. `silent`: its launcher is not heard. `none`: it has no lease,
    as a cluster that was made without dask-claim. `unknown`: it is not running."""

    def orphaned(self, pending_after: float) -> bool:
        """Whether nobody holds it as far as can be told.

        A pending one has no lease yet, so its age decides: no launcher waits for longer than its
        --start-timeout. `pending_after` is in seconds.
        """
        if self.status == "pending":
            return self.age > pending_after
        return self.lease in ("none", "silent")


def find(resolved: Resolved) -> list[Cluster]:
    """The clusters of this user that are not gone, the oldest first.

    Raises
    ------
    ConfigurationError
        No gateway is configured.
    TemporaryError
        The gateway does not answer.
    """
    return asyncio.run(_with_api(resolved, _find))


def stop(resolved: Resolved, names: Sequence[str], timeout: float) -> dict[str, bool]:
    """End clusters by name; whether each is confirmed gone within `timeout` seconds."""
    from dask_claim.lifetime.reclaim import reclaim
    from dask_claim.providers.values import Outcome, Ticket

    tickets = [
        Ticket.of_gateway(resolved.claim, resolved.credentials_allowed, cluster_name=name)
        for name in names
    ]

    async def end_all() -> list[Outcome]:
        return await asyncio.gather(
            *(reclaim(ticket, timeout, logger.warning) for ticket in tickets)
        )

    outcomes = asyncio.run(end_all())
    return {name: outcome is Outcome.GONE for name, outcome in zip(names, outcomes, strict=True)}


async def _with_api(resolved: Resolved, work: Any) -> Any:
    from dask_claim.providers.gateway.api import GatewayApi

    if not resolved.claim.gateway_url:
        raise ConfigurationError(
            "no gateway to ask: set DASK_CLAIM_GATEWAY_URL, or give --gateway-url"
        )
    api = GatewayApi(resolved.claim, credentials=resolved.credentials_allowed)
    try:
        return await work(api)
    finally:
        await api.close()


async def _find(api: GatewayApi) -> list[Cluster]:
    reports = sorted(await api.clusters(), key=lambda report: report.start_time)
    return await asyncio.gather(*(_look(api, report) for report in reports))


async def _look(api: GatewayApi, report: ClusterReport) -> Cluster:
    from dask_claim.providers.gateway.lost import is_silent, look_at_lease

    status = report.status.name.lower()
    # By the gateway's own clock, which may differ from the one here.
    age = time.time() + (api.clock_ahead or 0.0) - report.start_time.timestamp()
    if status != "running":
        return Cluster(report.name, status, age, None, "unknown")
    # The list comes without the credentials that the scheduler wants.
    full = await api.report(report.name)
    look = await look_at_lease(full) if full is not None else None
    if look is None:
        return Cluster(report.name, status, age, None, "none")
    lease = "silent" if is_silent(look) else "live"
    return Cluster(report.name, status, age, look["workers"], lease)


def as_json(clusters: Sequence[Cluster]) -> str:
    return json.dumps([asdict(cluster) for cluster in clusters], indent=2)


def as_text(clusters: Sequence[Cluster]) -> str:
    """A table, or one line where there is nothing."""
    if not clusters:
        return "no clusters"
    rows = [("NAME", "STATUS", "AGE", "WORKERS", "LEASE")]
    for cluster in clusters:
        workers = "?" if cluster.workers is None else str(cluster.workers)
        rows.append((cluster.name, cluster.status, _age(cluster.age), workers, cluster.lease))
    widths = [max(len(row[column]) for row in rows) for column in range(5)]
    return "\n".join(
        "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )


def _age(seconds: float) -> str:
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{max(seconds, 0):.0f} s"
