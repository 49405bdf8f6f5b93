"""A scheduler that somebody else started: used, never ended."""

from __future__ import annotations

import asyncio
from typing import Any

from dask_claim.errors import ConfigurationError, TemporaryError
from dask_claim.handoff import SCHEDULER_ADDRESS, Handoff
from dask_claim.providers.base import Order, without_files_in_home

# One attempt to connect; more follow within the start timeout, for the scheduler may be starting.
CONNECT_TIMEOUT = 10.0


class AttachProvider:
    """Checks that the scheduler answers before the command depends on it."""

    name = "attach"
    obstacle: str | None = None
    needs_lease = False
    owns_cluster = False

    def __init__(self, order: Order) -> None:
        address = order.environ.get(SCHEDULER_ADDRESS)
        if not address:
            raise ConfigurationError(
                f"provider 'attach' needs the address of a running scheduler in "
                f"{SCHEDULER_ADDRESS}, which is not set"
            )
        self.description = f"the running scheduler at {address}"
        self.handoff = Handoff(scheduler_address=address)
        self._timeout = min(order.start_timeout, CONNECT_TIMEOUT)

    async def submit(self) -> None: ...

    async def wait_until_running(self) -> None:
        without_files_in_home()
        from distributed import Client

        address = self.handoff.scheduler_address
        try:
            async with Client(address, asynchronous=True, timeout=self._timeout):
                return
        except ValueError as error:
            raise ConfigurationError(f"{SCHEDULER_ADDRESS} = {address}: {error}") from error
        except (OSError, asyncio.TimeoutError) as error:
            raise TemporaryError(
                f"no scheduler answers at {address} ({SCHEDULER_ADDRESS}): {error}. Is it "
                "running, and reachable from here?"
            ) from error

    async def size(self) -> None: ...

    def security(self) -> Any:
        return None

    async def stop(self) -> None: ...
