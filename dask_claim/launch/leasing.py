"""The lease of one session: when it is placed, what it tells, how it ends."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
from typing import TYPE_CHECKING, Any

from dask_claim.errors import ClusterFailed
from dask_claim.launch import events
from dask_claim.launch.death import MemoryLimit
from dask_claim.launch.events import Events
from dask_claim.launch.no_workers import NoWorkers
from dask_claim.providers.base import Provider, import_quietly
from dask_claim.providers.values import Ended, Request
from dask_claim.threads import in_time

if TYPE_CHECKING:
    from dask_claim.claim.model import Claim
    from dask_claim.lifetime.lease import Lease
    from dask_claim.providers.usage import Usage

# The launcher itself ends a run at its max_lifetime; the lease sees to it where it cannot.
LIFETIME_MARGIN = 60.0
# Differences in memory that come from units, not from what a site gives.
ROUNDING = 0.01
# At the end of a run nobody waits long for a scheduler that may be gone.
LAST_PLACING = 8.0
# How long somebody is asked how a cluster has ended.
LOOK_TIMEOUT = 3.0
# How much later than a closed connection the news of its cause may come.
NEWS_WITHIN = 1.0


class Leasing:
    """Places a lease on the scheduler of a provider's cluster, in a task of its own."""

    def __init__(self, request: Request, emit: Events) -> None:
        self._request = request
        self._emit = emit
        self._lease: Lease | None = None
        self._placing: asyncio.Task[None] | None = None
        self._imported: asyncio.Future[Any] | None = None
        self._ends_abandoned = False
        self._compared = False
        self._provider: Provider | None = None
        self._memory = MemoryLimit()
        self._no_workers = NoWorkers(self._tell_no_workers)
        self._workers = 0
        self._out_of_memory = self._gave_up = self._timeout_compared = False
        self.ended: Ended | None = None
        """How the cluster has ended without this launcher, once that is known."""

        self.minimum = 0
        """How many workers are expected soon."""

    @property
    def usage(self) -> Usage | None:
        """What the cluster has done, as last heard; None where it never told."""
        return self._lease.usage if self._lease else None

    @property
    def leased(self) -> bool:
        """Whether the scheduler holds a lease that ends an abandoned cluster."""
        return self._lease is not None and self._lease.placed and self._ends_abandoned

    def begin_import(self) -> asyncio.Future[Any]:
        """Import the lease, and with it Dask's client, in a thread, and only in one at a time.

        It takes most of a second, in which no signal would be handled; a local cluster starts
        meanwhile. Two threads that import Dask side by side get in each other's way.
        """
        if self._imported is None:
            self._imported = asyncio.ensure_future(asyncio.to_thread(_import_lease))
        return self._imported

    async def import_dask(self) -> Any:
        """Return when that is done."""
        return await asyncio.shield(self.begin_import())

    def begin(self, provider: Provider) -> asyncio.Task[None]:
        """Place the lease; returns the task that does it."""
        self._ends_abandoned = provider.outlives_launcher and self._request.claim.lease_timeout > 0
        # What this machine can give is told before; also where it stands in for a gateway.
        self._compared = provider.exact_size
        self.watch(provider)
        self._placing = asyncio.create_task(self._place(provider))
        return self._placing

    def watch(self, provider: Provider) -> None:
        """Tell at the end how this one's cluster has ended, where it did so by itself."""
        self._provider, self.ended, self._workers = provider, None, 0

    async def wait_for_workers(self) -> None:
        """Return when the minimum of workers is up."""
        assert self._placing is not None
        await asyncio.shield(self._placing)
        assert self._lease is not None
        if self.ended is None:
            await self._lease.wait_for_workers(self.minimum)
        if self.ended is not None:
            raise ClusterFailed(f"{self._called()} {self.ended.how}")

    async def end(self) -> None:
        """Hear once more what was used, and let go; the cluster is the caller's to end."""
        placing, self._placing = self._placing, None
        await cancelled(placing)
        if self._lease is not None:
            await self._lease.release()
            self._tell_unread()
        healthy = self._lease is not None and self._lease.placed
        # Only a gateway that has nothing to tell is not asked.
        if self._provider is not None and not (healthy and self._provider.outlives_launcher):
            await self._has_ended()

    async def _has_ended(self, patience: float = 0.0) -> bool:
        """Whether the cluster has ended; how is told once. False also where nobody can tell."""
        provider = self._provider
        if provider is None or self.ended is not None:
            return self.ended is not None
        if self._lease is not None and self._lease.shut_down:
            self.ended = Ended("was shut down by a client (client.shutdown())", ordinary=True)
        else:
            try:
                self.ended = await in_time(provider.ended(patience), LOOK_TIMEOUT)
            except Exception:
                # Whatever stands in the way of an answer: it is not known.
                return False
        if self.ended is None:
            return False
        told = f"{self._called()} {self.ended.how}"
        told = told[0].upper() + told[1:]
        if self.ended.ordinary:
            self._emit.note(told)
        else:
            why = self._memory.exceeded("It") if self.ended.killed else None
            self._emit.warn(". ".join(filter(None, (told, why))))
        return True

    def _called(self) -> str:
        assert self._provider is not None
        return self._provider.called()

    async def _lost(self) -> bool:
        """The scheduler's connection is closed."""
        return await self._has_ended(NEWS_WITHIN)

    async def leave_to_scheduler(self, provider: Provider) -> None:
        """What a gateway does not confirm, the scheduler is to go on asking for.

        It does so once it has a lease, which after a short command it may not have yet.
        """
        if not self._ends_abandoned or self.leased:
            return
        with contextlib.suppress(Exception):
            await in_time(self._place(provider), LAST_PLACING)
        if self._lease is not None:
            await self._lease.release()

    async def _place(self, provider: Provider) -> None:
        module = await self.import_dask()
        claim, outlives = self._request.claim, provider.outlives_launcher
        self._lease = module.Lease(
            provider.cluster.scheduler_address,
            provider.security(),
            claim.lease_timeout if outlives else 0.0,
            claim.max_lifetime + LIFETIME_MARGIN if outlives and claim.max_lifetime else None,
            claim.reconnect_timeout,
            self._request.run_id,
        )
        try:
            await self._lease.place(self.minimum, self._on_usage, self._emit.warn, self._lost)
        except Exception as error:
            await self._lease.renounce()
            idle = provider.idle_timeout
            ends = ", and would not end by itself if this launcher vanished"
            if idle:
                ends = f", and the cluster ends after {idle:g} s without a task"
            self._emit.warn(
                f"the scheduler takes no lease ({error}): it gives no figures of this run"
                + (ends if outlives else "")
            )
        else:
            if self._lease.placed:  # not where the cluster has ended meanwhile
                self._emit(events.Leased(self._ends_abandoned))

    def _on_usage(self, usage: Usage) -> None:
        if self.ended is not None:
            # A gateway that has just restarted did not know it.
            self.ended = None
            self._emit.note(f"{self._called()} has not ended: its scheduler answers again")
        if usage.workers != self._workers:
            self._workers = usage.workers
            self._workers_changed(usage)
        if usage.out_of_memory and not self._out_of_memory:
            self._out_of_memory = True
            self._emit.warn(_out_of_memory(*usage.out_of_memory))
        self._no_workers(usage)
        self._tell_of_the_timeout(usage)

    def _tell_no_workers(self, seconds: float, waiting: int, first: bool) -> None:
        assert self._provider is not None
        tasks = "1 task waits" if waiting == 1 else f"{waiting} tasks wait"
        tell = self._emit.warn if first else self._emit.note
        tell(
            f"Waiting for the workers of {self._called()} since {seconds:.0f} s: {tasks}, and no "
            f"worker is up. {self._provider.no_workers}"
        )

    def _tell_of_the_timeout(self, usage: Usage) -> None:
        claimed = self._request.claim.no_workers_timeout
        if claimed is not None and not self._timeout_compared:
            self._timeout_compared = True
            if usage.no_workers_timeout != claimed:
                self._emit.warn(_other_timeout(claimed, usage.no_workers_timeout))
        if usage.gave_up and not self._gave_up:
            self._gave_up = True
            self._emit.warn(_gave_up(*usage.gave_up, usage.no_workers_timeout or 0.0))

    def _workers_changed(self, usage: Usage) -> None:
        self._emit(events.WorkersChanged(usage))
        if usage.worker and not self._compared:
            self._compared = True
            if other := _differs(self._request.claim, *usage.worker):
                self._emit.note(other)

    def _tell_unread(self) -> None:
        """A file that only the program sees is the most frequent reason for a task to fail."""
        unread = self.usage.unread if self.usage else None
        if unread:
            worker, error = unread
            paths = re.findall(r"/[^\s'\",:]+", error)
            here = next((path for path in paths if os.path.exists(path)), None)
            self._emit.warn(
                f"a task could not read a file on worker {worker} ({error})"
                + (f": {here} exists here, where the command runs" if here else "")
                + ". Workers see their own files: mount the same ones there, or read by URL"
            )


