"""Dask Gateway's official client: made for one gateway, its requests bounded and explained."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from email.utils import parsedate_to_datetime
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

from loguru import logger

from dask_claim.claim.addresses import UrlPrefix
from dask_claim.claim.dask_config import goes_direct
from dask_claim.credentials.login import Login, log_in
from dask_claim.errors import ConfigurationError, DaskClaimError, GatewayUnreachable
from dask_claim.imports import import_dask
from dask_claim.providers.gateway.answers import failure, one_line, refusal
from dask_claim.redact import redact
from dask_claim.threads import in_time

if TYPE_CHECKING:
    from aiohttp import ClientResponse, ClientSession, TraceRequestRedirectParams
    from yarl import URL

    from dask_claim.claim.addresses import GatewayAddress

T = TypeVar("T")

REQUEST_TIMEOUT = 30.0
"""Seconds for one request: a gateway answers in milliseconds, a loaded one in seconds."""


PRIVATE = {
    "Gateway": ("_request", "_request_kwargs", "_session"),
    "Options": ("_fields",),
    "Field": ("_field_types",),
}
"""The private names of dask-gateway's client that dask-claim uses, by class.

No version of dask-gateway promises them. One that lacks a name is refused before a request is sent:
an attribute that nobody reads any more would be set without an error, and requests would go out
without the checks below.
"""


class GatewayConnection:
    """One gateway, as the claim and Dask's configuration describe it.

    To be made and used inside one event loop. Every method raises `DaskClaimError` only.
    """

    def __init__(
        self, address: GatewayAddress, timeout: float | None = None, login: Login | None = None
    ) -> None:
        """Make a client; nothing is sent yet.

        `timeout`: seconds for a request; `login`: one that this gateway has accepted before,
        instead of what is configured.
        """
        gateway = import_dask("dask_gateway")
        self.gateway, url = address, address.url
        self.where = f"the Dask Gateway at {redact(url)}"
        self.clock_ahead: float | None = None
        """Seconds that the gateway's clock is ahead of this one; None before its first answer."""

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
        _check_names(self.client)
        self.address: str = self.client.address
        self.proxy_address: str = self.client.proxy_address
        self.public_address = (address.public_url or self.address).rstrip("/")
        # The client's own way to send a request does not tell who has answered: each 404 and 422
        # is a ValueError with a text. Its public methods read the answers.
        self.client._request = self.request
        self._http: dict[str, Any] = self.client._request_kwargs
        if goes_direct(address, os.environ):
            self._http = {}

    async def request(self, method: str, url: str, json: Any = None) -> ClientResponse:
        """Send one request, with credentials where the gateway wants them.

        Raises a DaskClaimError for an answer of 400 or more, an error of aiohttp for none.
        """
        if (session := self.client._session) is None:
            session = self.client._session = _session(self.address)
        answer: ClientResponse = await session.request(method, url, json=json, **self._http)
        for _ in range(2 if self.login.renews else 1):
            if answer.status == 401:
                # Here, for `pre_request` runs inside the event loop, which may not block.
                await self.login.prepare()
                headers, context = self.login.auth.pre_request(answer)
                answer = await session.request(
                    method, url, json=json, headers=headers, **self._http
                )
                self.login.auth.post_response(answer, context)
        logger.debug(f"{method} {url}: {answer.status}")
        with contextlib.suppress(ValueError, TypeError):
            # It comes in whole seconds, cut off.
            clock = parsedate_to_datetime(answer.headers.get("Date", "")).timestamp() + 0.5
            self.clock_ahead = clock - time.time()
        if answer.status >= 400:
            raise await refusal(answer, self.where, self.login)
        return answer

    async def ask(self, question: Callable[[], Awaitable[T]]) -> T:
        """Return the answer to a question of the client's."""
        try:
            return await in_time(question(), self._timeout)
        except asyncio.TimeoutError as error:
            raise GatewayUnreachable(
                f"{self.where} does not answer within {self._timeout:g} s"
            ) from error
        except DaskClaimError:
            raise
        except Exception as error:
            raise failure(error, self.where) from error

    def renew_credentials(self) -> None:
        """Read the configured credentials again: a token may have been replaced meanwhile.

        Where they cannot be read, those that there are stay.
        """
        with contextlib.suppress(Exception):
            self.login = log_in(self.gateway)

    async def close(self) -> None:
        await self.client.close()


def _check_names(client: Any) -> None:
    """Raise ConfigurationError where the installed dask-gateway lacks a private name."""
    from dask_gateway.options import Field, Options

    owners = {"Gateway": client, "Options": Options(), "Field": Field}
    missing = [
        f"{owner}.{name}"
        for owner, names in PRIVATE.items()
        for name in names
        if not hasattr(owners[owner], name)
    ]
    if missing:
        raise ConfigurationError(
            f"dask-gateway {version('dask-gateway')} has no {', '.join(missing)}, which this "
            "dask-claim needs: install an earlier dask-gateway or a later dask-claim"
        )


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


def _session(gateway: str) -> ClientSession:
    """Return a session as the gateway's client makes one, which keeps the credentials.

    A redirection is followed with them only to what is below the gateway's own address.
    """
    import aiohttp

    async def redirected(
        _session: object, _context: object, seen: TraceRequestRedirectParams
    ) -> None:
        headers = seen.response.headers
        if not _is_below(gateway, seen.url, headers.get("Location") or headers.get("URI") or ""):
            # The client sends the same headers on; those of the connection it makes itself.
            seen.headers.clear()

    trace = aiohttp.TraceConfig()
    trace.on_request_redirect.append(redirected)
    return aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True), trace_configs=[trace])


def _is_below(gateway: str, here: URL, location: str) -> bool:
    """Whether a redirection leads to what is below the gateway's address, or to that by TLS."""
    from yarl import URL

    try:
        own, target = UrlPrefix.of(gateway), str(here.join(URL(location)))
    except ValueError:
        return False
    by_tls = replace(own, scheme="https", port=443) if own.port == 80 else own
    return own.covers(target) or by_tls.covers(target)
