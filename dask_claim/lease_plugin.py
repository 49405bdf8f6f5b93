"""The lease on the scheduler's side: counts what is used, and ends an abandoned cluster.

The class is sent by value, so that the scheduler's image needs no dask-claim; it must therefore
use nothing of this module but itself, and nothing that an old Dask does not have.
"""

from __future__ import annotations

from typing import Any

from distributed.diagnostics.plugin import SchedulerPlugin

NAME = "dask-claim-lease"
RENEW = "dask_claim_renew"
"""The call that renews the lease and answers with what is used."""

LOOK = "dask_claim_lease"
"""The call that only looks at it."""


class LeasePlugin(SchedulerPlugin):  # type: ignore[misc]
    """Gives the cluster back when its launcher has not been heard for `timeout` seconds.

    Parameters
    ----------
    timeout : float
        Seconds without a renewal; 0: never (then it only counts).
    lifetime : float or None
        Seconds after which the cluster ends whatever the launcher says.
    """

    def __init__(self, timeout: float, lifetime: float | None) -> None:
        self.timeout = timeout
        self.lifetime = lifetime

    def start(self, scheduler: Any) -> None:
        import asyncio
        from time import monotonic

        self._scheduler = scheduler
        self._now = monotonic
        self._since: dict[str, tuple[float, int]] = {}
        self._peak = self._done = self._failed = 0
        self._worker_seconds = self._core_seconds = 0.0
        self._placed = self._renewed = monotonic()
        scheduler.handlers["dask_claim_renew"] = self.renew
        scheduler.handlers["dask_claim_lease"] = self.look
        for address in scheduler.workers:
            self.add_worker(scheduler, address)
        self._watching = asyncio.ensure_future(self._watch())

    async def renew(self) -> dict[str, Any]:
        """Note that the launcher is there; what has been used so far."""
        self._renewed = self._now()
        self._count_as_use()
        return self._usage()

    async def look(self) -> dict[str, Any]:
        """The lease's timeout and the seconds since its last renewal, and what has been used."""
        silent = self._now() - self._renewed
        return {"timeout": self.timeout, "silent": silent, **self._usage()}

    async def close(self) -> None:
        self._watching.cancel()

    async def _watch(self) -> None:
        import asyncio

        pause = 1.0 if not self.timeout else min(1.0, self.timeout / 4)
        while True:
            before = self._now()
            await asyncio.sleep(pause)
            # A scheduler that was busy with a large graph, or suspended, could not hear anybody:
            # such time is not the launcher's.
            self._renewed += max(0.0, self._now() - before - 2 * pause)
            silent = self._now() - self._renewed
            if self.timeout and silent > self.timeout:
                await self._end(f"its launcher was not heard for {silent:.0f} s")
            elif self.lifetime and self._now() - self._placed > self.lifetime:
                await self._end(f"its lifetime of {self.lifetime:g} s is over")

    async def _end(self, reason: str) -> None:
        """Ask the gateway to end this cluster, until it does; else end the scheduler."""
        import asyncio
        import logging

        log = logging.getLogger("distributed.scheduler")
        log.error("dask-claim gives this cluster back: %s", reason)
        for attempt in range(30):
            try:
                from dask_gateway.scheduler_preload import make_gateway_client

                await make_gateway_client().shutdown()
            except (ImportError, SystemExit):
                break  # no gateway's scheduler
            except Exception as error:
                log.error("dask-claim: the gateway did not take the cluster back: %s", error)
            # The gateway ends this process when it has taken the cluster back.
            await asyncio.sleep(min(1.0 + attempt, 10.0))
        await self._scheduler.close(reason="dask-claim-lease")

    def _count_as_use(self) -> None:
        """Keep idle timeouts from ending a cluster whose command is busy on its own side."""
        from time import time

        scheduler = self._scheduler
        scheduler.idle_since = None  # distributed.scheduler.idle-timeout
        log = scheduler.transition_log
        # A gateway's idle_timeout looks at the time of the last transition, or of the start.
        if log and hasattr(log[-1], "_replace"):
            log[-1] = log[-1]._replace(timestamp=time())
        elif not log:
            scheduler.time_started = time()

    def add_worker(self, scheduler: Any, worker: str) -> None:
        self._since[worker] = (self._now(), scheduler.workers[worker].nthreads)
        self._peak = max(self._peak, len(self._since))

    def remove_worker(self, scheduler: Any, worker: str, **_: Any) -> None:
        since, cores = self._since.pop(worker, (self._now(), 0))
        seconds = self._now() - since
        self._worker_seconds += seconds
        self._core_seconds += seconds * cores

    def transition(self, key: Any, start: str, finish: str, *_: Any, **__: Any) -> None:
        if start == "processing":
            self._done += finish == "memory"
            self._failed += finish == "erred"

    def _usage(self) -> dict[str, Any]:
        now = self._now()
        running = list(self._since.values())
        states = self._scheduler.workers.values()
        return {
            "workers": len(running),
            "peak": self._peak,
            "cores": sum(cores for _, cores in running),
            "memory": sum(state.memory_limit or 0 for state in states),
            "worker_seconds": self._worker_seconds + sum(now - since for since, _ in running),
            "core_seconds": self._core_seconds
            + sum((now - since) * cores for since, cores in running),
            "tasks_done": self._done,
            "tasks_failed": self._failed,
        }
