"""Clusters from a Dask Gateway."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from loguru import logger

from dask_claim.errors import (
    ClusterFailed,
    ConfigurationError,
    DaskClaimError,
    GatewayAway,
    GatewayUnreachable,
    LimitReached,
    NotAGateway,
)
from dask_claim.providers.base import NO_WORKERS_TIMEOUT, Provider
from dask_claim.providers.gateway.filling import fill_request
from dask_claim.providers.gateway.patience import Patience
from dask_claim.providers.gateway.variables import MARK, Mark, end_when_idle, variables_option
from dask_claim.providers.values import Ended, Outcome, Request, Ticket
from dask_claim.redact import redact
from dask_claim.threads import in_time

if TYPE_CHECKING:
    from dask_gateway.client import ClusterReport
    from dask_gateway.options import Options

    from dask_claim.claim.fields import ClaimFields
    from dask_claim.providers.gateway.api import GatewayApi

# While a cluster is being stopped one hanging request must leave time for others.
STOP_REQUEST_TIMEOUT = 8.0
# Seconds: a gateway gives a scheduler that says nothing up after a minute.
AT_ONCE = 45.0
# From the scheduler's start until the lease is placed, which counts as use; usually 3 s.
SHORTEST_IDLE = 60.0


class GatewayProvider(Provider):
    """One cluster of one gateway."""

    name = "gateway"
    needs = ("gateway_url",)
    exact_size = False
    outlives_launcher = True
    may_fall_back = True
    of_gateway = True
    no_workers = (
        "The gateway's operator finds the reason in the logs of that cluster: a queue, a quota, an "
        "image that cannot be pulled, or whose Dask (2026.6 or newer) has no dask-worker command"
    )

    def __init__(
        self, request: Request, write: Callable[[Ticket], None], warn: Callable[[str], None]
    ) -> None:
        super().__init__(request, write, warn)
        self._api: GatewayApi | None = None
        self._report: ClusterReport | None = None
        self._name: str | None = None
        self._mark: str | None = None
        assert request.gateway is not None
        self._gateway = request.gateway
        self.description = f"the Dask Gateway at {redact(request.gateway.url)}"
        self._ticket = Ticket(self.name, {"gateway": asdict(request.gateway)})
        self._patience = Patience(self)

    @classmethod
    def serves_with(cls, claim: ClaimFields) -> tuple[str, str | None]:
        return cls.name if claim.create else "program-on-gateway", None

    def check(self) -> None:
        from dask_claim.providers.gateway.connection import check_proxy_address

        check_proxy_address(self._gateway)

    async def submit(self) -> None:
        from dask_claim.providers.gateway.api import GatewayApi

        self.check()
        request, claim = self.request, self.request.claim
        self._api = api = GatewayApi(self._gateway)
        options = await self._patience.ask(api.options)
        filled = fill_request(options, request)
        for what in filled.less:
            self._warn(f"less than claimed: {what}")
        if claim.lease_timeout:
            seconds = max(claim.lease_timeout, SHORTEST_IDLE)
            ends = end_when_idle(options, claim, seconds, request.gateway_options)
            self.idle_timeout = seconds if ends else None
        self._add_variables(options)
        if filled.understood:
            logger.info(f"This gateway's options: {'; '.join(filled.understood)}")
        for fault in filled.given_up:
            self._warn(f"{fault}: left to the gateway's own default (strict: false)")
        if filled.missing:
            self._warn(
                f"this gateway does not offer {', '.join(filled.missing)}: left to its own defaults"
            )
        await self._patience.ask(lambda: self._create(api, options), LimitReached, GatewayAway)

    def _add_variables(self, options: Options) -> None:
        """Put the run's mark among the variables, also among those of the claim's own options.

        And beside it, how long tasks wait for a worker that could run them.
        """
        request = self.request
        if name := variables_option(options, request.gateway_options):
            self._mark = str(Mark(request.run_id, leased=request.claim.lease_timeout > 0))
            timeout = request.claim.no_workers_timeout
            more = {} if timeout is None else {NO_WORKERS_TIMEOUT: str(timeout)}
            options[name] = {**more, **(options[name] or {}), MARK: self._mark}

    async def _create(self, api: GatewayApi, options: Options) -> None:
        """One request: first the ticket, then the request, then the ticket with the name."""
        requested: dict[str, Any] = {"mark": self._mark}
        if self._mark is None:
            before = [report.name for report in await self._patience.ask(api.clusters)]
            requested = {"before": before, "sent": time.time(), "options": dict(options)}
        ticket = self._ticket.with_({"requested": requested}, login=api.login)
        self._write(ticket)
        answer = asyncio.ensure_future(api.create(options))
        try:
            self._name = await asyncio.shield(answer)
        except asyncio.CancelledError:
            # The gateway may be making the cluster at this moment; with its answer it is ended
            # soonest.
            with contextlib.suppress(DaskClaimError, asyncio.TimeoutError):
                self._name = await in_time(answer, STOP_REQUEST_TIMEOUT)
            raise
        finally:
            if self._name is not None:
                named = ticket.with_({"named_at": time.monotonic()}, cluster_name=self._name)
                self._write(named)
                self._learn()
            elif _is_refusal(answer):
                self._write(self._ticket)

    async def wait_until_running(self) -> None:
        api, name = self._api, self._name
        assert api is not None and name is not None

        def troubled(error: DaskClaimError) -> None:
            # The start timeout decides how long a gateway in trouble is waited for.
            self.obstacle = str(error)

        status, report = await api.settled(name, troubled)
        if status != "RUNNING":
            raise ClusterFailed(
                f"cluster {name} did not start: {self.description} says it is {status}. Its "
                f"operator finds the reason in the logs of that cluster{_likely_cause(report)}"
            )
        self._report, self.obstacle = report, None
        self._learn()

    async def scale(self) -> tuple[int, int]:
        plan = self.request.plan
        assert self._api is not None and self._name is not None
        most, words = await self._api.resize(self._name, plan)
        if words and most < plan.min_workers and self.request.claim.strict:
            raise ConfigurationError(
                f"{self.description} gives cluster {self._name} fewer workers than the minimum of "
                f"{plan.min_workers}: {words} Claim fewer or smaller ones, or set strict: false"
            )
        if words:
            self._warn(f"this gateway gives fewer workers than claimed: {words}")
        return min(plan.min_workers, most), min(plan.max_workers, most)

    def security(self) -> Any:
        assert self._report is not None
        return self._report.security

    async def ended(self, patience: float = 0.0) -> Ended | None:
        assert self._api is not None and self._name is not None
        return await self._api.ended(self._name)

    async def close(self) -> None:
        if self._api is not None:
            await self._api.close()

    @classmethod
    async def reclaim(cls, ticket: Ticket, timeout: float, warn: Callable[[str], None]) -> Outcome:
        try:
            return await in_time(_reclaim(ticket, timeout, warn), timeout)
        except asyncio.TimeoutError:
            return Outcome.NOT_CONFIRMED

    def _learn(self) -> None:
        """Put what is known of the cluster where the command's variables come from."""
        assert self._api is not None and self._name is not None
        self.cluster = self._api.cluster(self._name, self._report)


