"""A small OpenID provider on loopback, and gateways that take its tokens."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from uuid import uuid4

from aiohttp import BasicAuth, web

from tests.support.serving import http, in_thread

CLIENT, CLIENT_SECRET = "runner", "client-secret-1234"
# One that has no secret, as people's own programs; its tokens have a word directly before them.
PUBLIC_CLIENT, TOKEN_PREFIX = "notebook", "eodc/"
USER, PASSWORD = "tester", "user-password-5678"
REFRESH_TOKEN = "refresh-secret-9012"
AUDIENCE = "dask-gateway"

# For a gateway's configuration. The operator's password is that by which the tests look whether
# anything is left; a token is right that stands in the file `token` of the gateway's folder, or
# that the provider has given, for as long as that says.
CHECKING = """
from aiohttp import web
from dask_gateway_server.auth import SimpleAuthenticator
from dask_gateway_server.models import User
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import urlopen

def takes(token):
    try:
        return urlopen("ADDRESS/takes/" + token).status == 200
    except HTTPError:
        return token == Path("token").read_text()

class Checking(SimpleAuthenticator):
    async def authenticate_and_handle(self, request, handler):
        kind, _, token = request.headers.get("Authorization", "").partition(" ")
        if kind == "Basic":
            request["user"] = await self.authenticate(request)
        elif kind == "Bearer" and takes(token):
            request["user"] = User("tester")
        else:
            raise web.HTTPUnauthorized(headers={"WWW-Authenticate": "Bearer"})
        return await handler(request)

c.DaskGateway.authenticator_class = Checking
Path("token").write_text("none as yet")
"""


@dataclass
class Provider:
    """Where it is, and the grants of the tokens that it has given so far."""

    issuer: str
    address: str
    grants: list[str] = field(default_factory=list)

    def checking(self) -> str:
        """What a gateway's configuration needs to take its tokens."""
        return CHECKING.replace("ADDRESS", self.address)


@contextmanager
def provider(
    lifetime: int = 5, rotate: bool = False, issuer: str | None = None
) -> Iterator[Provider]:
    """Run one whose tokens live `lifetime` s.

    `rotate`: a refresh token is good for one use; `issuer`: the address that it says is its own,
    where something stands before it.
    """
    good = {REFRESH_TOKEN}
    ends: dict[str, float] = {}
    """Each token, as a gateway has to be shown it, and when it ends."""

    def granted(client: str, secret: str, asked: dict[str, str]) -> str | None:
        """Answer with what is wrong: RFC 6749, section 5.2."""
        grant, refresh = asked.pop("grant_type"), asked.pop("refresh_token", "")
        if (client, secret) not in ((CLIENT, CLIENT_SECRET), (PUBLIC_CLIENT, "")):
            return "invalid_client"
        if grant == "client_credentials":
            return None if client == CLIENT else "unauthorized_client"
        user = (asked.pop("username", ""), asked.pop("password", ""))
        right = user == (USER, PASSWORD) if grant == "password" else refresh in good
        if right and rotate:
            good.discard(refresh)
        return None if right else "invalid_grant"

    async def answered(request: web.Request) -> web.Response:
        asked = {name: str(value) for name, value in (await request.post()).items()}
        grant, client, secret = asked["grant_type"], asked.pop("client_id", ""), ""
        if header := request.headers.get("Authorization"):
            client, secret, _ = BasicAuth.decode(header)
        if error := granted(client, secret, asked):
            return web.json_response({"error": error}, status=400)
        made.grants.append(grant)
        token = f"eyJ{uuid4().hex}.{uuid4().hex}.{uuid4().hex}"
        if asked.pop("audience", AUDIENCE) == AUDIENCE:
            ends[token if client == CLIENT else TOKEN_PREFIX + token] = time.time() + lifetime
        assert not asked, asked
        answer = {"access_token": token, "token_type": "Bearer", "expires_in": lifetime}
        if grant == "password" or (rotate and grant == "refresh_token"):
            answer["refresh_token"] = f"refresh-secret-{uuid4().hex}"
            good.add(answer["refresh_token"])
        return web.json_response(answer)

    async def handle(request: web.Request) -> web.Response:
        if request.path == "/token":
            return await answered(request)
        _, takes, shown = request.path.partition("/takes/")
        if takes:
            return web.Response(status=200 if time.time() < ends.get(shown, 0) else 404)
        assert request.path == "/.well-known/openid-configuration"
        return web.json_response({
            "issuer": made.issuer,
            "token_endpoint": f"{made.issuer}/token",
            "token_endpoint_auth_methods_supported": ["client_secret_basic", "none"],
        })  # fmt: skip

    with in_thread(http(handle)) as address:
        made = Provider(issuer or address, address)
        yield made
