"""Dask Gateway's official client, with bounded requests and errors that a user understands."""

from __future__ import annotations

import asyncio
import os
import re
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import urlsplit

from dask_claim.claim.dask_config import goes_direct
from dask_claim.errors import (
    AuthenticationError,
    ClusterGone,
    GatewayUnreachable,
    LimitReached,
    OptionError,
    TemporaryError,
)
from dask_claim.providers.base import Cluster, import_quietly
from dask_claim.providers.gateway.answers import (
    Refused,
    explain,
    observed,
    observed_session,
    one_line,
)
from dask_claim.providers.gateway.login import Login, prepared, token_of
from dask_claim.redact import redact

if TYPE_CHECKING:
    from dask_gateway.client import ClusterReport
    from dask_gateway.options import Options

    from dask_claim.claim.model import Claim
    from dask_claim.claim.plan import Plan
    from dask_claim.providers.base import Addresses, Ticket

T = TypeVar("T")

REQUEST_TIMEOUT = 30.0
"""Seconds for one request: a gateway answers in milliseconds, a loaded one in seconds."""

# A gateway that is restarting refuses connections for some seconds.
REACH_ATTEMPTS = 3
# One that has restarted may not know its clusters at once; seconds.
ASK_AGAIN_AFTER = 1.0

# All refusals of a creation are one kind to the gateway (422); what it says tells them apart.
_LIMIT = re.compile(r"limit|quota|too many|maximum number|exceed|at most \d+ clusters", re.I)


