"""One claimed cluster, from the request until it is confirmed gone.

What the launcher and `connect()` have in common: no command and no signals here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from contextlib import AsyncExitStack
from typing import Any, TypeVar

from dask_claim.claim.choice import Choice
from dask_claim.errors import ClusterGone, ConfigurationError, StartTimeout, TemporaryError
from dask_claim.launch import events
from dask_claim.launch.cluster_watch import ClusterWatch
from dask_claim.launch.events import Events
from dask_claim.launch.lease_keeper import LeaseKeeper
from dask_claim.lifetime.reclaim import reclaim
from dask_claim.lifetime.tickets import Tickets
from dask_claim.providers.base import Provider
from dask_claim.providers.values import Cluster, Outcome, Request, Ticket
from dask_claim.registry import provider_class
from dask_claim.threads import in_time

T = TypeVar("T")

# The guard of a launcher that is gone may ask longer than somebody who is waited for.
GUARD_PATIENCE = 4
# A scheduler that cannot be reached so soon may still reach its workers.
REACHING = 10.0
# Interval of progress messages; seconds.
WAIT_TOLD_EVERY = 30.0


class Session:
    """Opens a cluster step by step, so that a command can start between two of them.

    `release` may be called at any time, also while a step is under way, and is the only thing
    that has to be called: it ends the step first, then whatever there is.
    """

    def __init__(self, request: Request, emit: Events, grace: float = 0.0) -> None:
        """`grace`: seconds that a command has between SIGTERM and SIGKILL."""
        self.request = request
        self._emit = emit
        self.tickets = Tickets(request.run_id, grace, GUARD_PATIENCE * request.stop_timeout)
        self.watch = ClusterWatch(request.claim, emit)
        self.lease = LeaseKeeper(request, emit, self.watch)
        self._minimum = 0
        self._now = asyncio.get_running_loop().time
        self._claimed = self._now()
        self._deadline = self._claimed + request.start_timeout
        self._choice = request.plan.choice
        self.provider = self._make_provider(self._choice)
        self._opening: asyncio.Task[None] | None = None
        self._interrupted: asyncio.Task[None] | None = None

    @property
    def cluster(self) -> Cluster:
        return self.provider.cluster

    async def open(self, *steps: str) -> None:
        """Take these steps, each the name of a method, in a task that `release` can end."""

        async def take() -> None:
            for step in steps:
                await getattr(self, step)()

        self._opening = asyncio.ensure_future(take())
        await self._opening

    def interrupt(self) -> None:
        """End the step that is under way; `open` is then cancelled."""
        # Once only: a second time would interrupt what the first one has to wait for, such as the
        # gateway's answer with the name of the cluster.
        opening, self._opening = self._opening, None
        if opening is not None and not opening.done():
            self._interrupted = opening
            opening.cancel()

    def _go_on(self) -> None:
        """Raise where the opening was interrupted, but a step swallowed its cancellation.

        Before Python 3.12 a step that ends at that very moment does.
        """
        if self._interrupted is not None:
            raise asyncio.CancelledError

    async def submit(self) -> None:
        """Ask for the cluster. Its address is known afterwards; it may still be starting."""
        provider = self.provider
        self._emit(events.Claimed(provider.announcement(), provider.name, provider.adopts))
        try:
            if provider.asks_with_dask:
                await self._in_time(self.lease.import_dask())
            elif provider.makes_cluster and not provider.reports_usage:
                self.lease.begin_import()
            await self._in_time(provider.submit())
        except TemporaryError as error:
            await self._fall_back(error)
        self._emit_submitted()

    async def wait_until_running(self) -> None:
        """Return when the scheduler is up and was asked for workers.

        A cluster that is gone before it is of use is replaced by another one.
        """
        while True:
            try:
                await self._start()
                return
            except ClusterGone as error:
                self._emit.warn(f"{error}. Requesting another cluster")
                await self._in_time(self._start_again())
            except TemporaryError as error:
                await self._fall_back(error)

    async def wait_for_the_very_same(self) -> None:
        """Like `wait_until_running`, for a command that was told the address of this cluster."""
        await self._start()

    async def wait_for_workers(self) -> None:
        """Return when the minimum of workers is up."""
        provider, claim = self.provider, self.request.claim
        if provider.makes_cluster:
            await self._in_time(self.lease.wait_for_workers(self._minimum), "the workers")
            await self._in_time(self.lease.require_versions())
        elif self.cluster.scheduler_address is None:
            return
        elif claim.min_workers is None and claim.min_cores is None:
            # It may start them for the first task only.
            self._emit.note("No worker is waited for: the claim says no minimum (min_workers)")
        else:
            await self._in_time(
                provider.wait_for_workers(self.request.plan.min_workers), "the workers"
            )

    async def _start(self) -> None:
        provider = self.provider
        await self._in_time(provider.wait_until_running())
        bounds = None
        self.watch.begin(provider)
        if provider.makes_cluster:
            if not provider.reports_usage:
                placing = self.lease.begin(provider)
                if provider.outlives_launcher:
                    # Before the gateway tells the scheduler of its workers: it gives a cluster up
                    # whose scheduler it cannot reach yet.
                    await asyncio.wait({placing}, timeout=min(REACHING, self._left()))
            bounds = await self._in_time(provider.scale())
            if bounds is not None:
                self._minimum = bounds[0]
        self._emit(events.Running(provider.name, self.cluster, self._now() - self._claimed))
        provider.listen(self.watch.report, self.watch.report_end)
        if provider.notice:
            self._emit.note(provider.notice)
        if bounds is not None:
            self._emit(events.Scaled(*bounds))
        if provider.makes_cluster:
            await self._in_time(self.lease.require_versions())
        if self.cluster.dashboard_url:
            self._emit.note(f"Dask Dashboard: {self.cluster.dashboard_url}")

    async def _start_again(self) -> None:
        """Another cluster; the ticket of the first one stays open until the end."""
        await self.lease.end()
        await self.provider.close()
        self.provider = self._make_provider(self._choice)
        await self.provider.submit()
        self._emit_submitted()

    def _emit_submitted(self) -> None:
        named = self.provider.outlives_launcher and self.cluster.cluster_name
        text = f"Cluster {named} is requested" if named else ""
        self._emit(events.Submitted(self.provider.name, self.cluster, text))

    async def release(self) -> Outcome:
        """End the cluster, and whatever was made on the way to it.

        Every entry of the stack is registered before what it follows is done, and is done even
        if one of those fails.
        """
        started = self._now()
        outcome = Outcome.NOTHING
        async with AsyncExitStack() as end:
            end.push_async_callback(asyncio.to_thread, self.tickets.close)

            @end.push_async_callback
            async def _() -> None:
                nonlocal outcome
                # Until it is known better, also if this is cancelled.
                outcome = Outcome.NOT_CONFIRMED if self.tickets.open else Outcome.NOTHING
                try:
                    outcome = await self._reclaim_all()
                    if outcome is Outcome.NOT_CONFIRMED:
                        await self.lease.leave_to_scheduler()
                finally:
                    self._emit(
                        events.Released(
                            outcome,
                            self.provider.name,
                            self.cluster,
                            self.watch.usage,
                            self.provider.called(),
                            self.provider.description if self.provider.makes_cluster else "",
                            self._now() - started,
                            self.lease.leased,
                            self.request.claim.lease_timeout,
                            self.watch.ended is not None,
                            level="ERROR" if outcome is Outcome.NOT_CONFIRMED else "INFO",
                        )
                    )

            end.push_async_callback(self.provider.close)
            end.push_async_callback(self.lease.end)
            end.push_async_callback(self._end_opening)
        return outcome

    def _write(self, ticket: Ticket) -> None:
        self.tickets.write(ticket)
        self._emit(events.TicketsWritten(self.tickets.open))

    async def _end_opening(self) -> None:
        self.interrupt()
        if self._interrupted is not None:
            await asyncio.wait({self._interrupted})

    async def _reclaim_all(self) -> Outcome:
        """Reclaim all that is open, together, within one --stop-timeout."""
        found = await asyncio.gather(*map(self._reclaim, self.tickets.open))
        return Outcome.of_all(found)

    async def _reclaim(self, ticket: Ticket) -> Outcome:
        outcome = await reclaim(ticket, self.request.stop_timeout, self._emit.warn)
        if outcome is not Outcome.NOT_CONFIRMED:
            self.tickets.settle(ticket)
        return outcome

    async def _fall_back(self, error: TemporaryError) -> None:
        """Take a local cluster where the claim allows it, else raise what stopped the gateway."""
        if (fallback := self._choice.fallback) is None:
            raise error
        local = self._make_provider(fallback)
        try:
            local.check()
        except ConfigurationError as missing:
            self._emit.warn(f"there is no local cluster instead (fallback: local): {missing}")
            raise error from None
        self._emit.warn(f"Falling back to a local cluster (fallback: local): {error}")
        for warning in fallback.warnings:
            self._emit.warn(warning)
        await self.lease.end()
        await self.provider.close()
        await self._reclaim_all()
        for ticket in self.tickets.open:
            self._emit.warn(
                f"{self.provider.description} does not confirm that cluster "
                f"{ticket.cluster_name or 'it may have made'} is gone; it is asked again at the "
                "end of the run"
            )
        self._choice, self.provider = fallback, local
        # The gateway may have used up all the time there was.
        self._deadline = self._now() + self.request.start_timeout
        await self._in_time(self.provider.submit())

    def _make_provider(self, choice: Choice) -> Provider:
        kind = provider_class(choice.backend)
        return kind(self.request, self._write, self._emit.warn)

    def _left(self) -> float:
        return max(self._deadline - self._now(), 0.0)

    async def _in_time(self, step: Coroutine[Any, Any, T], what: str = "") -> T:
        telling = asyncio.ensure_future(self._tell_waits(what))
        try:
            result = await in_time(step, self._left())
            self._go_on()
            return result
        except asyncio.TimeoutError:
            name, obstacle = self.cluster.cluster_name, self.provider.obstacle
            cluster = f"cluster {name}" if name else "a cluster"
            raise StartTimeout(
                f"{cluster} from {self.provider.description} was not ready within "
                f"{self.request.start_timeout:g} s (--start-timeout)"
                + (f". The last obstacle: {obstacle}" if obstacle else "")
            ) from None
        finally:
            telling.cancel()

    async def _tell_waits(self, what: str) -> None:
        while True:
            waited = self._now() - self._claimed
            await asyncio.sleep(WAIT_TOLD_EVERY - waited % WAIT_TOLD_EVERY)
            name, obstacle = self.cluster.cluster_name, self.provider.obstacle
            cluster = f"cluster {name}" if name else "a cluster"
            self._emit.note(
                f"Waiting for {what + ' of ' if what else ''}{cluster} from "
                f"{self.provider.description} since {self._now() - self._claimed:.0f} s"
                + (f": {obstacle}" if obstacle else "")
            )
