"""The lease on the scheduler's side: reports what is used, and ends an abandoned cluster.

It is sent by value, with `meter` and `versions`, for the scheduler's image may lack dask-claim. So
it uses nothing but these and Dask, and nothing that an old Dask does not have.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import time
from time import monotonic
from typing import Any

from dask_claim.providers.meter import Meter
from dask_claim.providers.usage import LOOK

VERSION = 2
"""Of what `look` answers; 1 says neither this nor `ends_cluster`."""

NAME = "dask-claim-lease"
HOLD = "dask_claim_hold"
"""The call by which a launcher opens the connection that it holds its lease with. Each message on
it renews the lease and is answered with what is used."""

RENEW = "renew"
SHUT_DOWN = "shut_down"
"""The one key of a message that answers nothing: a client shuts the scheduler down."""

RELEASE = "release"
"""The last message: the launcher ends the cluster itself now."""

LOST = (errno.EHOSTUNREACH, errno.ENETUNREACH, errno.ETIMEDOUT)
"""Errors of a system that gave up sending: nothing was closed at the other end."""

# A holder that ends nothing is forgotten after so many silent seconds.
FORGOTTEN_AFTER = 60.0


class Holder:
    """One launcher that holds the cluster.

    Two clocks say that it is gone. A connection that was closed says that its process has ended,
    unless it is back within `reconnect_timeout` seconds. Where packets are lost, or the launcher is
    stopped, nothing is closed: then it is gone after `timeout` seconds of silence.
    """

    def __init__(
        self, now: float, timeout: float, reconnect_timeout: float, lifetime: float | None
    ) -> None:
        self.timeout, self.reconnect_timeout, self.lifetime = timeout, reconnect_timeout, lifetime
        self.placed = self.heard = now
        self.connections = 0
        # Until it is connected for the first time it is as if it had been.
        self.closed: float | None = now
        self.released = False

    @property
    def binds(self) -> bool:
        """Whether its end is the cluster's; else it only counts."""
        return bool(self.timeout or self.lifetime)

    def gone(self, now: float) -> str | None:
        """Why it does not hold the cluster any more; None while it does."""
        if self.lifetime and now - self.placed > self.lifetime:
            return f"its lifetime of {self.lifetime:g} s is over"
        if self.lifetime and not self.timeout and not self.released:
            return None
        if self.closed is not None and now - self.closed > self.reconnect_timeout:
            if self.released:
                return "its launcher has released it, and it still runs"
            return f"its launcher closed its connection {now - self.closed:.0f} s ago"
        if now - self.heard > (self.timeout or FORGOTTEN_AFTER):
            return f"its launcher was not heard for {now - self.heard:.0f} s"
        return None

    def postpone(self, seconds: float) -> None:
        """Take time off in which nobody could have been heard."""
        self.heard += seconds
        if self.closed is not None:
            self.closed += seconds


