"""What a gateway answers, whether it was the gateway, and what its errors mean to the user."""

from __future__ import annotations

import os
import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import replace
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING

from dask_claim.claim.addresses import UrlPrefix
from dask_claim.credentials.hub import why_refused
from dask_claim.errors import (
    AuthenticationError,
    ConfigurationError,
    DaskClaimError,
    GatewayAway,
    GatewayUnreachable,
    LimitReached,
    NoGatewayThere,
    NotAGateway,
)
from dask_claim.redact import redact

if TYPE_CHECKING:
    from aiohttp import (
        ClientResponse,
        ClientSession,
        TraceRequestEndParams,
        TraceRequestRedirectParams,
    )
    from yarl import URL

    from dask_claim.credentials.login import Login

# Of those below 500: a request that came too late, too early or too often.
PASSING = (408, 425, 429)
# A connection that ended in the greeting, as one to a server that restarts does.
PASSING_TLS = (ssl.SSLEOFError, ssl.SSLZeroReturnError, ssl.SSLSyscallError)
# There is no such name; every other failure of a resolver is one of its own.
UNKNOWN_NAME = (socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME))

_answers: ContextVar[list[ClientResponse]] = ContextVar("answers")


class Refused(ConfigurationError):
    """The gateway itself does not know what was asked for, or will not do it.

    `str()` has its words, `status` is that of HTTP.
    """

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


def observed_session(url: str, heard: Callable[[float], None]) -> ClientSession:
    """A session as the gateway's client makes one, whose answers `observed` collects.

    The client turns every 404 and 422 into a ValueError with a text, whoever sent it. A redirection
    is followed with credentials only to what is below the gateway's own address.

    Parameters
    ----------
    url : str
        The gateway's address.
    heard : callable
        Told the gateway's time with each answer, in seconds since the epoch.
    """
    import aiohttp

    async def keep(_session: object, _context: object, end: TraceRequestEndParams) -> None:
        _answers.get([]).append(end.response)
        with suppress(ValueError, TypeError):
            # It comes in whole seconds, cut off.
            heard(parsedate_to_datetime(end.response.headers.get("Date", "")).timestamp() + 0.5)

    async def redirected(
        _session: object, _context: object, seen: TraceRequestRedirectParams
    ) -> None:
        headers = seen.response.headers
        if not _below(url, seen.url, headers.get("Location") or headers.get("URI") or ""):
            # The client sends the same headers on; those of the connection it makes itself.
            seen.headers.clear()

    trace = aiohttp.TraceConfig()
    trace.on_request_end.append(keep)
    trace.on_request_redirect.append(redirected)
    return aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True), trace_configs=[trace])


def _below(gateway: str, here: URL, location: str) -> bool:
    """Whether a redirection leads to what is below the gateway's address, or to that by TLS."""
    from yarl import URL

    try:
        own, target = UrlPrefix.of(gateway), str(here.join(URL(location)))
    except ValueError:
        return False
    by_tls = replace(own, scheme="https", port=443) if own.port == 80 else own
    return own.covers(target) or by_tls.covers(target)


@contextmanager
def observed() -> Iterator[list[ClientResponse]]:
    """The answers to the requests that are made meanwhile in this task, or tasks it starts."""
    answers: list[ClientResponse] = []
    before = _answers.set(answers)
    try:
        yield answers
    finally:
        _answers.reset(before)


async def explain(
    error: Exception,
    where: str,
    answer: ClientResponse | None,
    login: Login,
) -> DaskClaimError:
    """The error to raise for what the client raised.

    Parameters
    ----------
    error : Exception
    where : str
        Describes the gateway.
    answer : aiohttp.ClientResponse or None
        The last one to the request, None where there was none.
    login : Login
        What was to be sent.
    """
    from aiohttp import InvalidURL

    if isinstance(error, DaskClaimError):
        return error  # of ours, from the authentication
    if (unanswered := _without_answer(error, where)) is not None:
        return unanswered
    if answer is not None:
        return await _explain_answer(error, where, answer, login)
    if isinstance(error, InvalidURL):
        return ConfigurationError(f"gateway_url is no address: {one_line(error)}")
    return ConfigurationError(f"a request to {where} failed: {_named(error)}")


