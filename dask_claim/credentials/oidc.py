"""Authentication by an OpenID provider: `oidc` in the site's file, or by the path of its class.

`DASK_GATEWAY__AUTH__TYPE=dask_claim.credentials.oidc.OidcAuth`. Each process (launcher, guard,
program) has a token of its own, in its memory and nowhere else.
"""

from __future__ import annotations

import re
import ssl
import threading
import time
from functools import partial
from importlib.util import find_spec
from typing import Any

from dask_gateway.auth import GatewayAuth

from dask_claim.credentials.identity import Secret, check_token
from dask_claim.errors import (
    AuthenticationError,
    ConfigurationError,
    DaskClaimError,
    GatewayUnreachable,
)
from dask_claim.redact import redact_text, register_secret

DISCOVERY = "/.well-known/openid-configuration"
"""Below the issuer: OpenID Connect Discovery 1.0, section 4."""

GRANTS = ("client_credentials", "refresh_token", "password")

PATIENCE = 10.0
"""Seconds for each part of an answer."""

# A token is renewed this long before its end, or after two thirds of its life; seconds. Clocks
# differ, and the request that it is for takes time.
MARGIN = 60.0
# The life of a token whose provider does not specify it; seconds.
UNSPECIFIED = 60.0

# Where secrets may be sent: by TLS, or to this machine.
_SAFE = re.compile(r"https://\S+|http://(localhost|127\.\d+\.\d+\.\d+|\[::1\])(:\d+)?(/\S*)?")


class OidcAuth(GatewayAuth):  # type: ignore[misc,unused-ignore]
    """Sends `Authorization: Bearer TOKEN` with a token that is always fresh enough.

    The provider is contacted when a request needs a token. Raises ValueError where an argument is
    missing or given twice, ImportError where Authlib (extra `oidc`) is not installed.

    Parameters
    ----------
    issuer : str
        The provider's `https://` address, as its own description has it; on loopback also
        `http://`.
    grant : str, optional
        One of `GRANTS`; by default the one that fits the other arguments.
    client_secret_file, password_file, refresh_token_file : str, optional
        Files with a secret and nothing else, read again for each new token.
    scope, audience : str, optional
        What the token is to be for, in the provider's own words.
    prefix : str
        The word before the token, empty for none.
    token_prefix : str
        What some sites expect directly before the token.
    """

    renews = True
    """A request that was refused can be made again, with another token."""

    def __init__(
        self,
        issuer: str,
        client_id: object,
        grant: str | None = None,
        *,
        client_secret: object = None,
        client_secret_file: str | None = None,
        username: object = None,
        password: object = None,
        password_file: str | None = None,
        refresh_token: object = None,
        refresh_token_file: str | None = None,
        scope: str | None = None,
        audience: str | None = None,
        prefix: str = "Bearer",
        token_prefix: str = "",
    ) -> None:
        self._issuer = str(issuer).rstrip("/")
        if not _SAFE.fullmatch(self._issuer):
            raise ValueError("the issuer of oidc authentication must be an https:// address")
        self._client_id, self._username = str(client_id), username
        self._secret = Secret("client_secret", client_secret, client_secret_file)
        self._password = Secret("password", password, password_file)
        self._refresh_token = Secret("refresh_token", refresh_token, refresh_token_file)
        if grant is None:
            grant = GRANTS[1 if self._refresh_token else 2 if self._password else 0]
        missing = {
            "client_credentials": not self._secret and "client_secret",
            "refresh_token": not self._refresh_token and "refresh_token",
            "password": not (self._password and username) and "username and password",
        }
        if grant not in missing:
            raise ValueError(f"the grant of oidc authentication must be one of {', '.join(GRANTS)}")
        if missing[grant]:
            raise ValueError(f"oidc authentication by {grant} needs {missing[grant]} (or …_file)")
        if find_spec("authlib") is None or find_spec("requests") is None:
            raise ImportError("it needs Authlib and requests: install dask-claim[oidc]")
        self._grant = grant
        self._more = {
            name: value for name, value in {"scope": scope, "audience": audience}.items() if value
        }
        self._before_token = f"{prefix.strip()} {token_prefix}".lstrip()
        self._lock = threading.Lock()
        self._token, self._renew_at = "", 0.0
        self._given: str | None = None  # the refresh token that came with the last token

    def prepare(self) -> None:
        """Have a token that lives long enough. Blocks while the provider answers.

        Raises AuthenticationError where it refuses, or its answer is not to be trusted,
        GatewayUnreachable where it cannot be reached or cannot serve now.
        """
        with self._lock:
            if time.time() >= self._renew_at:
                self._renew()

    def pre_request(self, resp: Any) -> tuple[dict[str, str], None]:
        """Return the header for a request that was answered with 401."""
        self.prepare()
        return {"Authorization": f"{self._before_token}{self._token}"}, None

    def post_response(self, resp: Any, context: object = None) -> None:
        """Forget a token that the gateway does not take: the provider may have revoked it."""
        if resp.status == 401:
            self._renew_at = 0.0

    def _renew(self) -> None:
        began = time.time()
        try:
            answer = self._ask()
            self._token = check_token(str(answer.get("access_token") or ""))
            life = float(answer.get("expires_in") or UNSPECIFIED)
        except Exception as error:
            raise _explained(error, f"the OpenID provider {self._issuer}") from None
        if self._grant != "client_credentials":
            self._given = answer.get("refresh_token") or self._given
        self._renew_at = began + life - min(MARGIN, life / 3)

    def _ask(self) -> Any:
        """The provider's answer with a token."""
        from authlib.integrations.base_client.errors import OAuthError
        from authlib.integrations.requests_client import OAuth2Session

        secret = self._secret.read() if self._secret else None
        with OAuth2Session(self._client_id, secret, default_timeout=PATIENCE) as session:
            session.hooks["response"].append(_check_answer)
            # The gateway's client trusts these, too; SSL_CERT_FILE is among them.
            paths = ssl.get_default_verify_paths()
            trusted = paths.cafile or paths.capath or True
            address = f"{self._issuer}{DISCOVERY}"
            described = session.get(address, withhold_token=True, verify=trusted)
            described.raise_for_status()
            endpoint, methods = _read_description(described.json(), self._issuer)
            if secret and methods and "client_secret_basic" not in methods:
                session.token_endpoint_auth_method = "client_secret_post"
            fetch = partial(session.fetch_token, endpoint, verify=trusted, **self._more)
            if self._given is not None:
                register_secret(self._given)
                try:
                    return fetch(grant_type="refresh_token", refresh_token=self._given)
                except OAuthError as error:
                    if error.error != "invalid_grant":
                        raise
                    # It has ended sooner than the secret that it was given for.
                    self._given = None
            return fetch(grant_type=self._grant, **self._shown())

    def _shown(self) -> dict[str, str]:
        if self._grant == "refresh_token":
            return {"refresh_token": self._refresh_token.read()}
        if self._grant == "password":
            return {"username": str(self._username), "password": self._password.read()}
        return {}