def _likely_cause(report: ClusterReport | None) -> str:
    """What most schedulers that die at once die of, as of 2026; empty where this one did not."""
    if report is None or report.status.name != "FAILED" or report.stop_time is None:
        return ""
    if (report.stop_time - report.start_time).total_seconds() > AT_ONCE:
        return ""
    return (
        ". A scheduler that dies at once often has no dask-scheduler command, which Dask dropped "
        "in 2026.6 and Dask Gateway still calls: its configuration then needs "
        'c.ClusterConfig.scheduler_cmd = ["dask", "scheduler"], worker_cmd = ["dask", "worker"]'
    )


def _is_refusal(request: asyncio.Future[str]) -> bool:
    """Whether the gateway has refused a request; else nobody knows what it has done."""
    if not request.done() or request.cancelled():
        return False
    error = request.exception()
    if isinstance(error, (GatewayUnreachable, NotAGateway)):
        return isinstance(error, GatewayAway)
    return error is not None


async def _reclaim(ticket: Ticket, timeout: float, warn: Callable[[str], None]) -> Outcome:
    from dask_claim.providers.gateway.ending import client_of, end_cluster
    from dask_claim.providers.gateway.program import end_made

    made, requested = ticket.facts.get("made"), ticket.facts.get("requested")
    if not (ticket.cluster_name or made or requested):
        return Outcome.NOTHING
    # A client of its own: that of the run may hold a connection that hangs.
    patience = min(STOP_REQUEST_TIMEOUT, timeout / 2)
    api = await client_of(ticket, patience, warn)
    try:
        if made is not None:
            return Outcome.GONE if await end_made(api, made, warn) else Outcome.NOTHING
        if ticket.cluster_name is not None:
            await end_cluster(api, ticket.cluster_name, ticket.facts.get("named_at"))
            return Outcome.GONE
        return await _end_lost(api, requested, warn)
    finally:
        with contextlib.suppress(Exception):
            await api.close()


async def _end_lost(api: GatewayApi, requested: Any, warn: Callable[[str], None]) -> Outcome:
    from dask_claim.providers.gateway.lost import end_lost

    told: list[str] = []

    def tell(text: str) -> None:
        told.append(text)
        warn(text)

    try:
        return await end_lost(api, requested, tell)
    except asyncio.CancelledError:
        if not told:
            warn(
                f"{api.where} may have made a cluster although its answer was lost; it could not "
                "be looked for (dask-claim clusters lists yours)"
            )
        raise
