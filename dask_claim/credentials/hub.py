"""JupyterHub's scopes: why a gateway refuses a token that the hub itself takes."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

from dask_claim.credentials.identity import MOST

if TYPE_CHECKING:
    from aiohttp import ClientResponse

# As JupyterHub writes the scopes that let somebody use its services.
_SCOPE = re.compile(r"access:services(?:!service=[\w.-]{1,80})?")
_PATIENCE = 5.0
_GRANTED = "a role in the hub's configuration grants it"


def scope_in(text: str) -> str | None:
    """Return the scope that a refusal names, the narrowest where it names several."""
    return max(_SCOPE.findall(text), key=len, default=None)


async def why_refused(
    answer: ClientResponse, own: str | None, token: str | None, environ: Mapping[str, str]
) -> str | None:
    """Return what a refusal (401, 403) has to do with scopes, as a sentence; None: nothing.

    A gateway before which a hub stands does not say it, so the hub is asked, with its own token,
    at the address that the hub has put beside that.

    Parameters
    ----------
    answer : aiohttp.ClientResponse
    own : str or None
        The gateway's words.
    token : str or None
        What was shown to it.
    environ : mapping of str
    """
    challenge = answer.headers.get("WWW-Authenticate", "")
    if scope := scope_in(f"{own or ''} {challenge}"):
        return f"The token lacks the scope {scope}: {_GRANTED}"
    if not challenge.lower().startswith("jupyterhub"):
        return None
    hub = environ.get("JUPYTERHUB_API_URL", "").rstrip("/")
    if not hub or not token or token != environ.get("JUPYTERHUB_API_TOKEN"):
        return (
            "A gateway since 2026.3 may want the scope access:services!service=NAME of it, NAME "
            "being the gateway's own among the hub's services"
        )
    try:
        status, scopes = await _scopes(hub, token)
    except Exception as error:
        return f"Its hub cannot be asked why ({type(error).__name__})"
    if status != 200:
        return f"Its hub does not take it, either ({status}): it may have ended"
    services = sorted(scope for scope in scopes if scope_in(scope) == scope)
    if "access:services" in services:
        return None
    has = f"; it has {', '.join(services)}" if services else ""
    return (
        "The token lacks the scope access:services!service=NAME, NAME being the gateway's own "
        f"among the hub's services{has}: {_GRANTED}"
    )


async def _scopes(hub: str, token: str) -> tuple[int, list[str]]:
    import aiohttp

    timeout = aiohttp.ClientTimeout(total=_PATIENCE)
    headers = {"Authorization": f"token {token}"}
    async with (
        aiohttp.ClientSession(timeout=timeout, trust_env=True) as session,
        session.get(f"{hub}/user", headers=headers, allow_redirects=False) as answer,
    ):
        content = await answer.content.read(MOST)
        while len(content) < MOST and (more := await answer.content.read(MOST)):
            content += more
        if answer.status != 200:
            return answer.status, []
        said = json.loads(content).get("scopes", [])
        return answer.status, [scope for scope in said if isinstance(scope, str)]
