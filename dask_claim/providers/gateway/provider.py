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
    TemporaryError,
)
from dask_claim.providers.base import NO_WORKERS_TIMEOUT, Provider
from dask_claim.providers.gateway.asking import STOP_REQUEST_TIMEOUT, Patience
from dask_claim.providers.gateway.filling import end_when_idle, fill_request, variables_option
from dask_claim.providers.gateway.reports import MARK, Mark, mark_on, status_of
from dask_claim.providers.values import Ended, Outcome, Request, Ticket, Warn, Write
from dask_claim.redact import redact
from dask_claim.threads import in_time

if TYPE_CHECKING:
    from dask_gateway.client import ClusterReport
    from dask_gateway.options import Options

    from dask_claim.claim.fields import ClaimFields
    from dask_claim.providers.gateway.api import GatewayApi

# From the scheduler's start until the lease is placed, which counts as use; usually 3 s.
SHORTEST_IDLE = 60.0

DIES_AT_ONCE = (
    ". A scheduler that dies at once often has no dask-scheduler command, which Dask dropped in "
    "2026.6 and Dask Gateway still calls: its configuration then needs "
    'c.ClusterConfig.scheduler_cmd = ["dask", "scheduler"], worker_cmd = ["dask", "worker"]'
)


class GatewayProvider(Provider):
    """One cluster of one gateway."""

    name = "gateway"
    needs = ("gateway_url",)
    outlives_launcher = True
    may_fall_back = True
    of_gateway = True
    uses_gateway = True
    no_workers = (
        "The gateway's operator finds the reason in the logs of that cluster: a queue, a quota, an "
        "image that cannot be pulled, or whose Dask (2026.6 or newer) has no dask-worker command"
    )

    def __init__(self, request: Request, write: Write, warn: Warn) -> None:
        super().__init__(request, write, warn)
        self._api: GatewayApi | None = None
        self._report: ClusterReport | None = None
        self._name: str | None = None
        self._mark: str | None = None
        self._unanswered = False
        """Whether a request with the mark had no answer, so that it may have made a cluster."""

        assert request.gateway is not None
        self._gateway = request.gateway
        self.description = f"the Dask Gateway at {redact(request.gateway.url)}"
        self._ticket = Ticket(self.name, {"gateway": asdict(request.gateway)})
        self._patience = Patience(self)

    @classmethod
    def serves_with(cls, claim: ClaimFields) -> tuple[str, str | None]:
        if not claim.create:
            return "program-on-gateway", None
        return "shared-gateway" if claim.share else cls.name, None

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
        if name := variables_option(options, request.gateway_options):
            self._mark = str(Mark(request.run_id, claim.lease_timeout > 0, request.share))
            timeout = claim.no_workers_timeout
            more = {} if timeout is None else {NO_WORKERS_TIMEOUT: str(timeout)}
            options[name] = {**more, **(options[name] or {}), MARK: self._mark}
        if filled.understood:
            logger.info(f"This gateway's options: {'; '.join(filled.understood)}")
        for fault in filled.given_up:
            self._warn(f"{fault}: left to the gateway's own default (strict: false)")
        if filled.missing:
            self._warn(
                f"this gateway does not offer {', '.join(filled.missing)}: left to its own defaults"
            )
        # Only a mark shows whether a request without an answer has made a cluster.
        passing = GatewayUnreachable if self._mark else GatewayAway
        await self._patience.ask(lambda: self._request(api, options), LimitReached, passing)
        self._patience.lasting = True

    async def _request(self, api: GatewayApi, options: Options) -> None:
        """Have a cluster; may be called again where an answer was lost, or refused for now."""
        await self._create(api, options)

    async def _create(self, api: GatewayApi, options: Options) -> None:
        """One request: first the ticket, then the request, then the ticket with the name."""
        requested: dict[str, Any] = {"mark": self._mark}
        if self._mark is None:
            before = [report.name for report in await self._patience.ask(api.clusters)]
            requested = {"before": before, "options": dict(options)}
        ticket = self._ticket.with_({"requested": requested}, login=api.login)
        if self._unanswered:
            # Should both requests have made one, the other one is ended with the run.
            ticket = ticket.with_({"requested": {**requested, "repeated": True}})
            self._name = await self._made_without_answer(api)
            if self._name is not None:
                self._learn(ticket)
                return
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
                self._learn(ticket)
            elif not _may_have_made_one(answer):
                self._write(ticket if self._unanswered else self._ticket)
            else:
                self._unanswered = True

    async def _made_without_answer(self, api: GatewayApi) -> str | None:
        for report in await api.clusters():
            if mark_on(report) == self._mark and status_of(report) in ("PENDING", "RUNNING"):
                self._warn(
                    f"cluster {report.name} was made although the gateway's answer was lost: this "
                    "run uses it"
                )
                return str(report.name)
        return None

    async def wait_until_running(self) -> None:
        api, name = self._api, self._name
        assert api is not None and name is not None
        # A gateway was there before: the page of something on the way will pass.
        self._report = await self._patience.ask(
            lambda: api.settled(name), TemporaryError, NotAGateway
        )
        if (status := status_of(self._report)) != "RUNNING":
            raise ClusterFailed(
                f"cluster {name} did not start: {self.description} says it is {status}. Its "
                "operator finds the reason in the logs of that cluster"
                + (DIES_AT_ONCE if status == "FAILED" else "")
            )
        self.cluster = api.cluster(name, self._report)

    async def scale(self) -> tuple[int, int]:
        api, name, plan = self._api, self._name, self.request.plan
        assert api is not None and name is not None
        most, words = await self._patience.ask(
            lambda: api.resize(name, plan), GatewayUnreachable, LimitReached
        )
        if words and most < plan.min_workers and self.request.claim.strict:
            raise ConfigurationError(
                f"{self.description} gives cluster {name} fewer workers than the minimum of "
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
        from dask_claim.providers.gateway.reclaiming import end_all_of

        try:
            return await in_time(end_all_of(ticket, timeout, warn), timeout)
        except asyncio.TimeoutError:
            return Outcome.NOT_CONFIRMED

    def _learn(self, ticket: Ticket) -> None:
        """Keep the cluster's name: in the ticket, and for the command's variables."""
        assert self._api is not None and self._name is not None
        self._write(ticket.with_({"named_at": time.monotonic()}, cluster_name=self._name))
        self.cluster = self._api.cluster(self._name, None)


def _may_have_made_one(request: asyncio.Future[str]) -> bool:
    """Whether a request without a name may have made a cluster: the gateway has not refused it."""
    if not request.done() or request.cancelled():
        return True
    error = request.exception()
    return isinstance(error, (GatewayUnreachable, NotAGateway)) and not isinstance(
        error, GatewayAway
    )
