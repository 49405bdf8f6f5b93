"""Ending what a ticket names, as far as it is certain that this is the run's own, and unused."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Mapping
from time import monotonic
from typing import TYPE_CHECKING, Any

from dask_claim.errors import DaskClaimError
from dask_claim.providers.gateway.api import GatewayApi
from dask_claim.providers.gateway.asking import STOP_REQUEST_TIMEOUT
from dask_claim.providers.gateway.ending import (
    LOOK_AGAIN_AFTER,
    client_of,
    end_cluster,
    end_marked,
    persistently,
    until_settled,
)
from dask_claim.providers.gateway.reports import Hold, look_at_lease, mark_on, status_of
from dask_claim.providers.values import Outcome

if TYPE_CHECKING:
    from dask_gateway.client import ClusterReport

    from dask_claim.providers.values import Ticket

# Between the clocks of a gateway's machines, and for times that come in whole seconds.
CLOCK_SKEW = 5.0
# Every launcher places its lease within a second or two of a cluster's start.
LEASE_EXPECTED_WITHIN = 10.0


async def end_all_of(ticket: Ticket, timeout: float, warn: Callable[[str], None]) -> Outcome:
    """End what a ticket names; `timeout` seconds are there for all of it."""
    made, requested = ticket.facts.get("made"), ticket.facts.get("requested") or {}
    name = ticket.cluster_name
    if not (name or made or requested):
        return Outcome.NOTHING
    # A client of its own: that of the run may hold a connection that hangs.
    api = await client_of(ticket, min(STOP_REQUEST_TIMEOUT, timeout / 2), warn)
    warnings: list[str] = []

    def warn_of(text: str) -> None:
        warnings.append(text)
        warn(text)

    try:
        if made is not None:
            return await _end_made(api, made, warn)
        if name is not None:
            named_at = ticket.facts.get("named_at")
            if ticket.facts.get("shared"):
                return await end_unused(api, name, named_at, warn)
            await end_cluster(api, name, named_at)
            if not requested.get("repeated"):
                return Outcome.GONE
        if ticket.facts.get("shared") and (mark := requested.get("mark")):
            return await _end_unused_marked(api, mark, warn)
        lost = await end_lost(api, requested, warn_of)
        return Outcome.GONE if name else lost
    except asyncio.CancelledError:
        if requested and name is None and not warnings:
            warn(
                f"{api.where} may have made a cluster although its answer was lost; it could not "
                "be looked for (dask-claim clusters lists yours)"
            )
        raise
    finally:
        with contextlib.suppress(Exception):
            await api.close()


async def _end_made(
    api: GatewayApi, made: Mapping[str, Any], warn: Callable[[str], None]
) -> Outcome:
    """End the clusters that a command has made and left, `made` being its ticket's."""
    if made["option"] is not None:
        left = "cluster {}, which the command has made, is left: it is stopped"
        return await end_marked(api, made["mark"], lambda name: warn(left.format(name)))
    # Nothing tells whose cluster is whose: what is new and held by no launcher is only named.
    with contextlib.suppress(DaskClaimError):
        new = [each.name for each in await api.clusters() if each.name not in made["before"]]
        reports = [report for name in new if (report := await api.report(name)) is not None]
        running = [report for report in reports if status_of(report) == "RUNNING"]
        looks = await asyncio.gather(*map(look_at_lease, running))
        held = {
            each.name for each, look in zip(running, looks, strict=True) if look.hold is Hold.LIVE
        }
        if unheld := [report.name for report in reports if report.name not in held]:
            warn(
                f"clusters of yours on {api.where} that are new since this run began: "
                f"{', '.join(unheld)}. This gateway cannot tell whether the command has made them; "
                "`dask-claim clusters stop NAME` ends them"
            )
    return Outcome.NOTHING


async def end_unused(
    api: GatewayApi,
    name: str,
    made: float | None = None,
    warn: Callable[[str], None] = lambda _: None,
) -> Outcome:
    """As `end_cluster`, but not where other runs that share the cluster use it, or may join it."""
    # The look comes last: nothing lies between it and the request in which a run could join.
    await until_settled(made)
    if not await _is_unused(api, name, warn):
        return Outcome.KEPT
    await end_cluster(api, name)
    return Outcome.GONE


