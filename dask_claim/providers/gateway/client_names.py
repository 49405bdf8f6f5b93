"""The private names of dask-gateway's client that dask-claim uses.

No version of dask-gateway promises them. One that lacks a name is refused before a request is sent:
an attribute that nobody reads any more would be set without an error, and requests would go out
without the checks of `connection`.
"""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

from dask_claim.errors import ConfigurationError

PRIVATE = {
    "Gateway": ("_request", "_request_kwargs", "_session"),
    "Options": ("_fields",),
    "Field": ("_field_types",),
}
"""Class to its names."""


def check_names(client: Any) -> None:
    """Raise ConfigurationError where the installed dask-gateway lacks a private name.

    `client`: a `dask_gateway.Gateway`.
    """
    from dask_gateway.options import Field, Options

    owners = {"Gateway": client, "Options": Options(), "Field": Field}
    missing = [
        f"{owner}.{name}"
        for owner, names in PRIVATE.items()
        for name in names
        if not hasattr(owners[owner], name)
    ]
    if missing:
        raise ConfigurationError(
            f"dask-gateway {version('dask-gateway')} has no {', '.join(missing)}, which this "
            "dask-claim needs: install an earlier dask-gateway or a later dask-claim"
        )
