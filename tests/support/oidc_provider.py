"""A small OpenID provider on loopback, by Authlib, and gateways that take its tokens."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, ClassVar

from tests.support.gateway import free_port

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
    from werkzeug.serving import make_server

    port = free_port()
    address = f"http://127.0.0.1:{port}"
    made = Provider(issuer or address, address)
    server = make_server("127.0.0.1", port, _application(made, lifetime, rotate), threaded=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield made
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _application(provider: Provider, lifetime: int, rotate: bool) -> Any:
    from authlib.integrations.flask_oauth2 import AuthorizationServer
    from authlib.oauth2.rfc6749 import ClientMixin, TokenMixin, grants
    from authlib.oauth2.rfc9068 import JWTBearerTokenGenerator
    from flask import Flask, jsonify, request
    from joserfc.jwk import RSAKey

    key = RSAKey.generate_key(2048, {"kid": "one", "use": "sig", "alg": "RS256"})
    good = {REFRESH_TOKEN}

    class Client(ClientMixin):
        def __init__(self, name: str) -> None:
            self.name = name

        def get_client_id(self) -> str:
            return self.name

        def get_allowed_scope(self, scope: str | None) -> str:
            return scope or ""

        def check_client_secret(self, secret: str) -> bool:
            return secret == CLIENT_SECRET

        def check_endpoint_auth_method(self, method: str, endpoint: str) -> bool:
            return method == ("client_secret_basic" if self.name == CLIENT else "none")

        def check_grant_type(self, grant: str) -> bool:
            return self.name == CLIENT or grant != "client_credentials"

    class User:
        def get_user_id(self) -> str:
            return USER

    class Old(TokenMixin):
        def check_client(self, client: Client) -> bool:
            return True

        def get_scope(self) -> str:
            return ""

    class Generator(JWTBearerTokenGenerator):
        def get_jwks(self) -> Any:
            return key.as_dict(private=True)

        def get_audiences(self, client: Any, user: Any, scope: Any) -> str:
            return request.form.get("audience", AUDIENCE)

    class Password(grants.ResourceOwnerPasswordCredentialsGrant):
        TOKEN_ENDPOINT_AUTH_METHODS: ClassVar = ["client_secret_basic", "none"]

        def authenticate_user(self, username: str, password: str) -> User | None:
            return User() if (username, password) == (USER, PASSWORD) else None

    class Refresh(grants.RefreshTokenGrant):
        INCLUDE_NEW_REFRESH_TOKEN = rotate
        TOKEN_ENDPOINT_AUTH_METHODS: ClassVar = ["client_secret_basic", "none"]

        def authenticate_refresh_token(self, token: str) -> Old | None:
            known = token in good
            if rotate:
                good.discard(token)
            return Old() if known else None

        def authenticate_user(self, token: Old) -> User:
            return User()

        def revoke_old_credential(self, token: Old) -> None:
            pass

    def save(token: dict[str, Any], asked: Any) -> None:
        good.update(filter(None, [token.get("refresh_token")]))
        provider.grants.append(asked.payload.grant_type)

    def random_token(*_: object, **__: object) -> str:
        return f"refresh-secret-{os.urandom(8).hex()}"

    app = Flask(__name__)
    clients = {name: Client(name) for name in (CLIENT, PUBLIC_CLIENT)}
    server = AuthorizationServer(app, clients.get, save)
    server.register_token_generator(
        "default", Generator(provider.issuer, "RS256", random_token, lambda *_: lifetime)
    )
    for grant in (grants.ClientCredentialsGrant, Password, Refresh):
        server.register_grant(grant)

    @app.get("/.well-known/openid-configuration")
    def describe() -> Any:
        return jsonify(
            issuer=provider.issuer,
            token_endpoint=f"{provider.issuer}/token",
            jwks_uri=f"{provider.issuer}/jwks",
            token_endpoint_auth_methods_supported=["client_secret_basic", "none"],
        )

    @app.get("/jwks")
    def keys() -> Any:
        return jsonify(keys=[key.as_dict(private=False)])

    @app.post("/token")
    def token() -> Any:
        return server.create_token_response()

    # Authlib's own server side takes no plain HTTP.
    inner = app.wsgi_app
    app.wsgi_app = lambda environ, start: inner({**environ, "wsgi.url_scheme": "https"}, start)
    return app
