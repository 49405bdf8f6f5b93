"""The lease on the launcher's side: placed on the scheduler, renewed until the end."""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections.abc import Awaitable, Callable
from time import monotonic
from typing import Any

import cloudpickle
from distributed.comm import connect
from distributed.core import send_recv

from dask_claim.files import letters
from dask_claim.lifetime import lease_plugin
from dask_claim.lifetime.trouble import Trouble
from dask_claim.providers import meter, versions
from dask_claim.providers.usage import RENOUNCED, Usage
from dask_claim.threads import cancel, in_time

# Until the first workers are there somebody is waiting for news of them.
SOON = 0.2
SOON_FOR = 60.0
# Renewals, when no news are expected: several within a timeout, and not more than needed.
RENEWALS = 6
LONGEST_PAUSE = 5.0
CALL_TIMEOUT = 3.0
# Soon enough to tell a refused connection from no answer.
CONNECT_TIMEOUT = 2.0
PLACE_TIMEOUT = 10.0

BY_VALUE = (lease_plugin, meter, versions)
"""The modules that the scheduler's image may lack."""


class Lease:
    """One holder of a cluster, for as long as its scheduler can be reached.

    It holds a connection of its own, so that the scheduler sees at once when this process ends.

    Parameters
    ----------
    address : str
        Of the scheduler.
    security : distributed.Security or None
        Its credentials.
    timeout, lifetime, reconnect_timeout, holder
        As for `LeasePlugin`; by default `holder` is a random identity.
    """

    def __init__(
        self,
        address: str,
        security: Any,
        timeout: float,
        lifetime: float | None,
        reconnect_timeout: float = 10.0,
        holder: str | None = None,
    ) -> None:
        self._address = address
        self._connection = security.get_connection_args("client") if security else {}
        self._terms: dict[str, Any] = {
            "holder": holder or letters(),
            "timeout": timeout,
            # A timeout of 0 would end the cluster on the first reconnect.
            "reconnect_timeout": max(reconnect_timeout, 1.0),
            "lifetime": lifetime,
        }
        self._pause = min(LONGEST_PAUSE, timeout / RENEWALS) if timeout else LONGEST_PAUSE
        self._comm: Any = None
        self._reading: asyncio.Future[Any] | None = None
        self._task: asyncio.Task[None] | None = None
        self._released = False
        self._workers = 0
        self._trouble = Trouble(lambda message: None, self._terms["reconnect_timeout"])
        self._cut = False
        """Whether the scheduler's side has closed the connection, and not taken another one."""

        self._over = False
        """Whether the cluster is said to have ended, and its scheduler was not heard since."""

        self.shut_down = False
        """Whether a client has shut the scheduler down."""

        self.expected = 0
        """The number of workers that are being waited for."""

    @property
    def placed(self) -> bool:
        """Whether the scheduler has taken it."""
        return self._task is not None

    @staticmethod
    def prepare() -> None:
        """Do beforehand, perhaps in a thread, what costs time and needs no scheduler."""
        _pickled("", 0.0, 1.0, None)

    async def place(
        self,
        on_usage: Callable[[Usage], None],
        on_trouble: Callable[[str], None],
        is_over: Callable[[], Awaitable[bool]],
    ) -> None:
        """Put the lease on the scheduler, and call `on_usage` after each renewal.

        Tries again as long as the scheduler is too busy to answer, or cannot be reached. Raises
        whatever it objects to.

        `on_trouble` is called once when the scheduler is not reached, once when it does not answer,
        once when it must be taken for gone, and once when it answers again. `is_over` is asked
        whether the cluster has ended, where no scheduler answers; then nothing of it is waited for.
        """
        self._on_usage, self._is_over = on_usage, is_over
        plugin, warned = _pickled(**self._terms), False
        while not self._released:
            try:
                await in_time(self._register(plugin), PLACE_TIMEOUT)
                await self._renew()
                break
            except (OSError, asyncio.TimeoutError):
                await self._hang_up()
                if await is_over():
                    return
                if not warned:
                    on_trouble(_unreached(self._address))
                    warned = True
                await asyncio.sleep(min(1.0, self._pause))
            except BaseException:
                await self._hang_up()
                raise
        self._trouble = Trouble(on_trouble, self._terms["reconnect_timeout"])
        self._task = asyncio.create_task(self._keep())

    async def renounce(self) -> None:
        """Leave word at a scheduler that takes no plugin, for whoever looks and misses a lease."""
        message = {"version": lease_plugin.VERSION, "ends_cluster": False}
        with contextlib.suppress(Exception):
            await self._call(op="log_event", topic=RENOUNCED, msg=message)

    async def count_workers(self) -> int:
        """Return how many workers the scheduler has, as every one tells; 0 where it does not."""
        with contextlib.suppress(Exception):
            return len((await self._call(op="identity"))["workers"])
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
        if self._task is not None and not self._trouble.gone and not self._over:
            try:
                await self._renew(lease_plugin.RELEASE)
            except Exception:
                if not await self._is_over() and self._cut:
                    self._trouble.cut()
        await self._hang_up()

    async def _call(self, **message: Any) -> Any:
        """One question on a connection of its own."""
        comm = await self._connect(CONNECT_TIMEOUT)
        try:
            return await in_time(send_recv(comm, **message), CALL_TIMEOUT)
        finally:
            comm.abort()

    async def _connect(self, timeout: float) -> Any:
        return await connect(self._address, timeout=timeout, **self._connection)

    async def _register(self, plugin: bytes) -> None:
        comm = await self._connect(PLACE_TIMEOUT)
        call = {"op": "register_scheduler_plugin", "plugin": plugin, "name": lease_plugin.NAME}
        try:
            await send_recv(comm, **call, idempotent=True)
            await self._hold(comm)
        except BaseException:
            comm.abort()
            raise

    async def _hold(self, comm: Any) -> None:
        """Make this the connection that the scheduler watches."""
        await send_recv(comm, reply=False, op=lease_plugin.HOLD, **self._terms)
        self._comm = comm
        self._reading = asyncio.ensure_future(comm.read())

    async def _keep(self) -> None:
        started = monotonic()
        # Before Python 3.12 a call that is answered at the very moment swallows its cancellation.
        while not self._released:
            await self._renew_or_ask()
            if self._over and (self.shut_down or not self._terms["timeout"]):
                return
            if self._trouble or self._over:
                pause = min(self._pause, self._terms["reconnect_timeout"] / 4, 1.0)
            elif self._workers < max(1, self.expected) and monotonic() - started < SOON_FOR:
                pause = min(SOON, self._pause)
            else:
                pause = min(1.0, self._pause) if self._workers < self.expected else self._pause
            if self._reading is None:
                await asyncio.sleep(pause)
            else:
                # Nothing comes unasked; a connection that is closed must be back soon. Where the
                # close came together with the answer this returns at once.
                await asyncio.wait({self._reading}, timeout=pause)

    async def _renew_or_ask(self) -> None:
        """Renew the lease; only where no scheduler answers, ask whether the cluster has ended.

        A gateway that has just restarted may not know a cluster that runs, so the scheduler is
        tried again whatever it says. A call that was under way as the connection closed is no
        answer either: the next one has a new connection.
        """
        connected = self._reading is not None and not self._reading.done()
        try:
            await self._renew()
            self._trouble.over()
        except Exception as error:
            if not connected:
                self._over = self._over or await self._is_over()
            if not self._over:
                self._trouble.missed(error)

    async def _renew(self, message: str = lease_plugin.MORE) -> None:
        try:
            reply = await in_time(self._exchange(message), CALL_TIMEOUT)
        except BaseException:
            # After a failed call the next one has a new connection.
            await self._hang_up()
            raise
        self._cut = self._over = False
        usage = Usage.of(reply)
        self._workers = usage.workers
        self._on_usage(usage)

    async def _exchange(self, message: str) -> Any:
        if self._reading is None or self._reading.done():
            await self._hang_up()
            self._check_shut_down()
            await self._hold(await self._connect(CONNECT_TIMEOUT))
        assert self._reading is not None
        await self._comm.write(message)
        reply = await self._reading
        self._check_shut_down(reply)
        self._reading = asyncio.ensure_future(self._comm.read())
        return reply

    def _check_shut_down(self, message: Any = ()) -> None:
        self.shut_down = self.shut_down or lease_plugin.SHUT_DOWN in message
        if self.shut_down:
            raise ConnectionError("a client has shut the scheduler down")

    async def _hang_up(self) -> None:
        comm, self._comm = self._comm, None
        reading, self._reading = self._reading, None
        if comm is not None:
            comm.abort()
        if reading is not None:
            closed = reading.done()
            reading.cancel()
            await asyncio.wait({reading})
            if reading.cancelled():
                return
            if reading.exception() is not None:
                self._cut = self._cut or closed
            else:
                self.shut_down = self.shut_down or lease_plugin.SHUT_DOWN in reading.result()


@functools.lru_cache
def _pickled(
    holder: str, timeout: float, reconnect_timeout: float, lifetime: float | None
) -> bytes:
    """The plugin by value."""
    # The registration is global to the process, so it lasts only as long as it is needed.
    for module in BY_VALUE:
        cloudpickle.register_pickle_by_value(module)
    try:
        plugin = lease_plugin.LeasePlugin(holder, timeout, reconnect_timeout, lifetime)
        return bytes(cloudpickle.dumps(plugin))
    finally:
        for module in BY_VALUE:
            cloudpickle.unregister_pickle_by_value(module)


def _unreached(address: str) -> str:
    through = address.startswith("gateway://")
    hint = ". proxy_url names where the gateway's proxy listens for schedulers" if through else ""
    return (
        f"the scheduler does not answer at {address}, so it has no lease; trying again every few "
        f"seconds{hint}"
    )
