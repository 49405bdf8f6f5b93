"""A run's way into a cluster that it shares, and what it asks for there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dask_claim.claim.policy import most_workers
from dask_claim.launch import events
from dask_claim.launch.events import Events
from dask_claim.lifetime.tickets import Tickets
from dask_claim.providers.base import Provider
from dask_claim.providers.values import Request

if TYPE_CHECKING:
    from dask_claim.launch.lease_keeper import LeaseKeeper

Bounds = tuple[int, int]


def terms_of_share(request: Request, joined: bool) -> dict[str, Any] | None:
    """Return what `sharing.SharedLease` is told of a run; None where it shares nothing."""
    share, policy = request.share, request.policy
    if share is None:
        return None
    return {
        "key": share.key,
        "digest": share.digest,
        "minimum": request.plan.min_workers,
        "maximum": request.plan.max_workers,
        "most": most_workers(request.claim, request.plan, request.site, request.site_fields),
        "keep": request.claim.keep,
        "longest": policy.max_lifetime if policy else None,
        "joined": joined,
    }


class Joining:
    """Has one session's run be one of those that share a cluster."""

    def __init__(
        self, request: Request, emit: Events, tickets: Tickets, lease: LeaseKeeper
    ) -> None:
        self._request, self._emit = request, emit
        self._tickets, self._lease = tickets, lease

    def tell_of_share(self, provider: Provider) -> None:
        """Say where a run that may share its cluster gets one that cannot be shared."""
        if self._request.share and not provider.shares and not provider.adopts:
            self._emit.note(
                f"share: a cluster of {provider.description} is not shared with other runs: only "
                "one that is claimed from a gateway is; those inside one run use its cluster"
            )

    async def join(self, provider: Provider) -> Bounds | None:
        """Be one of the runs that share the cluster; return the bounds of all of them.

        None where the scheduler takes no lease. Raises ClusterGone where it does not take this run.
        """
        bounds = await self._lease.join()
        ticket = provider.shared_ticket()
        if bounds is None:
            self._emit.warn(f"{provider.called()} is not shared: it takes no lease")
        elif ticket is not None:
            # From now on the scheduler ends it, when nobody is left.
            self._tickets.settle(ticket)
            self._emit(events.TicketsWritten(self._tickets.open))
        return bounds

    async def scale(self, provider: Provider, shared: Bounds | None) -> Bounds | None:
        """Request the workers; `shared`: the bounds that a shared cluster's scheduler has set."""
        if shared is not None and provider.joined:
            return shared
        bounds = await provider.scale()
        if shared is not None:
            await self._lease.resize()
        return bounds
