"""The site's own credentials: their kind, the one gateway that they are for, and where they are."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cached_property
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    WithJsonSchema,
    model_validator,
)

from dask_claim.claim.addresses import UrlPrefix
from dask_claim.claim.dask_config import is_text_of_login
from dask_claim.claim.texts import Plain, as_data
from dask_claim.claim.units import Invalid
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


def _kind(name: str) -> str:
    if name not in KINDS and not _DOTTED.fullmatch(name):
        raise Invalid(f"must be one of {_NAMES} or a dotted class path")
    return name


def _gateway(url: object) -> UrlPrefix:
    try:
        return UrlPrefix.of(str(url or ""))
    except ValueError:
        hint = "write it here or as gateway_url of this file"
        raise Invalid("must be the address of a gateway", hint) from None


def _scalar(value: object) -> object:
    if not isinstance(value, (str, int, float, type(None))):
        raise Invalid("must be a text, a number, true or false")
    return value


class Credentials(BaseModel):
    """The section `credentials` of the site's file; nothing of it that is secret is printed."""

    model_config = ConfigDict(frozen=True, extra="allow")

    type: Annotated[str, AfterValidator(_kind)] = Field(
        title="Kind",
        description=f"{_NAMES}, or the dotted path of a class of Dask Gateway's kind. Further "
        "entries are its arguments; NAME_file: the file that holds one, NAME_env: the variable.",
    )
    gateway: Annotated[
        UrlPrefix, BeforeValidator(_gateway), WithJsonSchema({"type": ["string", "null"]})
    ] = Field(
        None,
        validate_default=True,
        description="The address of the gateway that they are for, path included; no other one is "
        "shown them. By default the gateway_url of this file.",
    )
    __pydantic_extra__: dict[str, Annotated[Any, AfterValidator(_scalar)]]

    @model_validator(mode="before")
    @classmethod
    def _has_type(cls, raw: object) -> object:
        if not isinstance(raw, Mapping) or not isinstance(raw.get("type"), str):
            hint = f"write {_NAMES}, or a dotted class path"
            raise Invalid("must be an object with a type", hint)
        return raw

    def model_post_init(self, context: object) -> None:
        """Have its secrets masked from now on."""
        for name, value in self.arguments.items():
            if is_secret(name):
                register_secret(value)

    @cached_property
    def arguments(self) -> dict[str, Any]:
        """What the class gets: names and secrets as texts; others may be numbers."""
        given = self.__pydantic_extra__.items()
        return {name: self._argument(name, value) for name, value in given if value is not None}

    def _argument(self, name: str, value: object) -> object:
        data = as_data(value, 1)
        is_text = is_text_of_login(name) and not isinstance(data, bool)
        return str(value) if isinstance(value, Plain) and (self.type in KINDS or is_text) else data

    def __repr_args__(self) -> Any:
        return self.shown().items()

    def shown(self) -> dict[str, str]:
        """Return what may be shown to anybody."""
        return {"type": self.type, "gateway": str(self.gateway)}
