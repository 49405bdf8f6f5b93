"""Clusters from a Dask Gateway."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from typing import TYPE_CHECKING, Any

from loguru import logger

from dask_claim.errors import (
    AuthenticationError,
    ClusterFailed,
    DaskClaimError,
    GatewayUnreachable,
    LimitReached,
    TemporaryError,
)
from dask_claim.handoff import Handoff
from dask_claim.providers.base import Order
from dask_claim.providers.gateway_options import fill
from dask_claim.redact import redact

if TYPE_CHECKING:
    from dask_gateway.client import ClusterReport
    from dask_gateway.options import Options

    from dask_claim.providers.gateway_api import GatewayApi
    from dask_claim.providers.lost import LostRequest

# While giving back one hanging request must leave time for others.
STOP_REQUEST_TIMEOUT = 8.0
# A place under a limit comes free when somebody's run ends: seconds at the soonest.
FIRST_WAIT, LONGEST_WAIT = 1.0, 20.0


class GatewayProvider:
    """One cluster of one gateway."""

    name = "gateway"
    needs_lease = True
    owns_cluster = True

    def __init__(self, order: Order) -> None:
        self._order = order
        self._api: GatewayApi | None = None
        self._report: ClusterReport | None = None
        self._name: str | None = None
        self._lost: LostRequest | None = None
        self.handoff = Handoff()
        self.obstacle: str | None = None
        self.description = f"the Dask Gateway at {redact(str(order.claim.gateway_url))}"

    async def submit(self) -> None:
        from dask_claim.providers.gateway_api import GatewayApi, pauses

        claim = self._order.claim
        self._api = api = GatewayApi(claim)
        options = await api.options()
        if missing := fill(options, claim):
            self._order.warn(
                f"this gateway does not offer {', '.join(missing)}: left to its own defaults"
            )
        for wait in pauses(FIRST_WAIT, LONGEST_WAIT, growth=1.5):
            try:
                await self._create(api, options)
                return
            except LimitReached as error:
                if self.obstacle is None:
                    logger.info(f"{error}. Asking again until there is room")
                self.obstacle = str(error)
            # Many who were refused together must not all come back together.
            await asyncio.sleep(wait * random.uniform(0.5, 1.5))

    async def _create(self, api: GatewayApi, options: Options) -> None:
        before = [report.name for report in await api.clusters()]
        sent = time.time()
        self._order.note(
            claim=self._order.claim.to_dict(),
            request={"before": before, "sent": sent, "options": dict(options)},
        )
        answer = asyncio.ensure_future(api.create(options))
        try:
            self._name = await asyncio.shield(answer)
        except asyncio.CancelledError:
            # The gateway may be making the cluster at this moment; with its answer it is given
            # back soonest.
            with contextlib.suppress(DaskClaimError, asyncio.TimeoutError):
                self._name = await asyncio.wait_for(answer, STOP_REQUEST_TIMEOUT)
            raise
        finally:
            if not _is_answer(answer):
                from dask_claim.providers.lost import LostRequest

                self._lost = LostRequest(before, sent, time.time(), dict(options))
            if self._name is not None:
                self._order.note(cluster=self._name)
            self._learn()

    async def wait_until_running(self) -> None:
        from dask_claim.providers.gateway_api import pauses

        api, name = self._api, self._name
        assert api is not None and name is not None
        for pause in pauses():
            try:
                report = await api.report(name, wait=True)
            except TemporaryError as error:
                # The start timeout decides how long a gateway in trouble is waited for.
                self.obstacle = str(error)
                await asyncio.sleep(pause)
                continue
            status = report.status.name if report else "forgotten"
            if status == "RUNNING":
                self._report = report
                self._learn()
                return
            if status != "PENDING":
                raise ClusterFailed(
                    f"cluster {name} did not start: {self.description} says it is {status}. Its "
                    "operator finds the reason in the logs of that cluster"
                )
            await asyncio.sleep(pause)

    async def size(self) -> tuple[int, int]:
        plan = self._order.plan
        assert self._api is not None and self._name is not None
        await self._api.resize(self._name, plan)
        return plan.min_workers, plan.max_workers

    def security(self) -> Any:
        assert self._report is not None
        return self._report.security

    async def stop(self) -> bool | None:
        if self._api is None:
            return None
        try:
            if self._name is None and self._lost is not None:
                return await self._end_lost(self._api, self._lost)
        finally:
            await self._api.close()
        return await end_cluster(self._order, self._name) if self._name else None

    async def _end_lost(self, api: GatewayApi, request: LostRequest) -> bool | None:
        """Find and end the cluster whose name was lost; None where there is none."""
        from dask_claim.providers.lost import end_lost

        try:
            names = await asyncio.wait_for(end_lost(api, request), self._order.stop_timeout)
        except (DaskClaimError, asyncio.TimeoutError):
            self._order.warn(
                f"{self.description} may have made a cluster although its answer was lost; it "
                "could not be looked for (dask-claim clusters lists yours)"
            )
            return False
        for name in names:
            logger.warning(f"Cluster {name} was made although the gateway's answer was lost")
        ended = [await end_cluster(self._order, name) for name in names]
        return all(ended) if ended else None

    def _learn(self) -> None:
        """Put what is known of the cluster into the handoff."""
        if self._name is None:
            return
        api, claim = self._api, self._order.claim
        assert api is not None
        self.handoff = Handoff(
            # As the client forms both from a name; its report has them only once it is running.
            scheduler_address=f"{api.proxy_address}/{self._name}",
            dashboard_url=(self._report.dashboard_link if self._report else None)
            or f"{api.public_address}/clusters/{self._name}/status",
            cluster_name=self._name,
            gateway_url=api.address,
            proxy_url=api.proxy_address,
            public_url=claim.public_url,
            gateway_user=api.user,
        )


def _is_answer(request: asyncio.Future[str]) -> bool:
    """Whether the gateway has granted or refused a request; else nobody knows what it has done."""
    if not request.done() or request.cancelled():
        return False
    return not isinstance(request.exception(), GatewayUnreachable)


async def end_cluster(order: Order, name: str) -> bool:
    """Ask the gateway to end a cluster, again and again, until it confirms that it is gone.

    Returns False where the stop timeout came first.
    """
    from dask_claim.providers.gateway_api import GatewayApi, pauses

    async def until_gone() -> bool:
        # A client of its own: the old one may hold a connection that hangs.
        api = GatewayApi(order.claim, min(STOP_REQUEST_TIMEOUT, order.stop_timeout / 2))
        requested = False
        try:
            for pause in pauses():
                try:
                    if not requested:
                        await api.delete(name)
                        requested = True
                    report = await api.report(name)
                    if report is None or report.status.name in ("STOPPED", "FAILED"):
                        return True
                except DaskClaimError as error:
                    # Whatever the gateway answers, the cluster may still be there.
                    requested = False
                    if isinstance(error, AuthenticationError):
                        api.renew_credentials()
                await asyncio.sleep(pause)
        finally:
            await api.close()
        raise AssertionError("pauses never end")

    try:
        return await asyncio.wait_for(until_gone(), order.stop_timeout)
    except asyncio.TimeoutError:
        return False
