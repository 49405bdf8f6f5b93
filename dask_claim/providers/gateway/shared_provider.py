"""A gateway's cluster that several runs share: one of them requests it, the others join."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from loguru import logger

from dask_claim.errors import ClusterFailed, ClusterGone, LimitReached, TemporaryError
from dask_claim.providers.gateway.provider import GatewayProvider
from dask_claim.providers.gateway.shared import SharedClusters
from dask_claim.providers.values import Outcome, Request, Ticket, Warn, Write

if TYPE_CHECKING:
    from dask_gateway.options import Options

    from dask_claim.providers.gateway.api import GatewayApi

OTHER_REQUEST = (
    "share: a cluster for {key!r} is there for another request (image, options, size of a worker, "
    "GPUs, environment, no_workers_timeout or versions): this run does not use that one"
)


class SharedGatewayProvider(GatewayProvider):
    """The one cluster of all runs with the same key and request, or this run's own until then.

    Which one that is all of them see alike, the oldest. Its scheduler has the last word: it may
    refuse a run, which then starts over.
    """

    shares = True

    def __init__(self, request: Request, write: Write, warn: Warn) -> None:
        super().__init__(request, write, warn)
        # Nobody ends it by this ticket while others use it.
        self._ticket = self._ticket.with_({"shared": True})
        self._has_told = False

    async def _request(self, api: GatewayApi, options: Options) -> None:
        if await self._join():
            return
        try:
            await self._create(api, options)
        except LimitReached:
            # Another run may have taken the last place at this moment, for both.
            if not await self._join():
                raise
            return
        await self._give_way()

    async def wait_until_running(self) -> None:
        try:
            await super().wait_until_running()
        except ClusterFailed as error:
            if not self.joined:
                raise
            raise ClusterGone(f"the shared cluster {self._name} is gone: {error}") from error

    async def agree(self) -> None:
        while not self.joined and await self._give_way():
            await self.wait_until_running()

    def shared_ticket(self) -> Ticket | None:
        return self._ticket

    def _clusters(self) -> SharedClusters:
        assert self._api is not None and self.request.share is not None
        return SharedClusters(self._api, self.request.share, self.request.avoid)

    async def _join(self) -> bool:
        clusters = self._clusters()
        name = await clusters.oldest()
        if clusters.others and not self._has_told:
            self._has_told = True
            assert self.request.share is not None
            logger.info(OTHER_REQUEST.format(key=self.request.share.key))
        return name is not None and self._use(name)

    async def _give_way(self) -> bool:
        """Where two runs have requested one at the same time: use the older, give this one back."""
        from dask_claim.providers.gateway.reclaiming import end_unused

        assert self._api is not None and self._name is not None
        own = self._name
        try:
            older = await self._clusters().older_than(own)
        except TemporaryError:
            return False  # this one serves as well
        if older is None:
            return False
        # One that others have joined meanwhile stays theirs.
        outcome = await end_unused(self._api, own, time.monotonic())
        logger.info(
            f"Cluster {own} is {'given back' if outcome is Outcome.GONE else 'left to others'}: "
            f"{older}, which is older, is shared"
        )
        self._write(self._ticket)
        return self._use(older)

    def _use(self, name: str) -> bool:
        assert self._api is not None
        self._name, self.joined = name, True
        self.cluster = self._api.cluster(name, None)
        return True
