"""One claimed cluster, from the request until it is confirmed gone: no command, no signals."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from dataclasses import replace

from dask_claim.claim.choice import Choice
from dask_claim.errors import ClusterGone, ConfigurationError, TemporaryError
from dask_claim.launch import events
from dask_claim.launch.cluster_watch import ClusterWatch
from dask_claim.launch.cluster_words import released, submitted, unconfirmed, waited_for
from dask_claim.launch.events import Events
from dask_claim.launch.lease_keeper import LeaseKeeper
from dask_claim.launch.opening import Opening
from dask_claim.launch.run_options import Start
from dask_claim.lifetime.tickets import Tickets
from dask_claim.providers.base import Provider
from dask_claim.providers.dask_report import NO_CLUSTER, OTHERS, DaskReport
from dask_claim.providers.values import Cluster, Outcome, Request, Ticket
from dask_claim.registry import provider_class

# A guard alone may take longer than a launcher that a person waits for.
GUARD_PATIENCE = 4
# A scheduler that cannot be reached so soon may still reach its workers.
REACHING = 10.0


class Session:
    """Opens a cluster, so that a command can start meanwhile, and ends it.

    `release` is the only thing that has to be called, whatever came before it. It ends whatever
    there is then.
    """

    def __init__(self, request: Request, emit: Events, grace: float = 0.0) -> None:
        """`grace`: seconds that a command has between SIGTERM and SIGKILL."""
        self.request = request
        self._emit = emit
        self.tickets = Tickets(request.run_id, grace, GUARD_PATIENCE * request.stop_timeout)
        self.watch = ClusterWatch(request.claim, emit)
        self.lease = LeaseKeeper(request, emit, self.watch)
        self._minimum = 0
        self.running = False
        """Whether the scheduler is up, and workers are requested."""

        self._opening = Opening(
            request.start_timeout, lambda: waited_for(self.provider, self.watch.usage), emit.note
        )
        self._bound = self._opening.bound
        self._choice = request.plan.choice
        self.provider = self._make_provider(self._choice)

    @property
    def dask_report(self) -> DaskReport:
        """Dask's own report, or why there is none; once this is released."""
        if self.provider.adopts:
            return OTHERS
        return self.provider.dask_report or self.lease.dask_report or NO_CLUSTER

    @property
    def cluster(self) -> Cluster:
        return self.provider.cluster

    async def open(self, start: Start) -> None:
        """Return when the command may start: see `RunOptions.start`."""
        await self._request()
        # One that another run has requested that run may give up, and this one needs a new address.
        if start != "eager" or self.provider.joined:
            await self._wait_until_running()
        if start == "workers":
            await self._wait_for_workers()

    async def _request(self) -> None:
        """Request the cluster. It has an address afterwards, and may still be starting."""
        provider = self.provider
        self._tell_of_share(provider)
        self._emit(events.Claimed(provider.announcement(), provider.name, provider.adopts))
        try:
            if provider.asks_with_dask:
                await self._bound(asyncio.shield(self.lease.import_dask()))
            elif provider.makes_cluster and not provider.reports_usage:
                self.lease.import_dask()
            await self._bound(self._submit())
        except TemporaryError as error:
            await self._fall_back(error)

    def _tell_of_share(self, provider: Provider) -> None:
        if self.request.share and not provider.shares and not provider.adopts:
            self._emit.note(
                f"share: a cluster of {provider.description} is not shared with other runs: only "
                "one that is claimed from a gateway is; those inside one run use its cluster"
            )

    async def _wait_until_running(self) -> None:
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
                await self._bound(self._start_again())
            except TemporaryError as error:
                await self._fall_back(error)

    async def _wait_for_workers(self) -> None:
        """Return when the minimum of workers is up."""
        provider, claim = self.provider, self.request.claim
        if provider.makes_cluster:
            await self._bound(self.lease.wait_for_workers(self._minimum), "the workers")
            await self._bound(self.lease.require_versions())
        elif claim.min_workers is None and claim.min_cores is None:
            # It may start them for the first task only.
            self._emit.note("No worker is waited for: the claim says no minimum (min_workers)")
        else:
            workers = provider.wait_for_workers(self.request.plan.min_workers)
            await self._bound(workers, "the workers")

    async def start(self, agreeing: bool = False) -> None:
        """Return when the requested cluster's scheduler is up and workers are requested.

        `agreeing`: it may still be another one, which others share.
        """
        provider = self.provider
        await self._bound(provider.wait_until_running())
        if agreeing:
            await self._bound(provider.agree())
        self.watch.begin(provider)
        bounds = await self._bound(self._scale(provider)) if provider.makes_cluster else None
        self.running = True
        self._emit(events.Running(provider.name, self.cluster, self._opening.passed))
        provider.listen(self.watch.report, self.watch.report_end)
        if provider.notice:
            self._emit.note(provider.notice)
        if bounds is not None:
            # Of a shared cluster they are those of all runs.
            self._minimum = min(bounds[0], self.request.plan.min_workers)
            self._emit(events.Scaled(*bounds))
        if provider.makes_cluster:
            await self._bound(self.lease.require_versions())
        if self.cluster.dashboard_url:
            self._emit.note(f"Dask Dashboard: {self.cluster.dashboard_url}")

    async def _scale(self, provider: Provider) -> tuple[int, int] | None:
        """Place the lease and request workers; return how many."""
        if provider.reports_usage:
            return await provider.scale()
        placing = self.lease.begin(provider)
        shared = await self._join(provider) if provider.shares else None
        if shared and provider.joined:
            return shared
        if provider.outlives_launcher and not provider.shares:
            # Before the gateway tells the scheduler of its workers: it gives a cluster up whose
            # scheduler it cannot reach yet.
            await asyncio.wait({placing}, timeout=REACHING)
        bounds = await provider.scale()
        if shared:
            await self.lease.resize()
        return bounds

    async def _join(self, provider: Provider) -> tuple[int, int] | None:
        """Be one of the runs that share the cluster; return the bounds of all of them.

        None where the scheduler takes no lease. Raises ClusterGone where it does not take this run.
        """
        bounds = await self.lease.join()
        ticket = provider.shared_ticket()
        if bounds is None:
            self._emit.warn(f"{provider.called()} is not shared: it takes no lease")
        elif ticket is not None:
            # From now on the scheduler ends it, when nobody is left.
            self.tickets.settle(ticket)
            self._emit(events.TicketsWritten(self.tickets.open))
        return bounds

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

    async def release(self, in_haste: bool = False) -> Outcome:
        """End the cluster, and whatever was made; `in_haste`: without Dask's own report."""
        if in_haste:
            self.lease.hurry()
            self.provider.hurry()
        outcome, started = Outcome.NOTHING, self._opening.passed
        async with AsyncExitStack() as end:  # each step is taken, even if one before it fails
            end.push_async_callback(asyncio.to_thread, self.tickets.close)

            @end.push_async_callback
            async def _() -> None:
                nonlocal outcome
                # Also where this is cancelled.
                outcome = Outcome.NOT_CONFIRMED if self.tickets.open else Outcome.NOTHING
                try:
                    outcome = await self.tickets.reclaim(self.request.stop_timeout, self._emit.warn)
                    if self.lease.shared and outcome is not Outcome.NOT_CONFIRMED:
                        outcome = Outcome.GONE if self.watch.ended else Outcome.KEPT
                finally:
                    self._emit(released(self, outcome, self._opening.passed - started))

            end.push_async_callback(self.provider.close)
            end.push_async_callback(self.lease.end)
        return outcome

    def _write(self, ticket: Ticket) -> None:
        self.tickets.write(ticket)
        self._emit(events.TicketsWritten(self.tickets.open))

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
        await self.tickets.reclaim(self.request.stop_timeout, self._emit.warn)
        for ticket in self.tickets.open:
            self._emit.warn(unconfirmed(self.provider, ticket))
        self._choice, self.provider = fallback, local
        self._tell_of_share(local)
        # The gateway may have used up all the time there was.
        self._opening.extend()
        await self._bound(self._submit())

    def _make_provider(self, choice: Choice) -> Provider:
        kind = provider_class(choice.backend)
        return kind(self.request, self._write, self._emit.warn)
