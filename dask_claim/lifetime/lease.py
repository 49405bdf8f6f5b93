"""The lease on the launcher's side: placed on the scheduler, renewed until the end."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping
from time import monotonic
from typing import Any

from dask_claim.files import letters
from dask_claim.lifetime import lease_plugin, sharing
from dask_claim.lifetime.lease_connection import JoinRefused, LeaseConnection, pickled_plugin
from dask_claim.providers.dask_report import TaskRecord
from dask_claim.providers.usage import RENOUNCED, Usage
from dask_claim.threads import cancel

# Until the first workers are there somebody is waiting for news of them.
SOON = 0.2
SOON_FOR = 60.0
# Renewals, when no news are expected: several within a timeout, and not more than needed.
RENEWALS = 6
LONGEST_PAUSE = 5.0
# One renewal may be missed for a busy scheduler; two in a row are worth a word.
WARN_AFTER = 2


class Lease:
    """One holder of a cluster, for as long as its scheduler can be reached.

    Parameters
    ----------
    address : str
        Of the scheduler.
    security : distributed.Security or None
        Its credentials.
    timeout, lifetime, reconnect_timeout, holder
        As for `LeasePlugin`; by default `holder` is a random identity.
    share : mapping or None
        As for `SharedLease`, where the run shares its cluster.
    """

    def __init__(
        self,
        address: str,
        security: Any,
        timeout: float,
        lifetime: float | None,
        reconnect_timeout: float = 10.0,
        holder: str | None = None,
        share: Mapping[str, Any] | None = None,
    ) -> None:
        self._address, self._timeout = address, timeout
        # A timeout of 0 would end the cluster on the first reconnect.
        self._reconnect_timeout = max(reconnect_timeout, 1.0)
        terms = {
            "holder": holder or letters(),
            "timeout": timeout,
            "reconnect_timeout": self._reconnect_timeout,
            "lifetime": lifetime,
        }
        self._last_message = lease_plugin.RELEASE
        if share is not None:
            terms["share"] = share
            self._last_message = sharing.LEAVE
        self._connection = LeaseConnection(address, security, terms)
        self.task_record = TaskRecord(self._connection.call)
        self._pause = min(LONGEST_PAUSE, timeout / RENEWALS) if timeout else LONGEST_PAUSE
        self._task: asyncio.Task[None] | None = None
        self._released = False
        self._workers = self._missed = 0
        self.cut_off = False
        """Whether at the end the scheduler took no connection, and nobody knows of its end."""

        self.expected = 0
        """The number of workers that are being waited for."""

    @property
    def placed(self) -> bool:
        """Whether the scheduler has taken it."""
        return self._task is not None

    @property
    def shut_down(self) -> bool:
        """Whether a client has shut the scheduler down."""
        return self._connection.shut_down

    @staticmethod
    def prepare() -> None:
        """Do beforehand, perhaps in a thread, what costs time and needs no scheduler."""
        pickled_plugin({"holder": "", "timeout": 0.0, "reconnect_timeout": 1.0, "lifetime": None})

    async def place(
        self,
        on_usage: Callable[[Usage], None],
        warn: Callable[[str], None],
        is_over: Callable[[], Awaitable[bool]],
    ) -> None:
        """Put the lease on the scheduler, and call `on_usage` after each renewal.

        Tries again as long as the scheduler is too busy to answer, or cannot be reached. Raises
        whatever it objects to.

        `warn` is called once when the scheduler does not answer, and once when it answers again.
        `is_over` tells whether the cluster has ended, where no scheduler answers; then this
        returns.
        """
        self._on_usage, self._warn, self._is_over = on_usage, warn, is_over
        while not self._released:
            try:
                await self._connection.place()
                await self._renew()
                break
            except (OSError, asyncio.TimeoutError) as error:
                await self._connection.close()
                if await is_over():
                    return
                self._miss(error)
                await asyncio.sleep(min(1.0, self._pause))
            except Exception as error:
                await self._connection.close()
                if not isinstance(error, JoinRefused):
                    await self.renounce()
                raise
        self._task = asyncio.create_task(self._keep())

    async def renounce(self) -> None:
        """Leave word at a scheduler that takes no plugin: no lease is to be missed."""
        message = {"version": lease_plugin.VERSION, "ends_cluster": False}
        with contextlib.suppress(Exception):
            await self._connection.call(op="log_event", topic=RENOUNCED, msg=message)

    async def resize(self) -> None:
        """Have a shared cluster's scheduler set the bounds of all runs, whatever they are now."""
        await self._connection.call(op=sharing.RESIZE)

    async def count_workers(self) -> int:
        """Return how many workers the scheduler has, as every one tells; 0 where it does not."""
        with contextlib.suppress(Exception):
            return len((await self._connection.call(op="identity"))["workers"])
        return 0

    async def release(self) -> None:
        """Receive a last report, and hang up; takes seconds at most.

        The cluster is the caller's to end now. The scheduler ends it where it still runs after
        `reconnect_timeout`.
        """
        if self._released:
            return
        self._released = True
        await cancel(self._task)
        if self.placed and not self.shut_down:
            try:
                await self._renew(self._last_message)
            except Exception:
                self.cut_off = not await self._is_over() and self._connection.cut
                if self.cut_off:
                    self._warn("the scheduler has closed its connection and takes no other one")
        await self._connection.close()

    async def _keep(self) -> None:
        started = monotonic()
        # Before Python 3.12 a call that is answered at the very moment swallows its cancellation.
        while not self._released:
            over = await self._renew_or_ask()
            if over and (self.shut_down or not self._timeout):
                return
            pause = self._pause
            if self._missed or over:
                pause = min(pause, self._reconnect_timeout / 4, 1.0)
            elif self._workers < max(1, self.expected) and monotonic() - started < SOON_FOR:
                pause = min(pause, SOON)
            elif self._workers < self.expected:
                pause = min(pause, 1.0)
            await self._connection.pause(pause)

    async def _renew_or_ask(self) -> bool:
        """Renew the lease; only where no scheduler answers, return whether the cluster has ended.

        A gateway that has just restarted may not know a cluster that runs, so the scheduler is
        tried again whatever it says. A call that was under way as the connection closed is no
        answer either: the next one has a new connection.
        """
        connected = self._connection.is_open
        try:
            await self._renew()
        except Exception as error:
            if not connected and await self._is_over():
                return True
            self._miss(error)
        return False

    async def _renew(self, message: str = lease_plugin.RENEW) -> None:
        usage = Usage.of(await self._connection.exchange(message))
        if self._missed >= WARN_AFTER:
            self._warn("the scheduler answers again")
        self._missed, self._workers = 0, usage.workers
        self._on_usage(usage)

    def _miss(self, error: Exception) -> None:
        """Count a renewal without an answer: the scheduler is busy, out of reach, or gone."""
        self._missed += 1
        if self._missed != WARN_AFTER:
            return
        # Dask wraps what happened, sometimes several times.
        causes: list[BaseException] = [error]
        while causes[-1].__cause__ is not None:
            causes.append(causes[-1].__cause__)
        why = next((str(cause) for cause in reversed(causes) if str(cause)), "no answer")
        hint = ""
        if self._address.startswith("gateway://") and not self.placed:
            hint = ". proxy_url names where the gateway's proxy listens for schedulers"
        text = f"the scheduler does not answer at {self._address}; trying again ({why}){hint}"
        self._warn(text)
