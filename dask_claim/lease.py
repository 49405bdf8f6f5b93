"""The lease on the launcher's side: placed on the scheduler, renewed until the end."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from time import monotonic
from typing import Any, TypeVar

import cloudpickle
from distributed.core import rpc
from distributed.protocol.pickle import dumps

from dask_claim import lease_plugin
from dask_claim.usage import Usage

T = TypeVar("T")

# Until the first workers are there somebody is waiting for news of them.
SOON = 0.2
SOON_FOR = 60.0
# Renewals, when no news are expected: several within a timeout, and not more than needed.
RENEWALS = 6
LONGEST_PAUSE = 5.0
CALL_TIMEOUT = 3.0
PLACE_TIMEOUT = 10.0


class Lease:
    """One lease, for as long as the scheduler can be reached.

    Parameters
    ----------
    address : str
        Of the scheduler.
    security : distributed.Security or None
        Its credentials.
    timeout, lifetime
        As for `LeasePlugin`.
    """

    def __init__(self, address: str, security: Any, timeout: float, lifetime: float | None) -> None:
        self._address = address
        self._connection = security.get_connection_args("client") if security else {}
        self._plugin = lease_plugin.LeasePlugin(timeout, lifetime)
        self._pause = min(LONGEST_PAUSE, timeout / RENEWALS) if timeout else LONGEST_PAUSE
        self._scheduler: Any = None
        self._task: asyncio.Task[None] | None = None
        self._on_change: Callable[[Usage], None] = lambda usage: None
        self.usage: Usage | None = None
        """The last that was heard; None before the first word."""

    @property
    def placed(self) -> bool:
        """Whether the scheduler has taken it."""
        return self._task is not None

    async def place(self, expected: int, on_change: Callable[[Usage], None]) -> None:
        """Put the lease on the scheduler, and call `on_change` when workers come or go.

        The scheduler is asked often until the `expected` workers are up. Tries again as long as the
        scheduler is too busy to answer, or cannot be reached. Raises whatever it objects to.
        """
        # By value, for the scheduler's image may lack this package. The registration is global to
        # the process, so it lasts only as long as it is needed.
        cloudpickle.register_pickle_by_value(lease_plugin)
        try:
            plugin = dumps(self._plugin)
        finally:
            cloudpickle.unregister_pickle_by_value(lease_plugin)
        while True:
            try:
                await self._call(
                    lambda scheduler: scheduler.register_scheduler_plugin(
                        plugin=plugin, name=lease_plugin.NAME, idempotent=True
                    ),
                    PLACE_TIMEOUT,
                )
                break
            except (OSError, asyncio.TimeoutError):
                await asyncio.sleep(min(1.0, self._pause))
        self._on_change = on_change
        self._task = asyncio.create_task(self._keep(expected))

    async def _keep(self, expected: int) -> None:
        started = monotonic()
        while True:
            with contextlib.suppress(Exception):
                await self._renew()
            waiting = self._workers < max(1, expected) and monotonic() - started < SOON_FOR
            await asyncio.sleep(min(SOON, self._pause) if waiting else self._pause)

    @property
    def _workers(self) -> int:
        return self.usage.workers if self.usage else 0

    async def _renew(self) -> None:
        reply = await self._call(
            lambda scheduler: getattr(scheduler, lease_plugin.RENEW)(), CALL_TIMEOUT
        )
        before, self.usage = self._workers, Usage(**reply)
        if self.usage.workers != before:
            self._on_change(self.usage)

    async def wait_for_workers(self, count: int) -> None:
        """Return when at least `count` workers are up, also where no lease could be placed."""
        while self._workers < count:
            await asyncio.sleep(SOON)
            with contextlib.suppress(Exception):
                if self.placed:
                    await self._renew()
                elif await self._count() >= count:
                    return

    async def _count(self) -> int:
        """How many workers the scheduler has, as every scheduler tells."""
        identity = await self._call(lambda scheduler: scheduler.identity(), CALL_TIMEOUT)
        return len(identity["workers"])

    async def release(self) -> None:
        """Hear once more what was used, and hang up; takes seconds at most."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(Exception):
                await self._renew()
        await self._hang_up()

    async def _call(self, call: Callable[[Any], Awaitable[T]], timeout: float) -> T:
        """One call to the scheduler; after a failed one the next has a new connection."""
        if self._scheduler is None:
            self._scheduler = rpc(self._address, connection_args=self._connection, timeout=timeout)
        try:
            return await asyncio.wait_for(call(self._scheduler), timeout)
        except BaseException:
            await self._hang_up()
            raise

    async def _hang_up(self) -> None:
        scheduler, self._scheduler = self._scheduler, None
        if scheduler is not None:
            with contextlib.suppress(Exception):
                await asyncio.wait_for(scheduler.close_rpc(), 1.0)
