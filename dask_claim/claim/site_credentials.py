"""The site's own credentials: their kind, the one gateway that they are for, and where they are."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from dask_claim.claim.addresses import UrlPrefix
from dask_claim.claim.dask_config import is_text_of_login
from dask_claim.claim.spellings import read
from dask_claim.claim.texts import Plain, as_data
from dask_claim.errors import Fault
from dask_claim.redact import is_secret, register_secret

KINDS = {
    "basic": "dask_gateway.auth.BasicAuth",
    "kerberos": "dask_gateway.auth.KerberosAuth",
    "jupyterhub": "dask_gateway.auth.JupyterHubAuth",
    "bearer": "dask_claim.credentials.bearer.BearerAuth",
    "oidc": "dask_claim.credentials.oidc.OidcAuth",
}
"""Kind → the dotted path of its class."""

_NAMES = ", ".join(KINDS)
_DOTTED = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)+", re.ASCII)

SCHEMA: dict[str, Any] = {
    "title": "Credentials",
    "type": "object",
    "properties": {
        "type": {
            "title": "Kind",
            "description": f"{_NAMES}, or the dotted path of a class of Dask Gateway's kind. "
            "Further entries are its arguments; NAME_file: the file that holds one, NAME_env: the "
            "variable.",
            "type": "string",
        },
        "gateway": {
            "title": "Gateway",
            "description": "The address of the gateway that they are for, path included; no other "
            "one is shown them. By default the gateway_url of this file.",
            "type": ["string", "null"],
        },
    },
    "required": ["type"],
    "additionalProperties": True,
}
"""Of the section `credentials` in the site's file."""


@dataclass(frozen=True)
class Credentials:
    """The section `credentials` of the site's file; nothing of it that is secret is printed."""

    type: str
    """One of `KINDS`, or the dotted path of a class."""

    gateway: UrlPrefix
    """The gateway that may see them."""

    path: str
    """The site's file."""

    arguments: Mapping[str, Any] = field(repr=False)

    def shown(self) -> dict[str, str]:
        """Return what may be shown to anybody."""
        return {"type": self.type, "gateway": str(self.gateway), "source": self.path}


def read_credentials(
    raw: object, claim: object, path: str
) -> tuple[Credentials | None, tuple[Fault, ...]]:
    """Return the credentials of the site's file at `path`, None where it has none, and its faults.

    `raw` is the section, `claim` the site's own claim, whose gateway they are for by default. No
    fault shows a value: a secret may stand in the wrong place.
    """
    if raw is None:
        return None, ()
    if not isinstance(raw, Mapping) or not isinstance(raw.get("type"), str):
        hint = f"write {_NAMES}, or a dotted class path"
        return None, (Fault(("credentials",), None, "must be an object with a type", hint),)
    kind, gateway, prefix = raw["type"], raw.get("gateway"), None
    faults = []
    if kind not in KINDS and not _DOTTED.fullmatch(kind):
        problem = f"must be one of {_NAMES} or a dotted class path"
        faults.append(Fault(("credentials", "type"), None, problem))
    try:
        prefix = UrlPrefix.of(str(gateway or read(claim).values.get(("gateway_url",)) or ""))
    except ValueError:
        hint = "write it here or as gateway_url of this file"
        problem = "must be the address of a gateway"
        faults.append(Fault(("credentials", "gateway"), None, problem, hint))
    arguments = {
        str(name): _argument(str(name), value, kind)
        for name, value in raw.items()
        if value is not None and name not in ("type", "gateway")
    }
    for name, value in arguments.items():
        if is_secret(name):
            register_secret(value)
        if not isinstance(value, (str, int, float)):
            problem = "must be a text, a number, true or false"
            faults.append(Fault(("credentials", name), None, problem))
    if faults or prefix is None:
        return None, tuple(faults)
    return Credentials(kind, prefix, path, arguments), ()


def _argument(name: str, value: object, kind: str) -> object:
    """Return what a class gets: names and secrets as texts; others may be numbers."""
    data = as_data(value, 1)
    is_text = kind in KINDS or (is_text_of_login(name) and not isinstance(data, bool))
    return str(value) if isinstance(value, Plain) and is_text else data
