"""The site's own credentials: their kind, the one gateway that they are for, and where they are."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from dask_claim.claim.addresses import UrlPrefix
from dask_claim.claim.dask_config import is_text_of_login
from dask_claim.claim.spellings import read
from dask_claim.claim.texts import Plain, as_data
from dask_claim.errors import Fault
from dask_claim.redact import is_secret, know

KINDS = ("basic", "kerberos", "jupyterhub", "bearer", "oidc")

_DOTTED = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)+", re.ASCII)


class Entry(BaseModel):
    """`credentials` in the site's file, as its schema describes them."""

    model_config = ConfigDict(frozen=True, extra="allow", title="Credentials")

    type: str = Field(
        title="Kind",
        description=f"{', '.join(KINDS)}, or the dotted path of a class of Dask Gateway's kind. "
        "Further entries are its arguments; NAME_file: the file that holds one, NAME_env: the "
        "variable.",
    )
    gateway: str | None = Field(
        None,
        title="Gateway",
        description="The address of the gateway that they are for, path included; nobody else is "
        "shown them. By default the gateway_url of this file.",
    )


@dataclass(frozen=True)
class Credentials:
    """What the site's file says of them; nothing of it that is secret is printed."""

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
    """Return the credentials of a site's file, None where it has none, and what is wrong.

    Parameters
    ----------
    raw : object
        What stands under `credentials`.
    claim : object
        The site's own claim, whose gateway they are for where they name none.
    path : str
        The site's file.
    """
    if raw is None:
        return None, ()
    if not isinstance(raw, Mapping) or not isinstance(raw.get("type"), str):
        hint = f"write {', '.join(KINDS)}, or a dotted class path"
        return None, (Fault(("credentials",), None, "is not an object with a type", hint),)
    kind, gateway = raw["type"], raw.get("gateway")
    faults = []
    if kind not in KINDS and not _DOTTED.fullmatch(kind):
        problem = f"must be one of {', '.join(KINDS)} or a dotted class path"
        faults.append(Fault(("credentials", "type"), kind, problem))
    try:
        prefix = UrlPrefix.of(str(gateway or read(claim).values.get(("gateway_url",)) or ""))
    except ValueError:
        problem = "is not the address of a gateway"
        hint = "write it here or as gateway_url of this file"
        faults.append(Fault(("credentials", "gateway"), None, problem, hint))
    rest = {
        str(name): _argument(str(name), value, kind)
        for name, value in raw.items()
        if value is not None and name not in ("type", "gateway")
    }
    for name, value in rest.items():
        if is_secret(name):
            know(value)
    # Also no value that stands in the wrong place is shown.
    faults += [
        Fault(("credentials", name), None, "must be a text, a number, true or false")
        for name, value in rest.items()
        if not isinstance(value, (str, int, float))
    ]
    return (None if faults else Credentials(kind, prefix, path, rest)), tuple(faults)


def _argument(name: str, value: object, kind: str) -> object:
    """Return what a class gets: names and secrets as texts; others may be numbers."""
    found = as_data(value, 1)
    is_text = kind in KINDS or (is_text_of_login(name) and not isinstance(found, bool))
    return str(value) if isinstance(value, Plain) and is_text else found
