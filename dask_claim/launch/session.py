"""One claimed cluster, from the request until it is confirmed gone.

What the launcher and `connect()` have in common: no command and no signals here.
"""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from dataclasses import replace

from dask_claim.claim.choice import Choice
from dask_claim.errors import ClusterGone, ConfigurationError, Reason, TemporaryError
from dask_claim.launch import events
from dask_claim.launch.cluster_watch import ClusterWatch
from dask_claim.launch.cluster_words import released, submitted, unconfirmed, waited_for
from dask_claim.launch.events import Events
from dask_claim.launch.joining import Joining
from dask_claim.launch.lease_keeper import LeaseKeeper
from dask_claim.launch.opening import Opening
from dask_claim.lifetime.tickets import Tickets
from dask_claim.providers.base import Provider
from dask_claim.providers.dask_report import NO_CLUSTER, OTHERS, DaskReport
from dask_claim.providers.values import Cluster, Outcome, Request, Ticket
from dask_claim.registry import provider_class

STEPS = {
    "eager": ["submit", "wait_for_what_others_requested"],
    "ready": ["submit", "wait_until_running"],
    "workers": ["submit", "wait_until_running", "wait_for_workers"],
}
"""What comes before the command, by `--start`: methods of the session."""

# A guard alone may take longer than a launcher that a person waits for.
GUARD_PATIENCE = 4
# A scheduler that cannot be reached so soon may still reach its workers.
REACHING = 10.0


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
        self._joining = Joining(request, emit, self.tickets, self.lease)
        self._minimum = 0
        self.running = False
        """Whether the scheduler is up, and workers are requested."""

        self._opening = Opening(request.start_timeout, self._describe, emit.note)
        self.interrupt = self._opening.interrupt
        self._choice = request.plan.choice
        self.provider = self._make_provider(self._choice)

    def hurry(self) -> None:
        """Have `release` lose no time with Dask's own report."""
        self.lease.hurry()
        self.provider.hurry()

    @property
    def dask_report(self) -> DaskReport:
        """Dask's own report, or why there is none; once this is released."""
        if self.provider.adopts:
            return OTHERS
        return self.provider.dask_report or self.lease.dask_report or NO_CLUSTER

    @property
    def cluster(self) -> Cluster:
        return self.provider.cluster

    async def open(self, *steps: str) -> None:
        """Take these steps, each the name of a method, until `interrupt`: CancelledError then."""
        await self._opening.take([getattr(self, step) for step in steps])

    async def submit(self) -> None:
        """Request the cluster. It has an address afterwards, and may still be starting."""
        provider = self.provider
        self._joining.tell_of_share(provider)
        self._emit(events.Claimed(provider.announcement(), provider.name, provider.adopts))
        try:
            if provider.asks_with_dask:
                await self._opening.bound(self.lease.import_dask())
            elif provider.makes_cluster and not provider.reports_usage:
                self.lease.begin_import()
            await self._opening.bound(self._submit())
        except TemporaryError as error:
            await self._fall_back(error)

    async def wait_for_what_others_requested(self) -> None:
        """Return when a cluster that this run joins is up; its own run may give it up before."""
        if self.provider.joined:
            await self.wait_until_running()

    async def wait_until_running(self) -> None:
        """Return when the scheduler is up and workers are requested.

        A cluster that is gone before it is of use is replaced by another one.
        """
        while True:
            try:
                await self.start(agreeing=True)
                return
            except ClusterGone as error:
                tell = self._emit.note if self.provider.joined else self._emit.warn
                tell(f"{error}. Requesting another cluster")
                await self._opening.bound(self._start_again())
            except TemporaryError as error:
                await self._fall_back(error)

    async def wait_for_workers(self) -> None:
        """Return when the minimum of workers is up."""
        provider, claim = self.provider, self.request.claim
        if provider.makes_cluster:
            await self._opening.bound(self.lease.wait_for_workers(self._minimum), "the workers")
            await self._opening.bound(self.lease.require_versions())
        elif self.cluster.scheduler_address is None:
            return
        elif claim.min_workers is None and claim.min_cores is None:
            # It may start them for the first task only.
            self._emit.note("No worker is waited for: the claim says no minimum (min_workers)")
        else:
            await self._opening.bound(
                provider.wait_for_workers(self.request.plan.min_workers), "the workers"
            )

    async def start(self, agreeing: bool = False) -> None:
        """Like `wait_until_running`, but of this very cluster, whose address the command has.

        `agreeing`: it may still be another one, which others share.
        """
        provider = self.provider
        await self._opening.bound(provider.wait_until_running())
        if agreeing:
            await self._opening.bound(provider.agree())
        bounds = None
        self.watch.begin(provider)
        if provider.makes_cluster:
            if not provider.reports_usage:
                placing = self.lease.begin(provider)
                if provider.shares:
                    bounds = await self._opening.bound(self._joining.join(provider))
                elif provider.outlives_launcher:
                    # Before the gateway tells the scheduler of its workers: it gives a cluster up
                    # whose scheduler it cannot reach yet.
                    await asyncio.wait({placing}, timeout=min(REACHING, self._opening.left))
            bounds = await self._opening.bound(self._joining.scale(provider, bounds))
            if bounds is not None:
                # Of a shared cluster they are those of all runs.
                self._minimum = min(bounds[0], self.request.plan.min_workers)
        self.running = True
        self._emit(events.Running(provider.name, self.cluster, self._opening.passed))
        provider.listen(self.watch.report, self.watch.report_end)
        if provider.notice:
            self._emit.note(provider.notice)
        if bounds is not None:
            self._emit(events.Scaled(*bounds))
        if provider.makes_cluster:
            await self._opening.bound(self.lease.require_versions())
        if self.cluster.dashboard_url:
            self._emit.note(f"Dask Dashboard: {self.cluster.dashboard_url}")

    async def _start_again(self) -> None:
        """Another cluster; the ticket of the first one stays open until the end."""
        await self.lease.end()
        await self.provider.close()
        if self.provider.joined and (name := self.cluster.cluster_name):
            self.request = replace(self.request, avoid=self.request.avoid | {name})
        self.provider = self._make_provider(self._choice)
        await self._submit()

    async def _submit(self) -> None:
        await self.provider.submit()
        self._emit(submitted(self.provider))

    async def release(self) -> Outcome:
        """End the cluster, and whatever was made on the way to it.

        Every entry of the stack is registered before what it follows is done, and is done even
        if one of those fails.
        """
        outcome, started = Outcome.NOTHING, self._opening.passed
        async with AsyncExitStack() as end:
            end.push_async_callback(asyncio.to_thread, self.tickets.close)

            @end.push_async_callback
            async def _() -> None:
                nonlocal outcome
                # Also where this is cancelled.
                outcome = Outcome.NOT_CONFIRMED if self.tickets.open else Outcome.NOTHING
                try:
                    outcome = await self._reclaim()
                    if self.lease.shared and outcome is not Outcome.NOT_CONFIRMED:
                        outcome = Outcome.GONE if self.watch.ended else Outcome.KEPT
                    if outcome is Outcome.NOT_CONFIRMED:
                        await self.lease.leave_to_scheduler()
                finally:
                    self._emit(released(self, outcome, self._opening.passed - started))

            end.push_async_callback(self.provider.close)
            end.push_async_callback(self.lease.end)
            end.push_async_callback(self._opening.end)
        return outcome

    def _write(self, ticket: Ticket) -> None:
        self.tickets.write(ticket)
        self._emit(events.TicketsWritten(self.tickets.open))

    async def _reclaim(self) -> Outcome:
        return await self.tickets.reclaim(self.request.stop_timeout, self._emit.warn)

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
        await self._reclaim()
        for ticket in self.tickets.open:
            self._emit.warn(unconfirmed(self.provider, ticket))
        self._choice, self.provider = fallback, local
        self._joining.tell_of_share(local)
        # The gateway may have used up all the time there was.
        self._opening.extend()
        await self._opening.bound(self._submit())

    def _make_provider(self, choice: Choice) -> Provider:
        kind = provider_class(choice.backend)
        return kind(self.request, self._write, self._emit.warn)

    def _describe(self) -> tuple[str, str | None, Reason | None]:
        return waited_for(self.provider, self.watch.usage)
