"""What the errors of the gateway's client mean to the user, and what to do about them."""

from __future__ import annotations

from dask_claim.errors import (
    AuthenticationError,
    ConfigurationError,
    DaskClaimError,
    GatewayUnreachable,
    LimitReached,
)
from dask_claim.redact import redact


def explain(error: Exception, where: str) -> DaskClaimError:
    """The error to raise for what the client raised; `where` describes the gateway."""
    from aiohttp import ClientConnectionError, ClientPayloadError, ClientResponseError
    from dask_gateway import GatewayClusterError, GatewayServerError

    if isinstance(error, ClientResponseError):
        if error.status in (401, 403):
            return AuthenticationError(
                f"{where} refused the credentials ({error.status} {error.message}). They come "
                "from Dask's configuration gateway.auth (DASK_GATEWAY__AUTH__TYPE and "
                "DASK_GATEWAY__AUTH__KWARGS__*)"
            )
        if error.status >= 500 or error.status == 429:
            return GatewayUnreachable(f"{where} cannot serve now ({error.status})")
    if isinstance(error, GatewayServerError):
        return GatewayUnreachable(f"{where} has failed: {one_line(error)}")
    if isinstance(error, GatewayClusterError):
        return LimitReached(f"{where} refuses for now: {one_line(error)}")
    if isinstance(error, (OSError, ClientConnectionError, ClientPayloadError)):
        return GatewayUnreachable(
            f"{where} cannot be reached: {one_line(error)}. Is gateway_url right, and does this "
            "container have network access (CWL: NetworkAccess)?"
        )
    return ConfigurationError(
        f"{where} gives an answer that is none of a Dask Gateway's "
        f"({type(error).__name__}: {one_line(error)}): is gateway_url right?"
    )


def one_line(error: object) -> str:
    """An error as one line, secrets masked; an HTML page shortened."""
    text = " ".join(str(redact(str(error))).split())
    return text if len(text) <= 300 else text[:299] + "…"
