"""The connection to a scheduler that a launcher holds its lease with."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import cloudpickle
from distributed.comm import connect
from distributed.core import send_recv

from dask_claim.lifetime import lease_plugin, parts, sharing
from dask_claim.providers import meter, troubles, versions
from dask_claim.threads import in_time

CALL_TIMEOUT = 3.0
# Soon enough to tell a refused connection from no answer.
CONNECT_TIMEOUT = 2.0
PLACE_TIMEOUT = 10.0

BY_VALUE = (lease_plugin, parts, sharing, meter, troubles, versions)
"""The modules that the scheduler's image may lack."""


class JoinRefused(Exception):
    """A shared cluster does not take this run; `str()` says why."""


class LeaseConnection:
    """A connection of its own, so that the scheduler sees at once when this process ends.

    One that was closed is opened again for the next exchange.
    """

    def __init__(self, address: str, security: Any, terms: dict[str, Any]) -> None:
        """`terms`: the arguments of `LeasePlugin`, or of `SharedLease` where there is a `share`."""
        self._address, self._terms = address, terms
        self._arguments = security.get_connection_args("client") if security else {}
        self._comm: Any = None
        self._reading: asyncio.Future[Any] | None = None
        self.cut = False
        """Whether the scheduler's side has closed it, and not answered since."""

        self.shut_down = False
        """Whether a client has shut the scheduler down."""

    @property
    def is_open(self) -> bool:
        return self._reading is not None and not self._reading.done()

    async def place(self) -> None:
        """Put the plugin on the scheduler. Raises whatever it objects to."""
        await in_time(self._place(), PLACE_TIMEOUT)

    async def _place(self) -> None:
        comm = await self._connect(PLACE_TIMEOUT)
        call = {"op": "register_scheduler_plugin", "plugin": pickled_plugin(self._terms)}
        try:
            await send_recv(comm, **call, name=lease_plugin.NAME, idempotent=True)
            await self._hold(comm)
        except BaseException:
            comm.abort()
            raise

    async def exchange(self, message: str) -> Any:
        """Renew the lease with `message`; return the scheduler's report."""
        try:
            reply = await in_time(self._exchange(message), CALL_TIMEOUT)
        except BaseException:
            # After a failed call the next one has a new connection.
            await self.close()
            raise
        self.cut = False
        return reply

    async def _exchange(self, message: str) -> Any:
        if not self.is_open:
            await self.close()
            self._check_shut_down()
            await self._hold(await self._connect(CONNECT_TIMEOUT))
        assert self._reading is not None
        await self._comm.write(message)
        reply = await self._reading
        self._check_shut_down(reply)
        if sharing.REFUSED in reply:
            raise JoinRefused(str(reply[sharing.REFUSED]))
        self._reading = asyncio.ensure_future(self._comm.read())
        return reply

    def _check_shut_down(self, message: Any = ()) -> None:
        self.shut_down = self.shut_down or lease_plugin.SHUT_DOWN in message
        if self.shut_down:
            raise ConnectionError("a client has shut the scheduler down")

    async def pause(self, seconds: float) -> None:
        """Return when the connection is closed, or after so many seconds."""
        if self._reading is None:
            await asyncio.sleep(seconds)
        else:
            # Where the close came together with the last answer this returns at once.
            await asyncio.wait({self._reading}, timeout=seconds)

    async def call(self, timeout: float = CALL_TIMEOUT, **message: Any) -> Any:
        """Ask one question on another connection, and wait `timeout` s for the answer."""
        comm = await self._connect(CONNECT_TIMEOUT)
        try:
            return await in_time(send_recv(comm, **message), timeout)
        finally:
            comm.abort()

    async def close(self) -> None:
        comm, self._comm = self._comm, None
        reading, self._reading = self._reading, None
        if comm is None or reading is None:
            return
        comm.abort()
        closed = reading.done()
        reading.cancel()
        await asyncio.wait({reading})
        if reading.cancelled():
            return
        if reading.exception() is not None:
            self.cut = self.cut or closed
        else:
            self.shut_down = self.shut_down or lease_plugin.SHUT_DOWN in reading.result()

    async def _connect(self, timeout: float) -> Any:
        return await connect(self._address, timeout=timeout, **self._arguments)

    async def _hold(self, comm: Any) -> None:
        """Make this the connection that the scheduler watches."""
        await send_recv(comm, reply=False, op=lease_plugin.HOLD, **self._terms)
        self._comm = comm
        self._reading = asyncio.ensure_future(comm.read())


def pickled_plugin(terms: Mapping[str, Any]) -> bytes:
    """Return the plugin by value; `terms`: its arguments."""
    # The registration is global to the process, so it lasts only as long as it is needed.
    for module in BY_VALUE:
        cloudpickle.register_pickle_by_value(module)
    try:
        plugin = sharing.SharedLease if "share" in terms else lease_plugin.LeasePlugin
        return bytes(cloudpickle.dumps(plugin(**terms)))
    finally:
        for module in BY_VALUE:
            cloudpickle.unregister_pickle_by_value(module)
