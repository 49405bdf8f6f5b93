"""A cluster's run, by the mark in its variables, and its lease, by its scheduler.

The gateway's list repeats the options of a request, so a cluster whose name was lost is recognised
by its mark. A scheduler that is busy, behind a network that is down, or unknown to the proxy is
unreachable: who holds its cluster is unknown, so it is not ended.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any

from dask_claim.errors import DaskClaimError
from dask_claim.providers.share import Share, told_by_others
from dask_claim.providers.usage import LOOK, RENOUNCED
from dask_claim.threads import in_time

if TYPE_CHECKING:
    from dask_gateway.client import ClusterReport

    from dask_claim.providers.gateway.api import GatewayApi

MARK = "CLAIMED_BY_RUN"
"""Not one of Dask's variables, and not the one of the command's own processes (`choice.RUN_ID`):
on a gateway's own machine a guard would take scheduler and workers for the command."""

VERSION = "1"

LOOK_TIMEOUT = 5.0


@dataclass(frozen=True)
class Mark:
    """Which run has requested a cluster, and how it is to be held.

    Its text begins with the version, the kind, and the run's id, which every version reads so;
    that of a shared cluster goes on with the digest of the request and the key.
    """

    run_id: str

    leased: bool
    """Whether a lease ends the cluster with its launcher; a program's own cluster has none."""

    share: Share | None = None

    def __str__(self) -> str:
        parts = [VERSION, "lease" if self.leased else "no-lease", self.run_id]
        return ":".join([*parts, self.share.digest, self.share.key] if self.share else parts)

    @classmethod
    def parse(cls, text: str) -> Mark | None:
        """Read a mark; None where it is not understood, as that of another version."""
        version, kind, run_id, digest, key = [*text.split(":", 4), *[""] * 4][:5]
        if version != VERSION or kind not in ("lease", "no-lease"):
            return None
        return cls(run_id, kind == "lease", told_by_others(key, digest))


def status_of(report: ClusterReport | None) -> str:
    """Return the gateway's word for a cluster's state, such as RUNNING; UNKNOWN: it has none."""
    return str(report.status.name) if report else "UNKNOWN"


def mark_on(report: ClusterReport) -> str | None:
    """Return the mark on a cluster, as it was written; None where there is none."""
    for value in report.options.values():
        if isinstance(value, Mapping) and isinstance(mark := value.get(MARK), str):
            return mark
    return None


class Hold(Enum):
    """Who holds a running cluster."""

    LIVE = "live"
    """A launcher, which was heard in time."""

    KEPT = "kept"
    """Nobody, but other runs that share it may still join: it ends in time by itself."""

    SILENT = "silent"
    """Nobody any more: the scheduler has given up every launcher that held it."""

    NONE = "none"
    """Nobody has ever placed a lease: the scheduler answers that it knows of none."""

    UNREACHABLE = "unreachable"
    """Nobody knows: the scheduler does not answer, or its answer is not understood."""


@dataclass(frozen=True)
class Look:
    """What a scheduler says of the lease on its cluster."""

    hold: Hold

    workers: int | None = None
    """Workers that are up; None where the scheduler does not tell."""

    ends_cluster: bool | None = None
    """Whether the cluster is to end with a launcher; None where no launcher has been there."""

    holders: int | None = None
    """Launchers that hold it; None where the scheduler does not tell."""

    share: Share | None = None
    """Which runs may use the cluster together, where its lease says so."""

    ends_in: float | None = None
    """Seconds until a shared cluster that no run uses ends; None where it is used."""

    ending: bool = False
    """Whether it ends now, and takes no run any more."""


async def look_at_lease(report: ClusterReport) -> Look:
    """Ask the scheduler of a running cluster; `report` has its address and credentials."""
    try:
        return _understood(await in_time(_ask(report), LOOK_TIMEOUT))
    except Exception:
        # Whatever was in the way: connection, TLS, time, an error of the scheduler's.
        return Look(Hold.UNREACHABLE)


async def look_at(api: GatewayApi, name: str) -> Look | None:
    """Look at the lease of a cluster; None where it does not run."""
    try:
        # A list comes without the credentials that the scheduler wants.
        report = await api.report(name)
    except DaskClaimError:
        return Look(Hold.UNREACHABLE)
    return await look_at_lease(report) if report and status_of(report) == "RUNNING" else None


async def _ask(report: ClusterReport) -> Any:
    from distributed.comm import connect
    from distributed.core import send_recv

    connection = report.security.get_connection_args("client") if report.security else {}
    # A stranger's scheduler may not have Python objects made here.
    comm = await connect(
        report.scheduler_address, timeout=LOOK_TIMEOUT, deserialize=False, **connection
    )
    try:
        answer = await send_recv(comm, op=LOOK)
        if answer is None:
            # Dask's answer to a call that its scheduler does not know, in every version.
            events = await send_recv(comm, op="events", topic=RENOUNCED)
            return events[-1][1] if events else {}
        return answer
    finally:
        comm.abort()


def _understood(answer: Any) -> Look:
    ends_cluster = answer.get("ends_cluster")
    if not isinstance(ends_cluster, bool):
        ends_cluster = None
    if "holders" not in answer and answer.keys() <= {"version", "ends_cluster"}:
        return Look(Hold.NONE, None, ends_cluster)
    holders, workers = answer["holders"], answer["workers"]
    if type(holders) is not int or type(workers) is not int:
        return Look(Hold.UNREACHABLE)
    hold = Hold.LIVE if holders else Hold.SILENT
    if not isinstance(shared := answer.get("shared"), Mapping):
        return Look(hold, workers, ends_cluster, holders)
    ends_in, ending = shared.get("ends_in"), shared.get("ending") is True
    kept = isinstance(ends_in, float) and not ending
    return Look(
        Hold.KEPT if kept and not holders else hold,
        workers,
        ends_cluster,
        holders,
        told_by_others(shared.get("key"), shared.get("digest")),
        ends_in if kept else None,
        ending,
    )
