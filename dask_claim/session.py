"""One claimed cluster, from the request until it is confirmed gone.

What the launcher and `connect()` have in common: no command and no signals here.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Coroutine, Sequence
from dataclasses import replace
from importlib import import_module
from typing import TYPE_CHECKING, Any, TypeVar

from loguru import logger

from dask_claim.errors import StartTimeout, TemporaryError
from dask_claim.guard import Guard
from dask_claim.handoff import Handoff
from dask_claim.providers import make_provider
from dask_claim.providers.base import Order, Provider
from dask_claim.timeline import Timeline

if TYPE_CHECKING:
    from dask_claim.lease import Lease
    from dask_claim.usage import Usage

T = TypeVar("T")

# The launcher itself ends a run at its max_lifetime; the lease sees to it where it cannot.
LIFETIME_MARGIN = 60.0
# At the end of a run nobody waits long for a scheduler that may be gone.
LAST_PLACING = 8.0


class Session:
    """Opens a cluster step by step, so that a command can start between two of them."""

    def __init__(self, order: Order, timeline: Timeline, grace: float = 0.0) -> None:
        self._guard: Guard | None = None
        self._grace = grace
        self._order = order = replace(order, note=self._note)
        self._timeline = timeline
        self._lease: Lease | None = None
        self._placing: asyncio.Task[None] | None = None
        self._least = 0
        self._deadline = asyncio.get_running_loop().time() + order.start_timeout
        kind = order.plan.provider if order.claim.create else "none"
        self.provider: Provider = make_provider(kind, order)

    @property
    def handoff(self) -> Handoff:
        return self.provider.handoff

    @property
    def usage(self) -> Usage | None:
        """What the cluster has done, as last heard; None where it never told."""
        return self._lease.usage if self._lease else None

    def _note(self, **facts: object) -> None:
        if self._guard is None:
            self._guard = Guard(self._grace)
        self._guard.tell(**facts)

    def command_starts(self, markers: Sequence[str]) -> None:
        """There will be a command to end, should the launcher vanish.

        `markers` are variables, as `NAME=value`, that all of its processes have and no others.
        """
        if self.provider.owns_cluster:
            self._note(markers=list(markers))

    def command_started(self, group: int) -> None:
        if self.provider.owns_cluster:
            self._note(command=group)

    def command_ended(self) -> None:
        if self.provider.owns_cluster:
            self._note(command=None)

    @property
    def leased(self) -> bool:
        """Whether the scheduler holds a lease that ends an abandoned cluster."""
        lease = self._lease is not None and self._lease.placed and self.provider.needs_lease
        return lease and self._order.claim.lease_timeout > 0

    async def submit(self) -> None:
        """Ask for the cluster. Its address is known afterwards; it may still be starting."""
        logger.info(f"Claiming {self._order.size()} from {self.provider.description}")
        self._timeline.mark("claimed")
        try:
            await self._in_time(self.provider.submit())
        except TemporaryError as error:
            await self._fall_back(error)
        self._timeline.mark("submitted")
        if self.handoff.cluster_name:
            logger.info(f"Cluster {self.handoff.cluster_name} is requested")

    async def wait_until_running(self, *, may_fall_back: bool = True) -> None:
        """Return when the scheduler is up and has been asked for workers.

        `may_fall_back` is false once a command was told the address of this very cluster.
        """
        try:
            await self._in_time(self.provider.wait_until_running())
            bounds = await self._in_time(self.provider.size())
        except TemporaryError as error:
            if not may_fall_back:
                raise
            await self._fall_back(error)
            bounds = await self.provider.size()
        self._timeline.mark("running")
        seconds = self._timeline.since("claimed")
        if self.handoff.scheduler_address:
            logger.info(f"Scheduler is up at {self.handoff.scheduler_address} ({seconds:.1f} s)")
        if bounds is not None:
            self._least, most = bounds
            if self._least == most:
                logger.info(f"Scaling cluster: workers={most}")
            else:
                logger.info(f"Adapting cluster: minimum={self._least}, maximum={most}")
        if self.handoff.dashboard_url:
            logger.info(f"Dask Dashboard: {self.handoff.dashboard_url}")
        if self.provider.owns_cluster:
            self._placing = asyncio.create_task(self._place_lease())

    async def wait_for_workers(self) -> None:
        """Return when the least workers that were asked for are up."""
        if self._placing is not None:
            await self._in_time(self._workers_up(self._placing))

    async def _workers_up(self, placing: asyncio.Task[None]) -> None:
        await asyncio.shield(placing)
        assert self._lease is not None
        await self._lease.wait_for_workers(self._least)

    async def give_back(self) -> bool | None:
        """End the cluster; whether it is confirmed gone, None where there was none of ours."""
        if self._placing is not None:
            self._placing.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._placing
        if self._lease is not None:
            await self._lease.release()
        try:
            gone = await self.provider.stop()
            if gone is False:
                await self._leave_to_lease()
            return gone
        finally:
            if self._guard is not None:
                await asyncio.to_thread(self._guard.dismiss)

    async def _leave_to_lease(self) -> None:
        """What the gateway does not confirm the scheduler goes on asking for.

        After a short command the lease may not have been placed yet.
        """
        if self._placing is None or (self._lease is not None and self._lease.placed):
            return
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._place_lease(), LAST_PLACING)
        if self._lease is not None:
            await self._lease.release()

    async def _fall_back(self, error: TemporaryError) -> None:
        """Take a local cluster where the claim allows it, else raise what stopped the gateway."""
        if self.provider.name != "gateway" or self._order.claim.fallback != "local":
            raise error
        self._order.warn(f"Falling back to a local cluster (fallback: local): {error}")
        await self.provider.stop()
        self.provider = make_provider("local", self._order)
        await self.provider.submit()
        await self.provider.wait_until_running()

    async def _in_time(self, step: Coroutine[Any, Any, T]) -> T:
        left = self._deadline - asyncio.get_running_loop().time()
        try:
            return await asyncio.wait_for(step, max(left, 0.0))
        except asyncio.TimeoutError:
            name, obstacle = self.handoff.cluster_name, self.provider.obstacle
            what = f"cluster {name}" if name else "a cluster"
            raise StartTimeout(
                f"{what} from {self.provider.description} was not ready within "
                f"{self._order.start_timeout:g} s (--start-timeout)"
                + (f". The last obstacle: {obstacle}" if obstacle else "")
            ) from None

    async def _place_lease(self) -> None:
        # Importing Dask's client takes a third of a second, in which no signal would be handled.
        module = await asyncio.to_thread(import_module, "dask_claim.lease")
        claim, leased = self._order.claim, self.provider.needs_lease
        self._lease = module.Lease(
            self.handoff.scheduler_address,
            self.provider.security(),
            claim.lease_timeout if leased else 0.0,
            claim.max_lifetime + LIFETIME_MARGIN if leased and claim.max_lifetime else None,
        )
        try:
            await self._lease.place(self._least, self._workers_changed)
        except Exception as error:
            self._order.warn(
                f"the scheduler takes no lease ({error}): it gives no figures of this run"
                + (", and would not end by itself if this launcher vanished" if leased else "")
            )

    def _workers_changed(self, usage: Usage) -> None:
        if usage.workers:
            self._timeline.mark("first_worker")
        noun = "worker" if usage.workers == 1 else "workers"
        logger.info(
            f"{usage.workers} {noun} up (threads: {usage.cores}, "
            f"memory: {usage.memory / 1024**3:.1f} GiB)"
        )