def _without_answer(error: Exception, where: str) -> DaskClaimError | None:
    """The error to raise where the network failed, or a proxy on the way; None: it did not."""
    from aiohttp import (
        ClientConnectionError,
        ClientConnectorError,
        ClientHttpProxyError,
        ClientPayloadError,
        ClientProxyConnectionError,
    )

    cause = getattr(error, "certificate_error", None) or getattr(error, "os_error", error)
    if isinstance(error, ClientHttpProxyError):
        proxy = error.request_info.real_url.with_user(None)
        return _proxy_refuses(where, f" {proxy}", error.status, str(error.message))
    if isinstance(cause, ssl.SSLError) and not isinstance(cause, PASSING_TLS):
        trust = isinstance(cause, ssl.SSLCertVerificationError)
        mend = (
            "SSL_CERT_FILE names the file with a site's own CA"
            if trust
            else "Do scheme and port of gateway_url belong together?"
        )
        fault = "cannot be trusted" if trust else "does not speak TLS as this client does"
        return ConfigurationError(f"{where} {fault}: {one_line(cause)}. {mend}")
    if not isinstance(error, (OSError, ClientConnectionError, ClientPayloadError)):
        return None
    kind = GatewayAway if isinstance(error, ClientConnectorError) else GatewayUnreachable
    if isinstance(cause, socket.gaierror) and cause.errno in UNKNOWN_NAME:
        kind = NoGatewayThere
    via = ", through its HTTP proxy," if isinstance(error, ClientProxyConnectionError) else ""
    return kind(
        f"{where}{via} cannot be reached: {_named(error)}. Is gateway_url right, and does this "
        "container have network access (CWL: NetworkAccess)?"
    )


def _proxy_refuses(where: str, proxy: str, status: int, reason: str) -> DaskClaimError:
    if status in PASSING or status >= 500:
        return GatewayAway(f"the HTTP proxy{proxy} does not reach {where} ({status} {reason})")
    if status == 407:
        return ConfigurationError(
            f"the HTTP proxy{proxy} before {where} wants credentials (407 {reason}): put them into "
            "its address in HTTPS_PROXY or HTTP_PROXY, or name the gateway's host in NO_PROXY"
        )
    return ConfigurationError(f"the HTTP proxy{proxy} refuses {where} ({status} {reason})")


async def _explain_answer(
    error: Exception, where: str, answer: ClientResponse, login: Login
) -> DaskClaimError:
    status, reason = answer.status, answer.reason
    if status in (401, 403) and login.withheld:
        return AuthenticationError(
            f"{where} wants credentials ({status} {reason}), and gets none: no source of the "
            "operator's names it. Where it is to have yours, set DASK_CLAIM_GATEWAY_URL to its "
            "address"
        )
    own = await _own_words(answer)
    if status in (401, 403):
        scope = await why_refused(answer, own, login.token, os.environ)
        said = f": {own}" if own and own != reason else ""
        return AuthenticationError(
            f"{where} refused the credentials ({status} {reason}{said}). They come from "
            f"{login.source}" + (f". {scope}" if scope else "")
        )
    if status == 407:
        return _proxy_refuses(where, "", status, str(reason))
    if status == 500 and own is not None:
        return GatewayUnreachable(f"{where} has failed: {own}")
    if status >= 500 or status in PASSING:
        return GatewayUnreachable(f"{where} cannot serve now ({status})")
    if own is None or status < 400:
        said = f"{where} does not answer like a Dask Gateway ({status}: {one_line(error)})"
        if status == 404:
            # Perhaps from an ingress whose route to the gateway is being set up.
            return NoGatewayThere(f"{said}. Is gateway_url right, path included?")
        return NotAGateway(
            f"{said}. It may be a login page: set gateway_url to the address whose /api/version "
            "answers, path included"
        )
    if status == 409:
        return LimitReached(f"{where} refuses for now: {own}")
    return Refused(own, status)


async def _own_words(answer: ClientResponse) -> str | None:
    """The error that a gateway gives as JSON; None where the answer is none of a gateway's."""
    try:
        said = (await answer.json())["error"]
    except Exception:
        # Whatever a stranger sends: no JSON, no text, no dictionary.
        return None
    return one_line(said) if isinstance(said, str) else None


def _named(error: Exception) -> str:
    """An error as one line, with its class where it has no words."""
    return one_line(error) or type(error).__name__


def one_line(error: object) -> str:
    """An error as one line, secrets masked; an HTML page shortened."""
    text = " ".join(str(redact(str(error))).split())
    return text if len(text) <= 300 else text[:299] + "…"