class LeasePlugin(Meter):
    """Ends the cluster when the last launcher that holds it is gone.

    Parameters
    ----------
    holder : str
        Identifies the launcher that places the plugin, and holds the cluster from then on. Others
        that come later have identities of their own.
    timeout : float
        Seconds without a renewal after which it is gone; 0: never (then it only counts).
    reconnect_timeout : float
        Seconds after which it is gone when its connection was closed.
    lifetime : float or None
        Seconds after which it is gone whatever it says.
    """

    def __init__(
        self, holder: str, timeout: float, reconnect_timeout: float, lifetime: float | None
    ) -> None:
        super().__init__()
        self._first = holder, timeout, reconnect_timeout, lifetime

    def start(self, scheduler: Any) -> None:
        super().start(scheduler)
        self._comms: set[Any] = set()
        self._holders: dict[str, Holder] = {}
        self._ends_cluster = self._ending = False
        self._holder(*self._first)
        scheduler.handlers[HOLD] = self.hold
        scheduler.handlers[LOOK] = self.look
        close = scheduler.handlers["terminate"]

        async def terminate(**terms: Any) -> Any:
            for comm in list(self._comms):
                try:
                    await comm.write({SHUT_DOWN: True})
                except OSError:
                    continue
            return await close(**terms)

        scheduler.handlers["terminate"] = terminate
        self._watching = asyncio.ensure_future(self._watch())

    def _holder(
        self, name: str, timeout: float, reconnect_timeout: float, lifetime: float | None
    ) -> Holder:
        if name not in self._holders:
            self._holders[name] = Holder(monotonic(), timeout, reconnect_timeout, lifetime)
            if timeout:
                self._ends_cluster = True
                # From now on the lease ends what is abandoned. Dask's own timeout would also count
                # the time in which this machine was suspended.
                self._scheduler.idle_timeout = None
        return self._holders[name]

    async def hold(self, comm: Any, holder: str, **terms: Any) -> None:
        """Serve one connection of a holder for as long as it is open.

        `terms`: `timeout`, `reconnect_timeout`, `lifetime`.
        """
        held = self._holder(holder, **terms)
        self._comms.add(comm)
        held.connections += 1
        held.closed = None
        held.heard = monotonic()
        lost = False
        try:
            while True:
                message = await comm.read()
                held.heard = monotonic()
                held.released = message == RELEASE
                if holder not in self._holders and not self._ending:
                    await self._heard_again(holder, held)
                self._count_as_use()
                await comm.write(await self.answer(holder, message))
        except OSError as error:
            lost = getattr(error.__cause__, "errno", None) in LOST
        finally:
            self._comms.discard(comm)
            held.connections -= 1
            if not held.connections and not lost:
                held.closed = monotonic()

    async def _heard_again(self, name: str, holder: Holder) -> None:
        """Have a launcher hold the cluster again that was silent for too long on its connection."""
        if holder.gone(monotonic()) is None:
            self._holders[name] = holder

    async def answer(self, holder: str, message: str) -> dict[str, Any]:
        """Return what a holder is answered on its `message`."""
        return self.usage()

    async def look(self) -> dict[str, Any]:
        """Whether anybody holds the cluster, and how many workers are up.

        Only `_watch` gives a holder up: it accounts for the time in which nobody could be heard.
        """
        return {
            "version": VERSION,
            "holders": len(self._holders),
            "ends_cluster": self._ends_cluster,
            "workers": len(self._scheduler.workers),
        }

    async def close(self) -> None:
        # Not where it is the watching itself that closes the scheduler, and waits for it.
        if not self._ending:
            self._watching.cancel()

    async def _watch(self) -> None:
        while True:
            holders = self._holders.values()
            times = [each for held in holders for each in (held.timeout, held.reconnect_timeout)]
            pause = min([1.0, *(each / 4 for each in times if each)])
            before = monotonic()
            await asyncio.sleep(pause)
            # A scheduler that was busy with a large graph, or suspended, could not hear anybody:
            # such time is not the launchers'.
            await self.check(max(0.0, monotonic() - before - 2 * pause))

    async def check(self, deaf: float) -> None:
        """Give up the holders that are gone; for `deaf` seconds nobody could have been heard."""
        for name, holder in list(self._holders.items()):
            holder.postpone(deaf)
            if (reason := holder.gone(monotonic())) is not None:
                del self._holders[name]
                await self.given_up(name, holder, reason)

    async def given_up(self, name: str, holder: Holder, reason: str) -> None:
        """A launcher is gone: end the cluster where no other one holds it."""
        if holder.binds and not any(other.binds for other in self._holders.values()):
            await self._end(reason)

    async def _end(self, reason: str) -> None:
        """Ask the gateway to end this cluster, until it does; else end the scheduler."""
        self._ending = True
        log = logging.getLogger("distributed.scheduler")
        log.error("dask-claim ends this cluster: %s", reason)
        for attempt in range(30):
            try:
                from dask_gateway.scheduler_preload import make_gateway_client

                await make_gateway_client().shutdown()
            except (ImportError, SystemExit):
                break  # no gateway's scheduler
            except Exception as error:
                log.error("dask-claim: the gateway did not end the cluster: %s", error)
            # The gateway ends this process when it has ended the cluster.
            await asyncio.sleep(min(1.0 + attempt, 10.0))
        await self._scheduler.close(reason="dask-claim-lease")

    def _count_as_use(self) -> None:
        """Keep idle timeouts from ending a cluster whose command is busy on its own side."""
        scheduler = self._scheduler
        scheduler.idle_since = None  # distributed.scheduler.idle-timeout
        log = scheduler.transition_log
        # A gateway's idle_timeout looks at the time of the last transition, or of the start.
        if log and hasattr(log[-1], "_replace"):
            log[-1] = log[-1]._replace(timestamp=time.time())
        elif not log:
            scheduler.time_started = time.time()
