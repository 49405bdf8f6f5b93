"""`create: false`: the program makes its own cluster; the claim only maps names."""

from __future__ import annotations

from dask_claim.handoff import Handoff
from dask_claim.providers.base import Order


class NoProvider:
    """Makes nothing, so there is nothing to give back."""

    name = "none"
    description = "nowhere: the program makes its own cluster (create: false)"
    obstacle: str | None = None
    needs_lease = False
    owns_cluster = False

    def __init__(self, order: Order) -> None:
        claim = order.claim
        self.handoff = Handoff(
            gateway_url=claim.gateway_url,
            proxy_url=claim.proxy_url,
            public_url=claim.public_url,
        )

    async def submit(self) -> None: ...

    async def wait_until_running(self) -> None: ...

    async def size(self) -> None: ...

    def security(self) -> None: ...

    async def stop(self) -> None: ...
