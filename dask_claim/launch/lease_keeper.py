"""The lease of one session: when it is placed on the scheduler, and when it is let go."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

from dask_claim.claim.policy import most_workers
from dask_claim.errors import ClusterGone, ConfigurationError
from dask_claim.imports import import_dask
from dask_claim.launch import events
from dask_claim.launch.cluster_watch import ClusterWatch
from dask_claim.launch.events import Events
from dask_claim.providers.base import Provider
from dask_claim.providers.dask_report import IN_HASTE, DaskReport
from dask_claim.providers.values import Ended, Request
from dask_claim.providers.versions import differences, installed_versions
from dask_claim.threads import cancel

if TYPE_CHECKING:
    from dask_claim.lifetime.lease import Lease

# The launcher itself ends a run at its max_lifetime; the lease sees to it where it cannot.
LIFETIME_MARGIN = 60.0
# How much later than a closed connection the news of its cause may come.
NEWS_WITHIN = 1.0
COUNT_EVERY = 0.2
# A scheduler may be busy with another run's graph; one that is lost for longer is not waited for.
JOINED_WITHIN = 30.0


class LeaseKeeper:
    """Places a lease on a scheduler, in a task of its own, and passes its reports to the watch."""

    def __init__(self, request: Request, emit: Events, watch: ClusterWatch) -> None:
        self._request, self._emit, self._watch = request, emit, watch
        self._provider: Provider | None = None
        self._lease: Lease | None = None
        self._placing: asyncio.Task[None] | None = None
        self._imported: asyncio.Future[Any] | None = None
        self._refusal: Exception | None = None
        self._share: dict[str, Any] | None = None
        self._wants_report = request.report
        self.dask_report: DaskReport | None = None
        """Dask's own report, once the lease has ended; None where nobody has asked for it."""

    @property
    def _placed(self) -> bool:
        return self._lease is not None and self._lease.placed

    @property
    def leased(self) -> bool:
        """Whether the scheduler holds a lease that ends an abandoned cluster."""
        provider, timeout = self._provider, self._request.claim.lease_timeout
        return self._placed and provider is not None and provider.outlives_launcher and timeout > 0

    @property
    def shared(self) -> bool:
        """Whether the scheduler has taken this run as one of those that share the cluster."""
        return self._placed and self._share is not None

    def import_dask(self) -> asyncio.Future[Any]:
        """Import the lease, and with it Dask's client, in a thread, and only in one at a time.

        It takes most of a second, in which no signal would be handled. Two threads that import
        Dask side by side get in each other's way.
        """
        if self._imported is None:
            self._imported = asyncio.ensure_future(asyncio.to_thread(_import_lease))
        return self._imported

    def begin(self, provider: Provider) -> asyncio.Task[None]:
        """Place the lease; return the task that does it."""
        self._provider, self._refusal = provider, None
        self._share = _terms_of_share(self._request, provider.joined) if provider.shares else None
        self._placing = asyncio.create_task(self._place(provider))
        return self._placing

    async def _place(self, provider: Provider) -> None:
        module = await asyncio.shield(self.import_dask())
        claim, outlives = self._request.claim, provider.outlives_launcher
        self._lease = lease = module.Lease(
            provider.cluster.scheduler_address,
            provider.security(),
            claim.lease_timeout if outlives else 0.0,
            claim.max_lifetime + LIFETIME_MARGIN if outlives and claim.max_lifetime else None,
            claim.reconnect_timeout,
            self._request.run_id,
            self._share,
        )
        try:
            await lease.place(self._watch.report, self._emit.warn, self._is_over)
        except module.JoinRefused as error:
            raise ClusterGone(f"{provider.called()} cannot be shared: {error}") from None
        except Exception as error:
            self._refusal = error
            idle = provider.idle_timeout
            ends = ", and would not end by itself if this launcher vanished"
            if idle:
                ends = f", and the cluster ends after {idle:g} s without a task"
            self._emit.warn(
                f"the scheduler takes no lease ({error}): it gives no figures of this run"
                + (ends if outlives else "")
            )
        else:
            if lease.placed:  # not where the cluster has ended meanwhile
                self._emit(events.Leased(self.leased))
                if self._wants_report:
                    await lease.task_record.begin()

    async def join(self) -> tuple[int, int] | None:
        """Return the bounds of a shared cluster's workers, once its scheduler has taken this run.

        None where it takes no lease, so that a cluster of this run's own is not shared.

        Raises
        ------
        ClusterGone
            It does not take this run: another cluster will.
        """
        assert self._placing is not None and self._provider is not None
        patience = JOINED_WITHIN if self._provider.joined else None
        placed, _ = await asyncio.wait({self._placing}, timeout=patience)
        for task in placed:
            task.result()  # ClusterGone, where the scheduler refuses this run
        usage = self._watch.usage
        if self._placed and usage is not None and usage.shared:
            minimum, maximum = usage.shared["bounds"]
            return minimum, maximum
        if self._provider.joined:
            why = self._refusal or "its scheduler does not answer"
            raise ClusterGone(f"{self._provider.called()} cannot be shared: {why}")
        self._share = None
        return None

    async def resize(self) -> None:
        """Have the bounds of all runs hold, after the gateway has set those of this one."""
        if self._lease is not None:
            with contextlib.suppress(Exception):
                await self._lease.resize()

    async def _is_over(self) -> bool:
        """Whether the cluster has ended, whose scheduler has closed the connection."""
        if self._lease is not None and self._lease.shut_down:
            self._watch.report_end(
                Ended("was shut down by a client (client.shutdown())", ordinary=True)
            )
        return await self._watch.has_ended(NEWS_WITHIN)

    async def require_versions(self) -> None:
        """Compare what scheduler and workers have, for a claim whose `versions` is `strict`.

        Raises
        ------
        ConfigurationError
            They have other versions than this environment, or do not tell.
        """
        if self._request.claim.versions != "strict":
            return
        if self._placing is not None:
            await asyncio.shield(self._placing)
        usage, refusal = self._watch.usage, self._refusal
        if refusal is not None or usage is None or not usage.versions:
            problem = f"the versions cannot be compared: {refusal or 'the scheduler is gone'}"
        else:
            problem = differences(installed_versions(), usage.versions)
        if problem:
            raise ConfigurationError(
                f"{problem} (versions: strict). Use an image with the same versions on both sides"
            )

    async def wait_for_workers(self, count: int) -> None:
        """Return when at least `count` workers are up, also where no lease could be placed."""
        if self._placing is not None:
            await asyncio.shield(self._placing)
        lease = self._lease
        if lease is not None and not lease.placed:
            while self._watch.ended is None and await lease.count_workers() < count:
                await asyncio.sleep(COUNT_EVERY)
            count = 0
        elif lease is not None:
            lease.expected = count
        await self._watch.wait_for_workers(count)

    def hurry(self) -> None:
        """Have `end` lose no time with Dask's own report."""
        self._wants_report = False
        self.dask_report = IN_HASTE if self._placed else None

    async def end(self) -> None:
        """Receive a last report, and let go; the cluster is the caller's to end."""
        placing, self._placing = self._placing, None
        await cancel(placing)
        lease, placed, self._refusal = self._lease, self._placed, None
        if lease is not None:
            usage = self._watch.usage
            if placed and usage is not None and self._wants_report and self._watch.ended is None:
                self.dask_report = await lease.task_record.report(usage.tasks_done)
            await lease.release()
            self._watch.cut_off = lease.cut_off
        if not placed:
            self._lease = None
        # A gateway is asked only where its scheduler had no lease to report with.
        if not (placed and self._provider is not None and self._provider.outlives_launcher):
            await self._watch.has_ended()


def _import_lease() -> Any:
    module = import_dask("dask_claim.lifetime.lease")
    module.Lease.prepare()
    return module


def _terms_of_share(request: Request, joined: bool) -> dict[str, Any] | None:
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
