"""Dask Gateway's official client, with bounded requests and errors that a user understands."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Iterator
from typing import TYPE_CHECKING, TypeVar

from dask_claim.errors import (
    AuthenticationError,
    ConfigurationError,
    GatewayUnreachable,
    LimitReached,
    OptionError,
)
from dask_claim.handoff import GATEWAY_USER, nameless_user
from dask_claim.providers.base import without_files_in_home
from dask_claim.providers.gateway_errors import explain, one_line
from dask_claim.redact import redact

if TYPE_CHECKING:
    from dask_gateway.client import ClusterReport
    from dask_gateway.options import Options

    from dask_claim.claim import Claim
    from dask_claim.plan import Plan

T = TypeVar("T")

REQUEST_TIMEOUT = 30.0
"""Seconds for one request: a gateway answers in milliseconds, a loaded one in seconds."""

# A gateway that is restarting refuses connections for some seconds.
REACH_ATTEMPTS = 3

# All refusals of a creation are one kind to the gateway (422); what it says tells them apart.
_LIMIT = re.compile(r"limit|quota|too many|maximum number|exceed|at most \d+ clusters", re.I)


class GatewayApi:
    """One gateway, as the claim and Dask's configuration describe it.

    To be made and used inside one event loop. Every method raises `DaskClaimError` only.
    """

    def __init__(self, claim: Claim, timeout: float = REQUEST_TIMEOUT) -> None:
        without_files_in_home()
        import dask.config
        from dask_gateway import Gateway

        self.where = f"the Dask Gateway at {redact(str(claim.gateway_url))}"
        self._timeout = timeout
        self.user = None
        """The name used where the system has none for this user."""

        basic = dask.config.get("gateway.auth.type", None) == "basic"
        if basic and not dask.config.get("gateway.auth.kwargs.username", None):
            self.user = nameless_user()
        if self.user:
            dask.config.set({"gateway.auth.kwargs.username": self.user})
        # Where the claim leaves these to the gateway, they must not come from a configuration
        # that was written for another one.
        dask.config.set({"gateway.proxy-address": None, "gateway.public-address": claim.public_url})
        proxy = claim.proxy_url
        try:
            self._client = Gateway(
                claim.gateway_url,
                proxy_address=int(proxy) if proxy and proxy.isdecimal() else proxy,
                asynchronous=True,
            )
        except (ImportError, TypeError, ValueError, OSError, KeyError) as error:
            prefix = GATEWAY_USER.removesuffix("KWARGS__USERNAME")
            raise AuthenticationError(
                f"the authentication configured for the gateway ({prefix}*, or gateway.auth in "
                f"Dask's configuration) cannot be used: {one_line(error)}"
            ) from error
        self.address: str = self._client.address
        self.proxy_address: str = self._client.proxy_address
        self.public_address = (claim.public_url or self.address).rstrip("/")

    async def options(self) -> Options:
        """What the gateway offers, with its defaults; asks a few times before it gives up."""
        for attempt, pause in enumerate(pauses(first=0.5), start=1):
            try:
                return await self._ask(self._client.cluster_options())
            except GatewayUnreachable:
                if attempt == REACH_ATTEMPTS:
                    raise
            await asyncio.sleep(pause)
        raise AssertionError("pauses never end")

    async def create(self, options: Options) -> str:
        """Ask for a cluster; its name. `LimitReached` where there may be room later."""
        try:
            return str(await self._ask(self._client.submit(options)))
        except _Refused as error:
            if _LIMIT.search(str(error)):
                raise LimitReached(f"{self.where} refuses for now: {error}") from error
            raise OptionError(f"{self.where} refuses the claim: {error}") from error

    async def report(self, name: str, *, wait: bool = False) -> ClusterReport | None:
        """The state of a cluster, None where the gateway does not know it (any more).

        `wait` lets a gateway answer later, when a pending cluster has changed.
        """
        try:
            return await self._ask(self._client.get_cluster(name, wait=wait))
        except _Refused:
            return None

    async def clusters(self) -> list[ClusterReport]:
        """All clusters of this user that are not gone yet."""
        found: list[ClusterReport] = await self._ask(
            self._client.list_clusters(status=["PENDING", "RUNNING", "STOPPING"])
        )
        return found

    async def resize(self, name: str, plan: Plan) -> None:
        """Ask for the plan's workers."""
        least, most = plan.min_workers, plan.max_workers
        if plan.scaling == "scale":
            await self._ask(self._client.scale_cluster(name, most))
        else:
            await self._ask(self._client.adapt_cluster(name, minimum=least, maximum=most))

    async def delete(self, name: str) -> None:
        """Ask the gateway to end a cluster; one that it does not know is no error."""
        await self._ask(self._client.stop_cluster(name))

    def renew_credentials(self) -> None:
        """Read the configured credentials again: a token may have been replaced meanwhile."""
        from dask_gateway.auth import get_auth

        self._client.auth = get_auth()

    async def close(self) -> None:
        await self._client.close()

    async def _ask(self, request: Awaitable[T]) -> T:
        try:
            return await asyncio.wait_for(request, self._timeout)
        except ValueError as error:  # the client's word for 404 and 422, but also for no JSON
            if type(error) is ValueError:
                raise _Refused(one_line(error)) from error
            raise explain(error, self.where) from error
        except asyncio.TimeoutError as error:
            raise GatewayUnreachable(
                f"{self.where} does not answer within {self._timeout:g} s"
            ) from error
        except Exception as error:
            raise explain(error, self.where) from error


class _Refused(ConfigurationError):
    """The gateway does not know what was asked for, or will not do it; `str()` has its words."""


def pauses(first: float = 0.05, longest: float = 1.0, growth: float = 1.15) -> Iterator[float]:
    """Growing pauses between two requests, in seconds, without end."""
    pause = first
    while True:
        yield pause
        pause = min(pause * growth, longest)
