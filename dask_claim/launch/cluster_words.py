"""What a session says of its cluster: that it is requested, waited for, and released."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dask_claim.errors import Reason
from dask_claim.launch.events import Released, Submitted
from dask_claim.providers.values import Outcome

if TYPE_CHECKING:
    from dask_claim.launch.session import Session
    from dask_claim.providers.base import Provider
    from dask_claim.providers.usage import Usage
    from dask_claim.providers.values import Ticket


def submitted(provider: Provider) -> Submitted:
    """Return the event of a cluster that is requested, or joined."""
    name = provider.cluster.cluster_name
    text = f"Cluster {name} is requested" if name and provider.outlives_launcher else ""
    if provider.joined:
        text = f"Cluster {name} is shared: this run joins it"
    return Submitted(provider.name, provider.cluster, text)


def waited_for(provider: Provider, usage: Usage | None) -> tuple[str, str | None, Reason | None]:
    """Return what a start waits for, what is in its way, and the reason that this is."""
    name = provider.cluster.cluster_name
    cluster = f"cluster {name}" if name else "a cluster"
    reason = provider.obstacle_reason
    if usage is not None and not usage.workers:
        reason = Reason.NO_WORKERS
    return f"{cluster} from {provider.description}", provider.obstacle, reason


def unconfirmed(provider: Provider, ticket: Ticket) -> str:
    """Return the warning of what a gateway that is given up may have left."""
    return (
        f"{provider.description} does not confirm that cluster "
        f"{ticket.cluster_name or 'it may have made'} is gone; it is tried again at the end"
    )


def released(session: Session, outcome: Outcome, seconds: float) -> Released:
    """Return the event of a cluster whose release has taken so many `seconds`."""
    provider, watch = session.provider, session.watch
    lease_timeout = session.request.claim.lease_timeout if session.lease.leased else None
    called = provider.called()
    what, text = called[0].upper() + called[1:], ""
    if outcome is Outcome.KEPT:
        text = f"Left the shared {called}{_who_stays(watch.usage)}"
    elif outcome is Outcome.GONE and watch.ended is not None:
        text = f"{what} was already gone"
    elif outcome is Outcome.GONE:
        text = f"{what} stopped after {seconds:.1f} s"
    elif outcome is Outcome.NOT_CONFIRMED:
        claimed = f"; it was claimed from {provider.description}" if provider.makes_cluster else ""
        lease = f"Its lease ends it within {lease_timeout:g} s; " if lease_timeout else ""
        text = (
            f"{what} is NOT confirmed gone after {seconds:.1f} s{claimed}. {lease}a process in the "
            "background goes on trying for a while, unless this container or job ends before. "
            "`dask-claim clusters` shows whether it still runs, and stops it"
        )
    return Released(
        outcome, provider.name, provider.cluster, watch.usage, seconds, lease_timeout,
        watch.ended is not None, text,
        level="ERROR" if outcome is Outcome.NOT_CONFIRMED else "INFO",
    )  # fmt: skip


def _who_stays(usage: Usage | None) -> str:
    shared = (usage.shared if usage else None) or {}
    others, keep = shared.get("others"), shared.get("keep")
    if others:
        return f"; {others} other {'run uses' if others == 1 else 'runs use'} it"
    return f"; it stays for {keep:.0f} s (keep)" if keep is not None else ""