def _check_answer(answer: Any, **_: Any) -> None:
    if answer.is_redirect:
        answer.close()  # before its content is read, a session's end would leave it open
        raise ValueError("it answers with a redirection, which is not followed")
    if answer.status_code >= 500 or answer.status_code == 429:
        answer.close()
        answer.raise_for_status()


def _read_description(description: Any, issuer: str) -> tuple[str, Any]:
    """Return the address for tokens, and how a client may show its secret there."""
    if not isinstance(description, dict):
        raise ValueError("its description is not a JSON object")
    # Else one provider could send another one's users to itself (Discovery, section 4.3).
    if str(description.get("issuer", "")).rstrip("/") != issuer:
        raise ValueError("its description is that of another issuer")
    endpoint = description.get("token_endpoint")
    if not isinstance(endpoint, str) or not _SAFE.fullmatch(endpoint):
        raise ValueError("its description has no https:// token endpoint")
    return endpoint, description.get("token_endpoint_auth_methods_supported")


def _explained(error: Exception, where: str) -> DaskClaimError:
    from authlib.integrations.base_client.errors import OAuthError
    from requests.exceptions import JSONDecodeError, RequestException, SSLError

    words = " ".join(redact_text(str(error)).split())[:300]
    if isinstance(error, SSLError) and "CERTIFICATE_VERIFY" in words:
        return ConfigurationError(
            f"{where} cannot be trusted: {words}. SSL_CERT_FILE names the file with a site's own CA"
        )
    if isinstance(error, RequestException) and not isinstance(error, JSONDecodeError):
        return GatewayUnreachable(f"{where} cannot be reached: {words}")
    if isinstance(error, OAuthError):
        return AuthenticationError(f"{where} refuses: {words}")
    return AuthenticationError(f"could not get a token from {where}: {words}")
