"""What a session's cluster reports while it runs, and how it ends without the launcher."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from time import monotonic
from typing import TYPE_CHECKING

from dask_claim.amounts import counted
from dask_claim.cgroup import MemoryLimit
from dask_claim.errors import ClusterFailed, printable
from dask_claim.launch import events
from dask_claim.launch.events import Events
from dask_claim.launch.reports import Progress, WorkerLost
from dask_claim.launch.waiting import Waiting
from dask_claim.providers.base import Provider
from dask_claim.providers.usage import Lost, Usage
from dask_claim.providers.values import Ended
from dask_claim.providers.versions import WORKERS, differences, installed_versions
from dask_claim.threads import in_time

if TYPE_CHECKING:
    from dask_claim.claim.model import Claim

# Differences in memory that come from units, not from what a site gives.
ROUNDING = 0.01
# Reasons for which one worker is lost, and no whole cluster.
ON_ITS_OWN = ("memory_limit", "killed", "exited")
# Seconds after which a cluster that has lost a worker for another reason goes on without it.
SETTLED_AFTER = 5.0
# How long a provider may look how its cluster has ended.
LOOK_TIMEOUT = 3.0
# Seconds between two lines of progress.
PROGRESS_EVERY = 60.0


class ClusterWatch:
    """Turns what the cluster reports into events and warnings.

    Parameters
    ----------
    now : callable
        The clock, in seconds.
    """

    def __init__(self, claim: Claim, emit: Events, now: Callable[[], float] = monotonic) -> None:
        self._claim, self._emit, self._now = claim, emit, now
        self._provider: Provider | None = None
        self._memory = MemoryLimit()
        self._news = asyncio.Event()
        self._warned: set[str] = set()
        self._lost: dict[str, float] = {}
        self._progress: tuple[float, int] = now(), 0
        self.waiting = Waiting(now)

        self.usage: Usage | None = None
        """The last report; None before the first."""

        self.worker_memory = 0
        """Bytes of one worker, by the last report that had one."""

        self.memory: str | None = None
        """In words, what the memory limit here has killed; None where that harmed nobody."""

        self.ended: Ended | None = None
        """How the cluster has ended without this launcher; None: not, or unknown."""

        self.cut_off = False
        """Whether its scheduler took no connection at the end, and nobody knows of its end."""

    def begin(self, provider: Provider) -> None:
        """Watch the cluster of this provider from now on."""
        self._provider, self.usage, self.ended = provider, None, None
        self._progress = self._now(), 0
        self._warned.discard("size")

    @property
    def cluster_name(self) -> str:
        """What a sentence calls the cluster."""
        return self._provider.called() if self._provider else "the cluster"

    def report(self, usage: Usage) -> None:
        """The cluster reports what it has done."""
        workers_before = self.usage.workers if self.usage else 0
        self.usage = usage
        self.worker_memory = usage.worker[1] if usage.worker else self.worker_memory
        if self.ended is not None:
            # A gateway that has just restarted did not know it.
            self.ended = None
            self._emit.note(f"{self.cluster_name} has not ended: its scheduler answers again")
        self._emit(events.Reported(usage))
        if usage.workers != workers_before:
            self._emit(events.WorkersChanged(usage))
        self._tell_of_progress(usage)
        self._compare(usage)
        hint = ""
        if provider := self._provider:
            hint = ". ".join(filter(None, (provider.obstacle, provider.no_workers)))
        if warning := self.waiting.look(usage, self.cluster_name, hint):
            self._emit(warning)
        for loss in usage.lost:
            self._tell_of_loss(loss)
        if usage.gave_up:
            tasks, resources = counted(usage.gave_up[0], "task"), usage.gave_up[1]
            why = f"no worker has the resources {resources}" if resources else "none was there"
            self._warn_once(
                "gave up",
                f"{tasks} failed after {usage.no_workers_timeout or 0.0:g} s without a worker that "
                f"could run them: {why}. Claim such workers, or give them longer to come "
                "(no_workers_timeout)",
            )
        self._tell_of_others(usage)
        self._news.set()

    def _warn_once(self, what: str, text: str | None) -> None:
        if text and what not in self._warned:
            self._warned.add(what)
            self._emit.warn(text)

    def _tell_of_progress(self, usage: Usage) -> None:
        """Once a minute while tasks run, and where more are done than before."""
        last, done = self._progress
        if self._now() - last < PROGRESS_EVERY:
            return
        if usage.processing or usage.tasks_done != done:
            self._progress = self._now(), usage.tasks_done
            # On a terminal it would come between the command's own lines.
            level = "DEBUG" if os.isatty(2) else "INFO"
            figures = usage.tasks_done, usage.tasks_total, usage.workers, usage.memory_used
            self._emit(Progress(*figures, level=level))

    def _tell_of_loss(self, loss: Lost) -> None:
        now = self._now()
        # A cluster whose workers go is often about to end itself: of that `report_end` tells.
        wait = 0.0 if loss.reason in ON_ITS_OWN else SETTLED_AFTER
        if now - self._lost.setdefault(loss.reason, now) < wait or loss.reason in self._warned:
            return
        self._warned.add(loss.reason)
        text = printable(loss.text)
        if loss.reason == "memory_limit":
            text += (
                ". A task to which this happens several times fails with KilledWorker: claim more "
                "worker_memory, or give each task less to hold"
            )
        self._emit(WorkerLost(text, loss.reason))

    def _tell_of_others(self, usage: Usage) -> None:
        shared = usage.shared or {}
        if shared.get("lost_by_others"):
            self._warn_once(
                "others",
                "a worker of the shared cluster was lost with tasks of another run: what it held "
                "for this one is computed again",
            )
        if shared.get("shut_down"):
            self._emit.note(
                "client.shutdown() on a shared cluster is this run's leaving: it stays for others"
            )

    def _compare(self, usage: Usage) -> None:
        """Compare what the cluster is with what is claimed."""
        claim, provider = self._claim, self._provider
        # What this machine can give its provider reports itself.
        if usage.worker and provider is not None and "size" not in self._warned:
            self._warned.add("size")
            if provider.outlives_launcher and (text := _other_size(claim, *usage.worker)):
                self._emit.note(text)
        # Of a worker that comes too late to be compared before the command starts.
        if claim.versions == "strict" and WORKERS in usage.versions:
            self._warn_once("versions", differences(installed_versions(), usage.versions))
        claimed, real = claim.no_workers_timeout, usage.no_workers_timeout
        if claimed is not None and claimed != real:
            behaviour = "wait for ever" if real is None else f"fail after {real:g} s"
            self._warn_once(
                "timeout",
                f"no_workers_timeout = {claimed:g} has no effect on this scheduler: tasks that no "
                f"worker can run {behaviour}. It needs distributed 2024.8 or newer and, on a "
                "gateway, an option for variables of the scheduler",
            )

    def report_end(self, ended: Ended) -> None:
        """The cluster has ended without the launcher; the first report counts."""
        if self.ended is not None:
            return
        self.ended = ended
        text = f"{self.cluster_name} {ended.how}"
        text = text[0].upper() + text[1:]
        if ended.ordinary:
            self._emit.note(text)
        else:
            self.memory = self._memory.exceeded("It") if ended.killed else None
            self._emit.warn(". ".join(filter(None, (text, self.memory))))
        self._news.set()

    def look_at_memory(self, status: int) -> None:
        """Warn where the memory limit has killed the command, or a process that it needed."""
        killed = status == 128 + signal.SIGKILL
        whom = "the command" if killed else "a worker or another process here"
        # With status 0 it did no harm; of the cluster's own end `report_end` tells.
        harmed = killed or (status and self.ended is None)
        if harmed and (why := self._memory.exceeded(whom)):
            self.memory = why
            self._emit.warn(why)

    async def has_ended(self, patience: float = 0.0) -> bool:
        """Whether the cluster has ended, as its provider says; False also where it cannot tell.

        `patience`: seconds for which the news may still be on the way.
        """
        if self.ended is None and self._provider is not None:
            try:
                ended = await in_time(self._provider.ended(patience), LOOK_TIMEOUT)
            except Exception:
                # Whatever stands in the way of an answer: unknown.
                return False
            if ended is not None:
                self.report_end(ended)
        return self.ended is not None

    async def wait_for_workers(self, count: int) -> None:
        """Return when `count` workers are reported.

        Raises
        ------
        ClusterFailed
            The cluster has ended.
        """
        while self.ended is None and (self.usage.workers if self.usage else 0) < count:
            self._news.clear()
            await self._news.wait()
        if self.ended is not None:
            raise ClusterFailed(f"{self.cluster_name} {self.ended.how}")


def _other_size(claim: Claim, threads: int, memory: int) -> str | None:
    real = []
    if claim.worker_cores is not None and threads != max(1, int(claim.worker_cores)):
        real.append(f"{counted(threads, 'thread')} (worker_cores {claim.worker_cores:g})")
    claimed = claim.worker_memory.bytes if claim.worker_memory else 0
    if claimed and memory and abs(memory - claimed) > ROUNDING * claimed:
        real.append(f"{memory / 2**30:.2f} GiB (worker_memory {claim.worker_memory})")
    return f"A worker here really has {' and '.join(real)}" if real else None
