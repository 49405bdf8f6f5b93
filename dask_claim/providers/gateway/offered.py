"""What a gateway offers, with the defaults for it in Dask's configuration."""

from __future__ import annotations

import inspect
import os
from collections.abc import Mapping, MutableMapping
from typing import TYPE_CHECKING, Any

from dask_claim.claim.dask_config import filled_in
from dask_claim.errors import ConfigurationError

if TYPE_CHECKING:
    from dask_gateway import Gateway
    from dask_gateway.options import Options

KEY = "gateway.cluster.options"


class DefaultsError(ConfigurationError):
    """The defaults in Dask's configuration do not fit what the gateway offers."""


async def offered(client: Gateway) -> Options:
    """Ask a gateway for its options, also for those of types that its client does not know."""
    from dask_gateway.options import Options

    answer = await client._request("GET", f"{client.address}/api/v1/options")
    return Options(*(_field(said) for said in (await answer.json())["cluster_options"]))


def _field(said: Mapping[str, Any]) -> Any:
    from dask_gateway.options import Field

    settings = dict(said["spec"])
    kind = settings.pop("type")
    made_by = Field._field_types.get(kind)
    if made_by is None:
        # Of a newer server, which alone checks its values.
        made_by, settings = type(str(kind), (Field,), {"validate": lambda _, value: value}), {}
    known = inspect.signature(made_by.__init__).parameters
    settings = {name: value for name, value in settings.items() if name in known}
    return made_by(said["field"], said["default"], label=said["label"], **settings)


def take_defaults(options: MutableMapping[str, Any], where: str) -> None:
    """Set what Dask's configuration says of the options of a gateway, `where`.

    Raises DefaultsError that names each one that does not fit.
    """
    import dask.config

    # Its variables make all names lower case.
    known = {**{option.lower(): option for option in options}, **{name: name for name in options}}
    said, faults = dask.config.get(KEY, None) or {}, []
    if not isinstance(said, Mapping):
        raise DefaultsError(f"{KEY} in Dask's configuration: must be a mapping of names and values")
    for name, value in said.items():
        try:
            options[known[name]] = filled_in(value, os.environ)
        except KeyError:
            why = f"unknown option; {where} offers {', '.join(options) or 'none'}"
        except (TypeError, ValueError) as error:
            why = str(error)
        else:
            continue
        faults.append(f"{KEY}.{name} in Dask's configuration: {why}")
    if faults:
        raise DefaultsError("\n".join(faults))
