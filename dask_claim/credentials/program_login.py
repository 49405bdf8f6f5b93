"""How the program's own `Gateway()` logs in: its variables, which hold no configured secret."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from dask_claim.claim.dask_config import is_text_of_login
from dask_claim.claim.names import as_dask_reads
from dask_claim.credentials import identity
from dask_claim.credentials.login import choose, dask_has_secrets

if TYPE_CHECKING:
    from dask_claim.claim.addresses import GatewayAddress

AUTH = "DASK_GATEWAY__AUTH__TYPE"
ARGUMENT = "DASK_GATEWAY__AUTH__KWARGS__"

# By their paths: importing them here would import Dask's client.
SITE_AUTH = "dask_claim.credentials.site_auth.SiteAuth"
NAME_ONLY = f"{__name__}.name_only"
OWN_GATEWAY = f"{__name__}.own_gateway"


def login_variables(
    gateway: GatewayAddress,
    environ: Mapping[str, str],
    user: str | None = None,
    password: str | None = None,
) -> dict[str, str]:
    """Return the variables for a gateway, beside those that the program inherits (`environ`).

    `user`: the name to log in with, where the system has none for this user; `password`: that of
    a run's own gateway.
    """
    found = {} if user is None else {f"{ARGUMENT}USERNAME": _quoted(user)}
    if password is not None:
        more = dask_has_secrets(environ)
        kind = OWN_GATEWAY if more else "basic"
        return {**found, AUTH: kind, f"{ARGUMENT}PASSWORD": _quoted(password)}
    chosen = choose(gateway, environ)
    if chosen == "withheld":
        return {**found, AUTH: NAME_ONLY}
    if chosen != "Dask's":
        return {**found, AUTH: SITE_AUTH, f"{ARGUMENT}SITE_FILE": os.path.abspath(chosen.path)}
    for name, value in environ.items():
        # Dask would make a number of a password of digits, which its client cannot send.
        is_text = name.startswith(ARGUMENT) and is_text_of_login(name[len(ARGUMENT) :])
        if is_text and isinstance(as_dask_reads(value), (int, float)):
            found[name] = _quoted(value)
    return found


def name_only(**configured: Any) -> Any:
    """Return the authentication for a gateway that no operator names: a user's name alone.

    Whatever is `configured`, the gateway client's keyword arguments, stays here.
    """
    return identity.name_only()


def own_gateway(username: str, password: str, **configured: Any) -> Any:
    """Return the authentication for the gateway of this run; `configured` is for another one."""
    from dask_gateway.auth import BasicAuth

    return BasicAuth(username, password)


def _quoted(text: str) -> str:
    """Return a text as Dask reads it back: 007, 1e3 or None would be something else."""
    as_it_is = not text[:1].isdigit() and as_dask_reads(text) == text
    return text if as_it_is else repr(text)
