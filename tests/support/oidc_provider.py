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
# One that has no secret, as people's own programs.
PUBLIC_CLIENT, TOKEN_PREFIX = "notebook", "eodc/"
USER, PASSWORD = "tester", "user-password-5678"
REFRESH_TOKEN = "refresh-secret-9012"
AUDIENCE = "dask-gateway"

# For a gateway's configuration. The operator's password is that by which the tests look whether
# anything is left; a token is right that stands in the file `token` of the gateway's folder.
CHECKING = """
import json, urllib.request
from aiohttp import web
from dask_gateway_server.auth import SimpleAuthenticator
from dask_gateway_server.models import User
from pathlib import Path

class Checking(SimpleAuthenticator):
    def takes(self, token):
        return token == Path("token").read_text()

    async def authenticate_and_handle(self, request, handler):
        kind, _, token = request.headers.get("Authorization", "").partition(" ")
        if kind == "Basic":
            request["user"] = await self.authenticate(request)
        elif kind == "Bearer" and self.takes(token):
            request["user"] = User("tester")
        else:
            raise web.HTTPUnauthorized(headers={"WWW-Authenticate": "Bearer"})
        return await handler(request)

c.DaskGateway.authenticator_class = Checking
Path("token").write_text("none as yet")
"""

# So is one of a provider: signature, issuer, audience and expiry. Those of its public client have a
# word directly before them, as at EODC.
SIGNED = """
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet

KEYS = KeySet.import_key_set(json.load(urllib.request.urlopen("{address}/jwks")))
CLAIMS = jwt.JWTClaimsRegistry(
    leeway=0,
    iss={{"essential": True, "value": "{issuer}"}},
    aud={{"essential": True, "value": "{audience}"}},
    exp={{"essential": True}},
)

class Signed(Checking):
    def takes(self, token):
        try:
            said = jwt.decode(token.removeprefix("{prefix}"), KEYS, algorithms=["RS256"]).claims
            CLAIMS.validate(said)
            return token.startswith("{prefix}") == (said["client_id"] == "{public}")
        except (JoseError, ValueError):
            return super().takes(token)

c.DaskGateway.authenticator_class = Signed
"""


@dataclass
class Provider:
    """Where it is, and the grants of the tokens that it has given so far."""

    issuer: str
    address: str
    grants: list[str] = field(default_factory=list)

    def checking(self) -> str:
        """What a gateway's configuration needs to take its tokens."""
        return CHECKING + SIGNED.format(
            issuer=self.issuer, address=self.address, audience=AUDIENCE,
            prefix=TOKEN_PREFIX, public=PUBLIC_CLIENT,
        )  # fmt: skip


@contextmanager
def provider(
    lifetime: int = 5, rotate: bool = False, issuer: str | None = None
) -> Iterator[Provider]:
    """Run one whose tokens live `lifetime` s.

    `rotate`: a refresh token is good for one use; `issuer`: the address that it says is its own,
    where something stands before it.
    """
    from joserfc import jwt
    from joserfc.jwk import RSAKey

    key = RSAKey.generate_key(2048, {"kid": "one", "use": "sig", "alg": "RS256"})
    good = {REFRESH_TOKEN}

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

    async def token(request: web.Request) -> web.Response:
        asked = {name: str(value) for name, value in (await request.post()).items()}
        grant, client, secret = asked["grant_type"], asked.pop("client_id", ""), ""
        if header := request.headers.get("Authorization"):
            client, secret, _ = BasicAuth.decode(header)
        if error := granted(client, secret, asked):
            return web.json_response({"error": error}, status=400)
        made.grants.append(grant)
        now = int(time.time())
        claims = {
            "iss": made.issuer, "sub": client, "client_id": client, "iat": now,
            "exp": now + lifetime, "jti": uuid4().hex, "aud": asked.pop("audience", AUDIENCE),
        }  # fmt: skip
        assert not asked, asked
        answer = {
            "access_token": jwt.encode({"alg": "RS256", "kid": "one"}, claims, key),
            "token_type": "Bearer", "expires_in": lifetime,
        }  # fmt: skip
        if grant == "password" or (rotate and grant == "refresh_token"):
            answer["refresh_token"] = f"refresh-secret-{uuid4().hex}"
            good.add(answer["refresh_token"])
        return web.json_response(answer)

    async def handle(request: web.Request) -> web.Response:
        if request.path == "/token":
            return await token(request)
        if request.path == "/jwks":
            return web.json_response({"keys": [key.as_dict(private=False)]})
        assert request.path == "/.well-known/openid-configuration"
        return web.json_response({
            "issuer": made.issuer,
            "token_endpoint": f"{made.issuer}/token",
            "token_endpoint_auth_methods_supported": ["client_secret_basic", "none"],
        })  # fmt: skip

    with in_thread(http(handle)) as address:
        made = Provider(issuer or address, address)
        yield made
