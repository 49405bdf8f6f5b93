"""The gateway: from its host's name to the schedulers behind its proxy."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from dask_claim.credentials.login import describe_withheld
from dask_claim.doctor.finding import TEMPORARY, Examined, Finding, fail, fail_with, ok, warn
from dask_claim.errors import AuthenticationError, DaskClaimError, OptionError
from dask_claim.providers.gateway.api import DefaultsError, GatewayApi
from dask_claim.providers.gateway.filling import fill_request
from dask_claim.threads import in_time

PATIENCE = 10.0
"""Seconds for one answer."""

SKEW = 60.0
"""Seconds of difference between two clocks that tokens and certificates forgive mostly."""

ANSWER = (
    "does gateway_url name the port and path whose /api/version answers, and is the gateway "
    "running? SSL_CERT_FILE names the file of a site's own CA, together with the public ones"
)
ASK_LATER = "ask the gateway's operator, and try again later"
CREDENTIALS = (
    "correct `credentials` in the site's file, or set DASK_GATEWAY__AUTH__TYPE (basic, kerberos, "
    "jupyterhub) and what it needs: DASK_GATEWAY__AUTH__KWARGS__PASSWORD, a fresh kinit, "
    "JUPYTERHUB_API_TOKEN"
)
PASSTHROUGH = (
    "set proxy_url to where the gateway's proxy listens for schedulers; on the way there TLS "
    "passes through untouched: a TCP load balancer or an ingress with SSL passthrough"
)


async def check(seen: Examined) -> AsyncIterator[Finding]:
    """All of it; what would fail for a reason that was given already is left out."""
    gateway = seen.provider.request.gateway
    if not seen.uses_gateway or gateway is None:
        return
    yield (name := await _check_name(gateway.url))
    if name.state == "fail":
        return
    try:
        api = GatewayApi(gateway, PATIENCE)
    except DaskClaimError as error:
        hint = "see `credentials` in the site's file, or DASK_GATEWAY__AUTH__TYPE and its package"
        yield fail_with("credentials", error, hint)
        return
    try:
        try:
            yield ok("gateway", f"{api.where} answers, version {await api.version()}")
        except DaskClaimError as error:
            yield fail_with("gateway", error, ANSWER)
            return
        yield _check_clock(api.clock_ahead or 0.0)
        yield (credentials := await _check_credentials(api, seen))
        if credentials.state != "fail":
            yield await check_options(api, seen)
        yield await _check_scheduler_path(api.proxy_address)
    finally:
        await api.close()


async def _check_name(url: str) -> Finding:
    """Whether the host's name has an address; where HTTP goes by a proxy, the proxy's."""
    parts = urlsplit(url)
    host, via = parts.hostname or "", ""
    proxy = getproxies().get(parts.scheme)
    if proxy and not proxy_bypass(host):
        host, via = urlsplit(proxy).hostname or "", f", the HTTP proxy for {host},"
    try:
        loop = asyncio.get_running_loop()
        addresses = await in_time(loop.getaddrinfo(host, None, type=socket.SOCK_STREAM), PATIENCE)
    except (OSError, UnicodeError, asyncio.TimeoutError) as error:
        message = f"{host}{via} has no address: {str(error) or type(error).__name__}"
        hint = "is gateway_url spelt right, and are there network and DNS (CWL: NetworkAccess)?"
        return fail("name resolution", message, hint, TEMPORARY)
    return ok("name resolution", f"{host}{via} is {addresses[0][4][0]}")


def _check_clock(ahead: float) -> Finding:
    """How far the gateway's clock, by the date of its answers, is from this one."""
    if abs(ahead) <= SKEW:
        return ok("clock", "agrees with the gateway's")
    direction = "ahead of" if ahead > 0 else "behind"
    hint = "set both by NTP: tokens, tickets and certificates are refused outside their time"
    return warn("clock", f"the gateway's is {abs(ahead):.0f} s {direction} this one", hint)


async def _check_credentials(api: GatewayApi, seen: Examined) -> Finding:
    """Whether they are accepted, or kept back."""
    try:
        mine = await api.clusters()
    except DaskClaimError as error:
        refused = isinstance(error, AuthenticationError)
        return fail_with("credentials", error, CREDENTIALS if refused else ASK_LATER)
    if withheld := describe_withheld(seen.resolved):
        hint = "see DASK_CLAIM_GATEWAY_URL, and docs/credentials.md"
        return warn("credentials", withheld, hint)
    return ok("credentials", f"accepted; clusters of yours: {len(mine)}")


async def check_options(api: GatewayApi, seen: Examined) -> Finding:
    """Whether the gateway offers what the claim requests."""
    try:
        filled = fill_request(await api.options(), seen.provider.request)
    except DaskClaimError as error:
        hints: dict[type[DaskClaimError], str] = {
            OptionError: "keep the claim within what is offered and allowed, or set strict: false",
            DefaultsError: "correct or remove it where Dask is configured",
        }
        return fail_with("options", error, hints.get(type(error), "ask the gateway's operator"))
    left = [*filled.given_up, *(f"{name} is not offered" for name in filled.missing)]
    if left:
        hint = "give the gateway's own options, of Gateway().cluster_options(), in `options`"
        return warn("options", f"left to the gateway's defaults: {'; '.join(left)}", hint)
    if filled.less:
        hint = "claim less, or ask the site's operator"
        return warn("options", f"less than claimed: {'; '.join(filled.less)}", hint)
    understood = f" ({'; '.join(filled.understood)})" if filled.understood else ""
    return ok("options", f"the gateway offers what is claimed{understood}")


async def _check_scheduler_path(proxy_address: str) -> Finding:
    """Whether TLS reaches the proxy of the schedulers untouched.

    The proxy finds a scheduler by the name in the TLS greeting (SNI), so nothing on the way may
    answer for it. It closes the connection for an unknown name, as it should here; a web server
    answers in HTTP, an ingress with a certificate of its own.
    """
    parts = urlsplit(proxy_address)
    where = f"{parts.hostname}:{parts.port}"
    name = "scheduler path"
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    greeting = asyncio.open_connection(
        parts.hostname, parts.port, ssl=context, server_hostname="daskgateway-dask-claim"
    )
    try:
        _, writer = await in_time(greeting, PATIENCE)
    except (OSError, asyncio.TimeoutError) as error:
        if isinstance(error, ConnectionResetError) or "EOF" in str(error):
            return ok(name, f"the proxy at {where} takes TLS (--start proves the rest)")
        does = "does not speak TLS" if isinstance(error, ssl.SSLError) else "cannot be reached"
        why = str(error) or type(error).__name__
        return fail(name, f"{where} {does}: {why}", PASSTHROUGH, TEMPORARY)
    writer.close()
    message = f"something on the way to {where} ends TLS itself and answers with its certificate"
    return fail(name, message, PASSTHROUGH, TEMPORARY)