async def cancelled(task: asyncio.Task[None] | None) -> None:
    """Cancel a task, if there is one, and return when it has ended."""
    while task is not None and not task.done():
        # Again, for a step that ends at that very moment may swallow it (Python before 3.12).
        task.cancel()
        await asyncio.wait({task}, timeout=1.0)


def _differs(claim: Claim, threads: int, memory: int) -> str | None:
    """What a worker really has, where that is not what was claimed; else None."""
    real = []
    if claim.worker_cores is not None and threads != max(1, int(claim.worker_cores)):
        noun = "thread" if threads == 1 else "threads"
        real.append(f"{threads} {noun} (worker_cores {claim.worker_cores:g})")
    asked = claim.worker_memory.bytes if claim.worker_memory else 0
    if asked and memory and abs(memory - asked) > ROUNDING * asked:
        real.append(f"{memory / 2**30:.2f} GiB (worker_memory {claim.worker_memory})")
    return f"A worker here really has {' and '.join(real)}" if real else None


def _other_timeout(claimed: float, real: float | None) -> str:
    there = "wait for ever" if real is None else f"fail after {real:g} s"
    return (
        f"no_workers_timeout = {claimed:g} has no effect on this scheduler: tasks that no worker "
        f"can run {there}. It needs distributed 2024.8 or newer and, on a gateway, an option for "
        "variables of the scheduler"
    )


def _gave_up(count: int, wants: str, timeout: float) -> str:
    tasks = "1 task" if count == 1 else f"{count} tasks"
    why = f"no worker has the resources that they ask for, {wants}" if wants else "none was there"
    return (
        f"{tasks} failed after {timeout:g} s without a worker that could run them: {why}. Claim "
        "such workers, or give them longer to come (no_workers_timeout)"
    )


def _out_of_memory(worker: str, used: int, limit: int) -> str:
    size = f" ({used / 2**30:.2f} of {limit / 2**30:.2f} GiB)" if limit else ""
    return (
        f"worker {worker} was killed for its memory{size} and started again. A task to which this "
        "happens several times fails with KilledWorker: claim more worker_memory, or give each "
        "task less to hold"
    )


def _import_lease() -> Any:
    module = import_quietly("dask_claim.lifetime.lease")
    module.Lease.prepare()
    return module
