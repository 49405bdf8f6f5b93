"""What an answer of a gateway means, or that there is none, as the error that a user meets."""

from __future__ import annotations

import os
import socket
import ssl
from typing import TYPE_CHECKING

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
    from aiohttp import ClientResponse

    from dask_claim.credentials.login import Login

# Of those below 500: a request that came too late, too early or too often.
PASSING = (408, 425, 429)
# A connection that ended in the greeting, as one to a server that restarts does.
PASSING_TLS = (ssl.SSLEOFError, ssl.SSLZeroReturnError, ssl.SSLSyscallError)
# There is no such name; every other failure of a resolver is one of its own.
UNKNOWN_NAME = (socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME))


class Refused(ConfigurationError):
    """The gateway itself does not know what a request names, or will not do it.

    `str()` has its words, `status` is that of HTTP.
    """

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


async def refusal(answer: ClientResponse, where: str, login: Login) -> DaskClaimError:
    """Return the error that an answer of status 400 or more stands for.

    `where` describes the gateway.
    """
    status, words = answer.status, await _own_words(answer)
    if status in (401, 403):
        return await _credentials_refused(answer, words, where, login)
    if status == 407:
        return _proxy_refuses(where, "", status, str(answer.reason))
    if status >= 500 or status in PASSING:
        own = f": {words}" if status == 500 and words is not None else f" ({status})"
        error = GatewayUnreachable(f"{where} cannot serve now{own}")
        after = answer.headers.get("Retry-After", "")
        error.retry_after = float(after) if after.isdecimal() else 0.0
        return error
    if words is None and status == 404:
        # Perhaps from an ingress whose route to the gateway is being set up.
        return NoGatewayThere(
            f"{where} does not answer like a Dask Gateway (404). Is gateway_url right, path "
            "included?"
        )
    if words is None:
        return not_a_gateway(where, str(status))
    if status == 409:
        return LimitReached(f"{where} refuses for now: {words}")
    return Refused(words, status)


def not_a_gateway(where: str, answer: str) -> NotAGateway:
    """Return the error for something else that answers at the gateway's address."""
    return NotAGateway(
        f"{where} does not answer like a Dask Gateway ({answer}). It may be a login page: set "
        "gateway_url to the address whose /api/version answers, path included"
    )


def failure(error: Exception, where: str) -> DaskClaimError:
    """Return the error for a request that failed, or whose answer cannot be read."""
    from aiohttp import (
        ClientConnectionError,
        ClientConnectorError,
        ClientHttpProxyError,
        ClientPayloadError,
        ClientProxyConnectionError,
        ClientResponseError,
        ContentTypeError,
        InvalidURL,
    )

    cause = getattr(error, "certificate_error", None) or getattr(error, "os_error", error)
    if isinstance(error, ClientHttpProxyError):
        proxy = error.request_info.real_url.with_user(None)
        return _proxy_refuses(where, f" {proxy}", error.status, str(error.message))
    if isinstance(cause, ssl.SSLError) and not isinstance(cause, PASSING_TLS):
        what, hint = "does not speak TLS as this client does", "Do scheme and port belong together?"
        if isinstance(cause, ssl.SSLCertVerificationError):
            what, hint = "cannot be trusted", "SSL_CERT_FILE names the file with a site's own CA"
        return ConfigurationError(f"{where} {what}: {one_line(cause)}. {hint}")
    if isinstance(error, (OSError, ClientConnectionError, ClientPayloadError)):
        kind = GatewayAway if isinstance(error, ClientConnectorError) else GatewayUnreachable
        if isinstance(cause, socket.gaierror) and cause.errno in UNKNOWN_NAME:
            kind = NoGatewayThere
        via = ", through its HTTP proxy," if isinstance(error, ClientProxyConnectionError) else ""
        return kind(
            f"{where}{via} cannot be reached: {named(error)}. Is gateway_url right, and does this "
            "container have network access (CWL: NetworkAccess)?"
        )
    if isinstance(error, InvalidURL):
        return ConfigurationError(f"gateway_url is no address: {one_line(error)}")
    if isinstance(error, ClientResponseError) and not isinstance(error, ContentTypeError):
        return ConfigurationError(f"a request to {where} failed: {named(error)}")
    return not_a_gateway(where, named(error))


def _proxy_refuses(where: str, proxy: str, status: int, reason: str) -> DaskClaimError:
    if status in PASSING or status >= 500:
        return GatewayAway(f"the HTTP proxy{proxy} does not reach {where} ({status} {reason})")
    hint = ""
    if status == 407:
        hint = (
            ": put credentials for it into its address in HTTPS_PROXY or HTTP_PROXY, or name the "
            "gateway's host in NO_PROXY"
        )
    return ConfigurationError(f"the HTTP proxy{proxy} refuses {where} ({status} {reason}){hint}")


async def _credentials_refused(
    answer: ClientResponse, words: str | None, where: str, login: Login
) -> AuthenticationError:
    status = f"{answer.status} {answer.reason}"
    if login.withheld:
        return AuthenticationError(
            f"{where} wants credentials ({status}), and gets none, for no operator's source names "
            "it. If it is to have yours, set DASK_CLAIM_GATEWAY_URL to its address"
        )
    own = f": {words}" if words and words != answer.reason else ""
    scope = await why_refused(answer, words, login.token, os.environ)
    return AuthenticationError(
        f"{where} refused the credentials ({status}{own}). They come from {login.source}"
        + (f". {scope}" if scope else "")
    )


async def _own_words(answer: ClientResponse) -> str | None:
    """Return the error that a gateway gives as JSON; None where the answer is not a gateway's."""
    try:
        words = (await answer.json())["error"]
    except Exception:
        return None  # whatever a stranger sends: no JSON, no text, no dictionary
    return one_line(words) if isinstance(words, str) else None


def named(error: Exception) -> str:
    """Return an error as one line, with its class where it has no words."""
    return one_line(error) or type(error).__name__


def one_line(error: object) -> str:
    """Return an error as one line, secrets masked; an HTML page shortened."""
    text = " ".join(str(redact(str(error))).split())
    return text if len(text) <= 300 else text[:299] + "…"
