"""A small OpenID provider on loopback, by Authlib: a process of `provider()`.

It writes the grant of every token that it gives into the file `grants` of its working directory.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

from tests.support.gateway import clean_environment, free_port
from tests.support.launcher import wait_for

CLIENT, CLIENT_SECRET = "runner", "client-secret-1234"
# One that has no secret, as people's own programs.
PUBLIC_CLIENT = "notebook"
USER, PASSWORD = "tester", "user-password-5678"
REFRESH_TOKEN = "refresh-secret-9012"
AUDIENCE = "dask-gateway"

# For a gateway's configuration: signature, issuer, audience and expiry of each request's token, and
# the operator's password, by which the tests look whether anything is left.
CHECKING = """
import json, urllib.request
from aiohttp import web
from dask_gateway_server.auth import SimpleAuthenticator
from dask_gateway_server.models import User
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

class Signed(SimpleAuthenticator):
    async def authenticate_and_handle(self, request, handler):
        kind, _, token = request.headers.get("Authorization", "").partition(" ")
        try:
            if kind == "Basic":
                request["user"] = await self.authenticate(request)
            else:
                assert kind == "Bearer" and token.startswith("{token_prefix}")
                said = jwt.decode(token[len("{token_prefix}"):], KEYS, algorithms=["RS256"])
                CLAIMS.validate(said.claims)
                request["user"] = User("tester")
        except (JoseError, ValueError, AssertionError):
            raise web.HTTPUnauthorized(headers={{"WWW-Authenticate": "Bearer"}})
        return await handler(request)

c.DaskGateway.authenticator_class = Signed
c.Signed.password = "operator-1234"
"""


class Provider:
    """Where it is, and what it has given so far."""

    def __init__(self, issuer: str, address: str, folder: Path) -> None:
        self.issuer, self.address, self._folder = issuer, address, folder

    @property
    def grants(self) -> list[str]:
        file = self._folder / "grants"
        return file.read_text().split() if file.exists() else []

    def checking(self, token_prefix: str = "") -> str:
        """What a gateway's configuration needs to take its tokens."""
        return CHECKING.format(
            issuer=self.issuer, address=self.address, audience=AUDIENCE, token_prefix=token_prefix
        )


@contextmanager
def provider(
    lifetime: int = 5, rotate: bool = False, issuer: str | None = None
) -> Iterator[Provider]:
    """Run one whose tokens live `lifetime` s.

    `rotate`: a refresh token is good for one use; `issuer`: the address that it says is its own,
    where something stands before it.
    """
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="provider-") as name:
        folder = Path(name)
        address = f"http://127.0.0.1:{port}"
        issuer = issuer or address
        command = [sys.executable, "-m", "tests.support.oidc_provider"]
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen(
                [*command, str(port), str(lifetime), str(int(rotate)), issuer],
                cwd=folder,
                # Authlib's own server side takes plain HTTP only so.
                env=clean_environment(
                    AUTHLIB_INSECURE_TRANSPORT="1",
                    PYTHONPATH=str(Path(__file__).parents[2]),
                ),
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        try:

            def answers() -> bool:
                assert process.poll() is None, (folder / "log").read_text()
                try:
                    with urllib.request.urlopen(f"{address}/jwks", timeout=5):
                        return True
                except OSError:
                    return False

            wait_for(answers, "the provider's answer", 60)
            yield Provider(issuer, address, folder)
        finally:
            process.kill()
            process.wait()


def main() -> None:
    from authlib.integrations.flask_oauth2 import AuthorizationServer
    from authlib.oauth2.rfc6749 import ClientMixin, TokenMixin, grants
    from authlib.oauth2.rfc9068 import JWTBearerTokenGenerator
    from flask import Flask, jsonify, request
    from joserfc.jwk import RSAKey
    from werkzeug.serving import make_server

    port, lifetime, rotate = map(int, sys.argv[1:4])
    issuer = sys.argv[4]
    key = RSAKey.generate_key(2048, {"kid": "one", "use": "sig", "alg": "RS256"})
    good = {REFRESH_TOKEN}
    lock = threading.Lock()

    class Client(ClientMixin):
        def __init__(self, name: str) -> None:
            self.name = name

        def get_client_id(self) -> str:
            return self.name

        def get_default_redirect_uri(self) -> str:
            return ""

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

    class ClientCredentials(grants.ClientCredentialsGrant):
        pass

    class Password(grants.ResourceOwnerPasswordCredentialsGrant):
        TOKEN_ENDPOINT_AUTH_METHODS: ClassVar = ["client_secret_basic", "none"]

        def authenticate_user(self, username: str, password: str) -> User | None:
            return User() if (username, password) == (USER, PASSWORD) else None

    class Refresh(grants.RefreshTokenGrant):
        INCLUDE_NEW_REFRESH_TOKEN = bool(rotate)
        TOKEN_ENDPOINT_AUTH_METHODS: ClassVar = ["client_secret_basic", "none"]

        def authenticate_refresh_token(self, token: str) -> Old | None:
            with lock:
                known = token in good
                if rotate:
                    good.discard(token)
            return Old() if known else None

        def authenticate_user(self, token: Old) -> User:
            return User()

        def revoke_old_credential(self, token: Old) -> None:
            pass

    def save(token: dict[str, Any], asked: Any) -> None:
        with lock:
            if "refresh_token" in token:
                good.add(token["refresh_token"])
            with open("grants", "a") as file:
                file.write(asked.payload.grant_type + "\n")

    def random_token(*_: object, **__: object) -> str:
        return f"refresh-secret-{os.urandom(8).hex()}"

    app = Flask(__name__)
    clients = {name: Client(name) for name in (CLIENT, PUBLIC_CLIENT)}
    server = AuthorizationServer(app, clients.get, save)
    server.register_token_generator(
        "default", Generator(issuer, "RS256", random_token, lambda *_: lifetime)
    )
    for grant in (ClientCredentials, Password, Refresh):
        server.register_grant(grant)

    @app.get("/.well-known/openid-configuration")
    def describe() -> Any:
        return jsonify(
            issuer=issuer,
            token_endpoint=f"{issuer}/token",
            jwks_uri=f"{issuer}/jwks",
            token_endpoint_auth_methods_supported=["client_secret_basic", "none"],
        )

    @app.get("/jwks")
    def keys() -> Any:
        return jsonify(keys=[key.as_dict(private=False)])

    @app.post("/token")
    def token() -> Any:
        return server.create_token_response()

    make_server("127.0.0.1", port, app, threaded=True).serve_forever()


if __name__ == "__main__":
    main()