async def _end_unused_marked(api: GatewayApi, mark: str, warn: Callable[[str], None]) -> Outcome:
    """End what a run has requested to share whose answer was lost, where nobody uses it."""
    reports = await persistently(api, api.clusters)
    names = [each.name for each in reports if mark_on(each) == mark]
    outcomes = await asyncio.gather(*(end_unused(api, name, monotonic(), warn) for name in names))
    return Outcome.of_all(outcomes)


async def _is_unused(api: GatewayApi, name: str, warn: Callable[[str], None]) -> bool:
    """Whether no run uses a cluster that may be shared, once that is certain.

    One that is still pending nobody uses: runs that wait for it request another one. `warn` is
    called where the time is over before the scheduler has answered.
    """
    asked = False
    try:
        while True:
            report = await persistently(api, lambda: api.report(name))
            if report is None or status_of(report) != "RUNNING":
                return True
            asked = True
            look = await look_at_lease(report)
            if look.hold is not Hold.UNREACHABLE:
                return look.hold is Hold.NONE or (look.hold is Hold.SILENT and not look.ending)
            await asyncio.sleep(LOOK_AGAIN_AFTER)
    except asyncio.CancelledError:
        if asked:
            warn(
                f"the scheduler of cluster {name} does not answer whether other runs use it, so it "
                f"stays; `dask-claim clusters stop {name}` ends it"
            )
        raise


async def end_lost(
    api: GatewayApi, requested: Mapping[str, Any], warn: Callable[[str], None]
) -> Outcome:
    """End what a request has left behind whose answer was lost; `requested` is its ticket's.

    A gateway that takes variables tells it by the run's mark. Elsewhere a cluster is taken for it
    that was not there before, was made while the request was open, with the same options, and
    whose scheduler says, some seconds after it was up, that it has no lease, as every launcher
    places one at once.
    """
    made = "Cluster {} was made although the gateway's answer was lost"
    if mark := requested.get("mark"):
        return await end_marked(api, mark, lambda name: warn(made.format(name)))
    requested = {"given_up": time.time(), **requested}

    async def end_if_lost(name: str) -> Outcome:
        unheld = await _is_unheld(api, name)
        if unheld is None:
            warn(
                f"cluster {name} may be the one that was made although the gateway's answer was "
                "lost. Its scheduler does not answer, so it stays; `dask-claim clusters stop "
                f"{name}` ends it"
            )
            return Outcome.NOT_CONFIRMED
        if not unheld:
            return Outcome.NOTHING
        warn(made.format(name))
        await end_cluster(api, name, monotonic())
        return Outcome.GONE

    reports = await persistently(api, api.clusters)
    similar = [each.name for each in reports if _may_be(each, requested, api.clock_ahead)]
    return Outcome.of_all(await asyncio.gather(*map(end_if_lost, similar)))


def _may_be(report: ClusterReport, requested: Mapping[str, Any], ahead: float | None) -> bool:
    """Whether a cluster may be the one that was requested.

    `requested`: the names `before` it, its `options`, and when it was `sent` and `given_up`, by
    this machine's clock. The gateway's is so many seconds `ahead`; None: it does not tell the time.
    """
    options = requested["options"].items()
    if report.name in requested["before"]:
        return False
    if any(report.options.get(name) != value for name, value in options):
        return False
    earliest, latest = requested["sent"] - CLOCK_SKEW, requested["given_up"] + CLOCK_SKEW
    return ahead is None or bool(earliest <= report.start_time.timestamp() - ahead <= latest)


async def _is_unheld(api: GatewayApi, name: str) -> bool | None:
    """Whether the cluster's scheduler says, some time after it was up, that it has no lease.

    None where it says nothing for so long.
    """
    up_since = None
    while True:
        report = await persistently(api, lambda: api.report(name))
        if report is None or status_of(report) not in ("PENDING", "RUNNING"):
            return False
        if status_of(report) == "RUNNING":
            up_since = up_since or monotonic()
            look = await look_at_lease(report)
            if look.hold in (Hold.LIVE, Hold.SILENT) or look.ends_cluster is not None:
                return False  # a launcher has been there
            if monotonic() - up_since > LEASE_EXPECTED_WITHIN:
                return True if look.hold is Hold.NONE else None
        await asyncio.sleep(0.5)