class GatewayApi:
    """One gateway, as the claim and Dask's configuration describe it.

    To be made and used inside one event loop. Every method raises `DaskClaimError` only.
    """

    def __init__(
        self,
        claim: Claim | Ticket | Addresses,
        timeout: float = REQUEST_TIMEOUT,
        credentials: bool = True,
        login: tuple[str, str] | None = None,
    ) -> None:
        """`login`: user and password, instead of what Dask's configuration says."""
        gateway = import_quietly("dask_gateway")
        url = str(claim.gateway_url).rstrip("/")
        self.where = f"the Dask Gateway at {redact(url)}"
        self.clock_ahead: float | None = None
        """Seconds that the gateway's clock is ahead of this one; None before it told the time."""

        self._timeout = timeout
        self._credentials = credentials
        self._public_url = claim.public_url
        self._login = Login(url, credentials, login)
        try:
            # All that is left out here the client takes from Dask's configuration, which may have
            # been written for another gateway.
            self._client = gateway.Gateway(
                url,
                proxy_address=_proxy_address(url, claim.proxy_url),
                public_address=claim.public_url or url,
                auth=self._login.auth(),
                asynchronous=True,
            )
        except (ImportError, TypeError, ValueError, OSError, KeyError) as error:
            raise AuthenticationError(
                f"the credentials for {self.where}, from {self._login.source}, cannot be used: "
                f"{one_line(error)}"
            ) from error
        if goes_direct(url, os.environ):
            self._client._request_kwargs = {}
        self.address: str = self._client.address
        self.proxy_address: str = self._client.proxy_address
        self.public_address = (claim.public_url or self.address).rstrip("/")

    async def version(self) -> str:
        """The gateway's version, which it tells without credentials."""
        import aiohttp

        answer = await self._ask(
            lambda: self._client._request("GET", f"{self.address}/api/version"), anonymous=True
        )
        try:
            return str((await answer.json())["version"])
        except (ValueError, TypeError, KeyError, OSError, aiohttp.ClientError) as error:
            raise GatewayUnreachable(
                f"{self.where} gives an answer that is none of a Dask Gateway's ({answer.status})"
            ) from error

    @property
    def user(self) -> str | None:
        """The name used where the system has none for this user."""
        return self._login.user

    @property
    def token(self) -> str | None:
        """The token that is shown, where the authentication has one; for nobody to print."""
        return token_of(self._client.auth)

    @property
    def renews(self) -> bool:
        """Whether the authentication gets new tokens by itself."""
        return bool(getattr(self._client.auth, "renews", False))

    async def options(self) -> Options:
        """What the gateway offers, with its defaults; asks a few times before it gives up."""
        # The defaults in Dask's configuration are the operator's own gateway's: another one is
        # not told them.
        for attempt, pause in enumerate(pauses(first=0.5), start=1):
            try:
                return await self._ask(lambda: self._client.cluster_options(self._credentials))
            except GatewayUnreachable:
                if attempt == REACH_ATTEMPTS:
                    raise
            await asyncio.sleep(pause)
        raise AssertionError("pauses never end")

    async def create(self, options: Options) -> str:
        """Ask for a cluster; its name. `LimitReached` where there may be room later."""
        try:
            return str(await self._ask(lambda: self._client.submit(options)))
        except Refused as error:
            if _LIMIT.search(str(error)):
                raise LimitReached(f"{self.where} refuses for now: {error}") from error
            raise OptionError(f"{self.where} refuses the claim: {error}") from error

    async def report(self, name: str, *, wait: bool = False) -> ClusterReport | None:
        """The state of a cluster, None where the gateway does not know it (any more).

        That is believed only of the gateway itself, which is asked twice and for its list: it may
        not have read the list of its clusters yet after a restart. `wait` lets a gateway answer
        later, when a pending cluster has changed.
        """
        if found := await self._look_up(name, wait):
            return found
        await asyncio.sleep(ASK_AGAIN_AFTER)
        if any(report.name == name for report in await self.clusters()):
            raise GatewayUnreachable(f"{self.where} lists cluster {name}, but does not find it")
        return await self._look_up(name)

    async def settled(
        self, name: str, on_trouble: Callable[[TemporaryError], None] | None = None
    ) -> tuple[str, ClusterReport | None]:
        """The status and the report of a cluster once it is not pending any more.

        `on_trouble` is told what a gateway in trouble gives instead of an answer, and the waiting
        goes on; without it that is raised.
        """
        for pause in pauses():
            try:
                report = await self.report(name, wait=True)
            except TemporaryError as error:
                if on_trouble is None:
                    raise
                on_trouble(error)
            else:
                status = report.status.name if report else "forgotten"
                if status != "PENDING":
                    return status, report
            await asyncio.sleep(pause)
        raise AssertionError("pauses never end")

    async def _look_up(self, name: str, wait: bool = False) -> ClusterReport | None:
        try:
            return await self._ask(lambda: self._client.get_cluster(name, wait=wait))
        except Refused as error:
            if error.status == 404 and name in str(error):
                return None
            raise GatewayUnreachable(
                f"{self.where} gives no answer about cluster {name}: {error}"
            ) from error

    def cluster(self, name: str, report: ClusterReport | None) -> Cluster:
        """What is known of a cluster from its name and, once it is running, its report."""
        return Cluster(
            # As the client forms both from a name; its report has them only once it is running.
            scheduler_address=f"{self.proxy_address}/{name}",
            dashboard_url=(report.dashboard_link if report else None)
            or f"{self.public_address}/clusters/{name}/status",
            cluster_name=name,
            gateway_url=self.address,
            proxy_url=self.proxy_address,
            public_url=self._public_url,
            gateway_user=self.user,
            gateway_credentials=self._credentials,
        )

    async def clusters(self) -> list[ClusterReport]:
        """All clusters of this user that are not gone yet."""
        found: list[ClusterReport] = await self._ask(
            lambda: self._client.list_clusters(status=["PENDING", "RUNNING", "STOPPING"])
        )
        return found

    async def resize(self, name: str, plan: Plan) -> None:
        """Ask for the plan's workers.

        Raises
        ------
        ClusterGone
            There is no such cluster any more: only another one can help.
        TemporaryError
            The gateway cannot do it now; it may be asked again.
        """
        minimum, maximum = plan.min_workers, plan.max_workers
        try:
            if plan.scaling == "scale":
                await self._ask(lambda: self._client.scale_cluster(name, maximum))
            else:
                await self._ask(
                    lambda: self._client.adapt_cluster(name, minimum=minimum, maximum=maximum)
                )
        except (LimitReached, Refused) as error:
            # "is not running" may mean not yet, and not any more.
            report = await self.report(name)
            status = report.status.name if report else "forgotten"
            if status not in ("PENDING", "RUNNING"):
                raise ClusterGone(
                    f"cluster {name} is gone: {self.where} says it is {status}"
                ) from error
            if isinstance(error, Refused) and error.status != 404:
                raise
            raise GatewayUnreachable(
                f"{self.where} cannot give cluster {name} its workers now: {error}"
            ) from error

    async def delete(self, name: str) -> None:
        """Ask the gateway to end a cluster; one that it does not know is no error."""
        await self._ask(lambda: self._client.stop_cluster(name))

    def renew_credentials(self) -> None:
        """Read the configured credentials again: a token may have been replaced meanwhile."""
        self._client.auth = self._login.auth()

    async def close(self) -> None:
        await self._client.close()

    async def _ask(self, request: Callable[[], Awaitable[T]], anonymous: bool = False) -> T:
        if self._client._session is None:
            self._client._session = observed_session(self._heard)
        source = self._login.source if self._credentials else None
        with observed() as answers:
            for attempt in (1, 2):
                try:
                    asked = request() if anonymous else self._with_token(request)
                    return await asyncio.wait_for(asked, self._timeout)
                except asyncio.TimeoutError as error:
                    raise GatewayUnreachable(
                        f"{self.where} does not answer within {self._timeout:g} s"
                    ) from error
                except Exception as error:
                    answer = answers[-1] if answers else None
                    refused = answer is not None and answer.status == 401
                    if refused and attempt == 1 and self.renews:
                        continue
                    raise await explain(error, self.where, answer, source, self.token) from error
        raise AssertionError("the second attempt is the last one")

    async def _with_token(self, request: Callable[[], Awaitable[T]]) -> T:
        await prepared(self._client.auth)
        return await request()

    def _heard(self, clock: float) -> None:
        self.clock_ahead = clock - time.time()


def _proxy_address(url: str, proxy: str | None) -> str:
    """Where the proxy of the schedulers is: by default at the gateway's own host and port."""
    if proxy and not proxy.isdecimal():
        return proxy
    parts = urlsplit(url)
    port = int(proxy) if proxy else parts.port or {"http": 80, "https": 443}.get(parts.scheme, 8786)
    host = parts.hostname or ""
    return f"gateway://[{host}]:{port}" if ":" in host else f"gateway://{host}:{port}"


def pauses(first: float = 0.05, longest: float = 1.0, growth: float = 1.15) -> Iterator[float]:
    """Growing pauses between two requests, in seconds, without end."""
    pause = first
    while True:
        yield pause
        pause = min(pause * growth, longest)
