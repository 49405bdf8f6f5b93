"""A gateway behind JupyterHub that wants a scope of the token: which one is missing is told."""

from __future__ import annotations

from collections.abc import Iterator

import dask.config
import pytest
from aiohttp import web

from dask_claim.errors import AuthenticationError
from dask_claim.providers.gateway.api import GatewayApi
from tests.support.gateway import REFERENCE, GatewayServer
from tests.support.serving import http, in_thread
from tests.test_gateway_api import ask

# The token decides what its holder may do.
TOKENS = {
    "no-scope-0000": [],
    "other-scope-1111": ["access:services!service=binder", "read:users"],
    "right-scope-2222": ["access:services!service=dask-gateway"],
    "all-scopes-3333": ["access:services"],
}

# The tests look by a name alone whether it is up.
BEHIND = """
from dask_gateway_server.auth import JupyterHubAuthenticator
from dask_gateway_server.models import User

class Hub(JupyterHubAuthenticator):
    async def authenticate(self, request):
        if request.headers.get("Authorization", "").startswith("Basic "):
            return User("tester")
        return await super().authenticate(request)

c.DaskGateway.authenticator_class = Hub
c.Hub.jupyterhub_api_url = "{hub}"
c.Hub.jupyterhub_api_token = "the-gateways-own"
c.Hub.jupyterhub_service_name = "dask-gateway"
"""


async def user(request: web.Request) -> web.Response:
    """The part of JupyterHub's API that says who a token is."""
    token = request.headers.get("Authorization", "").removeprefix("token ")
    if token not in TOKENS or request.path != "/user":
        return web.json_response({"status": 403}, status=403)
    return web.json_response({"name": "tester", "kind": "user", "scopes": TOKENS[token]})


@pytest.fixture
def hub() -> Iterator[tuple[str, str]]:
    """Its address, and that of a gateway behind it."""
    with in_thread(http(user)) as address:
        server = GatewayServer(REFERENCE + BEHIND.format(hub=address))
        yield address, server.url
        server.stop()


@pytest.mark.slow
def test_scope_that_is_missing(hub: tuple[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    address, gateway = hub

    def refused(token: str) -> str:
        """Return why; empty for a token that will do."""
        monkeypatch.setenv("JUPYTERHUB_API_TOKEN", token)
        with dask.config.set({"gateway.auth.type": "jupyterhub"}):
            try:
                assert ask(gateway, GatewayApi.clusters) == []
            except AuthenticationError as error:
                return str(error)
        return ""

    monkeypatch.setenv("JUPYTERHUB_API_URL", address)
    assert refused("right-scope-2222") == refused("all-scopes-3333") == ""
    lacks = "The token lacks the scope access:services!service=NAME"
    assert lacks in refused("no-scope-0000")
    other = refused("other-scope-1111")
    assert lacks in other and "it has access:services!service=binder" in other
    assert "read:users" not in other and "1111" not in other
    monkeypatch.delenv("JUPYTERHUB_API_URL")
    assert "may require the scope access:services!service=NAME" in refused("no-scope-0000")
    monkeypatch.setenv("JUPYTERHUB_API_URL", "http://127.0.0.1:1")
    assert "Its hub does not list the token's scopes (ClientConnector" in refused("no-scope-0000")
