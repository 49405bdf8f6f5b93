"""The gateway's own part of a scheduler, which starts and retires workers. It crosses by value."""

from __future__ import annotations

from typing import Any


class WorkersService:
    """Sets the bounds of a cluster's workers from within its scheduler.

    It uses what `dask_gateway.scheduler_preload` has there, which is no public interface: `adapt`,
    `count`, and `_scale`. Where that is not there nothing is done.
    """

    def __init__(self, scheduler: Any) -> None:
        self._scheduler = scheduler

    async def adapt(self, minimum: int, maximum: int) -> None:
        """Have at least `minimum` workers at once, and at most `maximum` as tasks need them.

        Fewer than before only after the service's own adaptation has seen for some seconds that
        no more are needed; it retires them, their data moved, before they are closed.
        """
        service = getattr(self._scheduler, "services", {}).get("gateway")
        if service is None or not hasattr(service, "adapt"):
            return
        await service.adapt(minimum=minimum, maximum=maximum, active=True)
        if minimum > service.count:
            await service._scale(minimum)
