"""Dask Gateway's official client: made for one gateway, its requests bounded and explained."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import urlsplit

from dask_claim.claim.dask_config import goes_direct
from dask_claim.credentials.login import Login, log_in
from dask_claim.errors import ConfigurationError, GatewayUnreachable, NotAGateway
from dask_claim.providers.base import import_quietly
from dask_claim.providers.gateway.answers import explain, observed, observed_session, one_line
from dask_claim.redact import redact
from dask_claim.threads import in_time

if TYPE_CHECKING:
    from dask_claim.claim.addresses import GatewayAddress

T = TypeVar("T")

REQUEST_TIMEOUT = 30.0
"""Seconds for one request: a gateway answers in milliseconds, a loaded one in seconds."""


class GatewayConnection:
    """One gateway, as the claim and Dask's configuration describe it.

    To be made and used inside one event loop. Every method raises `DaskClaimError` only.
    """

    def __init__(
        self, address: GatewayAddress, timeout: float | None = None, login: Login | None = None
    ) -> None:
        """Make a client; nothing is asked yet.

        `timeout`: seconds for a request; `login`: that of a run's own gateway, or one that this
        gateway has accepted before, instead of what is configured.
        """
        gateway = import_quietly("dask_gateway")
        self.gateway, url = address, address.url
        self.where = f"the Dask Gateway at {redact(url)}"
        self.clock_ahead: float | None = None
        """Seconds that the gateway's clock is ahead of this one; None before it told the time."""

        self._timeout = timeout or REQUEST_TIMEOUT
        self.login = login or log_in(address)
        try:
            # All that is left out here the client takes from Dask's configuration, which may have
            # been written for another gateway.
            self.client = gateway.Gateway(
                url,
                proxy_address=_proxy_address(url, address.proxy_url),
                public_address=address.public_url or url,
                auth=self.login.auth,
                asynchronous=True,
            )
        except (TypeError, ValueError, KeyError) as error:
            raise ConfigurationError(
                f"Dask's configuration of the client of {self.where} cannot be used: "
                f"{one_line(error)}"
            ) from error
        # No proxy of the network leads to this machine's loopback, where a run's own gateway is.
        if self.login.own_gateway or goes_direct(url, os.environ):
            self.client._request_kwargs = {}
        self.address: str = self.client.address
        self.proxy_address: str = self.client.proxy_address
        self.public_address = (address.public_url or self.address).rstrip("/")

    async def version(self) -> str:
        """The gateway's version, which it tells without credentials."""
        import aiohttp

        answer = await self.ask(
            lambda: self.client._request("GET", f"{self.address}/api/version"), anonymous=True
        )
        try:
            return str((await answer.json())["version"])
        except (ValueError, TypeError, KeyError, OSError, aiohttp.ClientError) as error:
            raise NotAGateway(
                f"{self.where} does not answer like a Dask Gateway ({answer.status})"
            ) from error

    def renew_credentials(self) -> None:
        """Read the configured credentials again: a token may have been replaced meanwhile.

        Where they cannot be read, those that there are stay.
        """
        with contextlib.suppress(Exception):
            self.login = log_in(self.gateway)
            self.client.auth = self.login.auth

    async def close(self) -> None:
        await self.client.close()

    async def ask(self, request: Callable[[], Awaitable[T]], anonymous: bool = False) -> T:
        """Return the answer to a request of the client's; `anonymous`: without credentials."""
        if self.client._session is None:
            self.client._session = observed_session(self.address, self._heard)
        with observed() as answers:
            for attempt in (1, 2):
                try:
                    asked = request() if anonymous else self._with_token(request)
                    return await in_time(asked, self._timeout)
                except asyncio.TimeoutError as error:
                    raise GatewayUnreachable(
                        f"{self.where} does not answer within {self._timeout:g} s"
                    ) from error
                except Exception as error:
                    answer = answers[-1] if answers else None
                    refused = answer is not None and answer.status == 401
                    if refused and attempt == 1 and self.login.renews:
                        continue
                    raise await explain(error, self.where, answer, self.login) from error
        raise AssertionError("the second attempt is the last one")

    async def _with_token(self, request: Callable[[], Awaitable[T]]) -> T:
        await self.login.prepare()
        return await request()

    def _heard(self, clock: float) -> None:
        self.clock_ahead = clock - time.time()


def check_proxy_address(gateway: GatewayAddress) -> None:
    """Raise ConfigurationError where no program could reach the schedulers.

    Dask Gateway's client forgets the brackets of an IPv6 address, and takes its end for the port.
    """
    address = _proxy_address(gateway.url, gateway.proxy_url)
    if ":" in (urlsplit(address).hostname or ""):
        raise ConfigurationError(
            f"Dask Gateway's client cannot connect to schedulers at an IPv6 address ({address}): "
            "use a host name that has an IPv4 address in gateway_url, or in proxy_url"
        )


def _proxy_address(url: str, proxy: str | None) -> str:
    """Where the proxy of the schedulers is: by default at the gateway's own host and port."""
    if proxy and not proxy.isdecimal():
        return proxy
    parts = urlsplit(url)
    port = int(proxy) if proxy else parts.port or {"http": 80, "https": 443}.get(parts.scheme, 8786)
    host = parts.hostname or ""
    return f"gateway://[{host}]:{port}" if ":" in host else f"gateway://{host}:{port}"
