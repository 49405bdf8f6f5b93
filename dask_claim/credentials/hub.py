"""JupyterHub's scopes: why a gateway refuses a token that the hub itself takes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from aiohttp import ClientResponse

# As JupyterHub writes the scopes for the use of its services.
_SCOPE = re.compile(r"access:services(?:!service=[\w.-]{1,80})?")
_PATIENCE = 5.0
_NEEDED = "access:services!service=NAME, NAME being the gateway's own among the hub's services"
_GRANTED = "a role in the hub's configuration grants it"


async def why_refused(
    answer: ClientResponse, words: str | None, token: str | None, environ: Mapping[str, str]
) -> str | None:
    """Return what a refusal (401, 403) has to do with scopes, as a sentence; None: nothing.

    The answer of a gateway behind a hub does not contain it, so the hub itself is queried, with its
    own token, at the address beside that in `environ`. `words` are the answer's, `token` is the one
    that was sent.
    """
    challenge = answer.headers.get("WWW-Authenticate", "")
    if scopes := _SCOPE.findall(f"{words or ''} {challenge}"):
        return f"The token lacks the scope {max(scopes, key=len)}: {_GRANTED}"
    if not challenge.lower().startswith("jupyterhub"):
        return None
    hub = environ.get("JUPYTERHUB_API_URL", "").rstrip("/")
    if not hub or not token or token != environ.get("JUPYTERHUB_API_TOKEN"):
        return f"A gateway since 2026.3 may require the scope {_NEEDED}"
    import aiohttp

    timeout = aiohttp.ClientTimeout(total=_PATIENCE)
    headers = {"Authorization": f"token {token}"}
    try:
        async with (
            aiohttp.ClientSession(timeout=timeout, trust_env=True) as session,
            session.get(
                f"{hub}/user", headers=headers, allow_redirects=False, raise_for_status=True
            ) as reply,
        ):
            scopes = (await reply.json()).get("scopes", [])
    except Exception as error:
        status = getattr(error, "status", type(error).__name__)
        return f"Its hub does not list the token's scopes ({status}): it may have expired"
    services = sorted(scope for scope in scopes if _SCOPE.fullmatch(scope))
    if "access:services" in services:
        return None
    has = f"; it has {', '.join(services)}" if services else ""
    return f"The token lacks the scope {_NEEDED}{has}: {_GRANTED}"
