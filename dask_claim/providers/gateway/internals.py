"""What is used of Dask Gateway's client beyond its public names; nothing else here touches it."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, MutableMapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aiohttp import ClientResponse, ClientSession
    from dask_gateway import Gateway
    from dask_gateway.options import Options


async def request(client: Gateway, method: str, path: str, **more: Any) -> ClientResponse:
    """Send one request; unlike the client's own methods it returns the answer as it is."""
    answer: ClientResponse = await client._request(method, f"{client.address}/api/{path}", **more)
    return answer


def session_of(client: Gateway) -> ClientSession | None:
    """Return the client's HTTP session, None before the first request."""
    session: ClientSession | None = client._session
    return session


def use_session(client: Gateway, session: ClientSession) -> None:
    """Have a client that has sent nothing yet use this HTTP session."""
    client._session = session


def go_direct(client: Gateway) -> None:
    """Have the client use no HTTP proxy."""
    client._request_kwargs = {}


def spec_of(options: MutableMapping[str, Any], name: str) -> Any:
    """Return the client's `Field` of an option: its type, default and limits."""
    return options._fields[name]  # type: ignore[attr-defined]


async def offered(client: Gateway) -> Options:
    """Ask a gateway for its options, including those of types that its client does not know."""
    from dask_gateway.options import Options

    answer = await request(client, "GET", "v1/options")
    return Options(*(_field(each) for each in (await answer.json())["cluster_options"]))


def _field(description: Mapping[str, Any]) -> Any:
    from dask_gateway.options import Field

    settings = dict(description["spec"])
    kind = settings.pop("type")
    field_type = Field._field_types.get(kind)
    if field_type is None:
        # Of a newer server, which alone checks its values.
        field_type = type(str(kind), (Field,), {"validate": lambda _, value: value})
        settings = {}
    accepted = inspect.signature(field_type.__init__).parameters
    settings = {name: value for name, value in settings.items() if name in accepted}
    return field_type(
        description["field"], description["default"], label=description["label"], **settings
    )
