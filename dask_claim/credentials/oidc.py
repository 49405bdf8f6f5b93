"""Authentication by an OpenID provider: `oidc` in the site's file, or named by its path.

`DASK_GATEWAY__AUTH__TYPE=dask_claim.credentials.oidc.OidcAuth`. Each process (launcher,
guard, program) has a token of its own, in its memory and nowhere else.
"""

from __future__ import annotations

import ipaddress
import threading
import time
from importlib.util import find_spec
from typing import Any
from urllib.parse import urlsplit

from dask_gateway.auth import GatewayAuth

from dask_claim.credentials.identity import Secret, sound_token
from dask_claim.errors import (
    AuthenticationError,
    ConfigurationError,
    DaskClaimError,
    GatewayUnreachable,
)
from dask_claim.redact import MASK, redact_text

DISCOVERY = "/.well-known/openid-configuration"
"""Below the issuer: OpenID Connect Discovery 1.0, section 4."""

GRANTS = ("client_credentials", "refresh_token", "password")

# A token is renewed this long before its end, or after two thirds of its life; seconds. Clocks
# differ, and the request that it is for takes time.
MARGIN = 60.0
# What a provider that does not say how long its token lives is believed to mean, and at most.
UNTOLD, LONGEST = 60.0, 86_400.0


class OidcAuth(GatewayAuth):  # type: ignore[misc,unused-ignore]
    """Sends `Authorization: Bearer TOKEN` with a token that is always fresh enough."""

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
        """Take what the provider has to be shown; it is asked when there is a request.

        Parameters
        ----------
        issuer : str
            The provider's `https://` address, as its own description has it. On loopback `http://`
            will do.
        grant : str, optional
            One of `GRANTS`; by default what was given fits.
        client_secret_file, password_file, refresh_token_file : str, optional
            Files with a secret and nothing else, read again for each new token.
        scope, audience : str, optional
            What the token is to be for, in the provider's own words.
        prefix : str
            The word before the token, empty for none.
        token_prefix : str
            What some sites want directly before the token.

        Raises
        ------
        ValueError
            Something is missing, or is given twice.
        ImportError
            Authlib (extra `oidc`) is not installed.
        """
        self._issuer = str(issuer).rstrip("/")
        if not _safe(self._issuer):
            raise ValueError("the issuer of oidc authentication is no https:// address")
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
            raise ValueError(f"the grant of oidc authentication is none of {', '.join(GRANTS)}")
        if missing[grant]:
            raise ValueError(f"oidc authentication by {grant} wants {missing[grant]} (or …_file)")
        if find_spec("authlib") is None or find_spec("requests") is None:
            raise ImportError("it needs Authlib and requests: pip install 'dask-claim[oidc]'")
        self._grant = grant
        self._more = {"scope": scope, "audience": audience}
        self._prefix, self._token_prefix = prefix.strip(), token_prefix
        self._lock = threading.Lock()
        self._token, self._renew_at, self._ends_at = "", 0.0, 0.0
        self._given: str | None = None  # the refresh token that came with the last token

    def prepare(self) -> None:
        """Have a token that lives long enough. Blocks while the provider is asked.

        Raises
        ------
        AuthenticationError
            The provider refuses, or what it says is not to be trusted.
        GatewayUnreachable
            It cannot be reached or cannot serve now.
        """
        with self._lock:
            if time.time() >= self._renew_at:
                self._renew()

    def pre_request(self, resp: Any) -> tuple[dict[str, str], None]:
        """Return the header for a request that was answered with 401."""
        if time.time() >= self._ends_at:
            self.prepare()
        return {"Authorization": f"{self._prefix} {self._token_prefix}{self._token}".strip()}, None

    def post_response(self, resp: Any, context: object = None) -> None:
        """Forget a token that the gateway does not take: the provider may have revoked it."""
        if resp.status == 401:
            self._renew_at = self._ends_at = 0.0

    def _renew(self) -> None:
        began, known = time.time(), _Known()
        try:
            answer = self._ask(known)
            token = sound_token(str(answer.get("access_token") or ""))
        except DaskClaimError:
            raise
        except Exception as error:
            raise _explained(error, f"the OpenID provider {self._issuer}", known) from None
        given = answer.get("refresh_token")
        self._given = given if isinstance(given, str) and given else None
        life = _seconds(answer.get("expires_in"))
        self._token, self._ends_at = token, began + life
        self._renew_at = began + life - min(MARGIN, life / 3)

    def _ask(self, known: _Known) -> Any:
        """The provider's answer with a token."""
        from authlib.integrations.base_client.errors import OAuthError

        from dask_claim.credentials.oidc_session import session

        secret = known.of(self._secret) if self._secret else None
        with session(self._client_id, secret) as asked:
            said = asked.described(f"{self._issuer}{DISCOVERY}")
            # Else one provider could send another one's users to itself (Discovery, section 4.3).
            if str(said.get("issuer", "")).rstrip("/") != self._issuer:
                raise ValueError("its description is that of another issuer")
            address = said.get("token_endpoint")
            if not isinstance(address, str) or not _safe(address):
                raise ValueError("its description names no https:// token endpoint")
            more = {name: value for name, value in self._more.items() if value}
            if self._given is not None and self._grant != "client_credentials":
                known.add(self._given)
                try:
                    return asked.refresh(address, self._given, more)
                except OAuthError as error:
                    if error.error != "invalid_grant":
                        raise
                    # It has ended sooner than the secret that it was given for.
                    self._given = None
            if self._grant == "refresh_token":
                return asked.refresh(address, known.of(self._refresh_token), more)
            if self._grant == "password":
                more |= {"username": str(self._username), "password": known.of(self._password)}
            return asked.fetch_token(address, grant_type=self._grant, **more)


class _Known:
    """The secrets that one request knows, so that no error tells them."""

    def __init__(self) -> None:
        self._texts: list[str] = []

    def add(self, text: str) -> None:
        self._texts.append(text)

    def of(self, secret: Secret) -> str:
        self.add(text := secret.read())
        return text

    def masked(self, text: str) -> str:
        for secret in self._texts:
            text = text.replace(secret, MASK)
        short = " ".join(redact_text(text).split())
        return short if len(short) <= 300 else short[:299] + "…"


def _explained(error: Exception, where: str, known: _Known) -> DaskClaimError:
    from authlib.integrations.base_client.errors import OAuthError
    from requests.exceptions import JSONDecodeError, RequestException, SSLError

    if isinstance(error, OAuthError):
        # Not "no token: …", behind which a secret would be looked for, and masked.
        words = ": ".join(str(part) for part in (error.error, error.description) if part)
        return AuthenticationError(f"{where} refuses: {known.masked(words)}")
    if isinstance(error, SSLError) and "CERTIFICATE_VERIFY" in str(error):
        return ConfigurationError(
            f"{where} cannot be trusted: {known.masked(str(error))}. SSL_CERT_FILE names the file "
            "with a site's own CA"
        )
    if isinstance(error, RequestException) and not isinstance(error, JSONDecodeError):
        return GatewayUnreachable(f"{where} cannot be reached: {known.masked(str(error))}")
    if isinstance(error, OSError) and error.filename:
        return AuthenticationError(f"no token of {where}: {error.filename}: {error.strerror}")
    return AuthenticationError(f"no token of {where}: {known.masked(str(error))}")


def _safe(address: str) -> bool:
    """Whether secrets may be sent there: by TLS, or to this machine."""
    try:
        parts = urlsplit(address)
        host = parts.hostname or ""
    except ValueError:
        return False
    if not host or parts.username or not address.isprintable():
        return False
    if parts.scheme == "https":
        return True
    try:
        return parts.scheme == "http" and ipaddress.ip_address(host).is_loopback
    except ValueError:
        return parts.scheme == "http" and host == "localhost"


def _seconds(said: object) -> float:
    try:
        seconds = float(said)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        return UNTOLD
    return min(seconds, LONGEST) if seconds > 0 else UNTOLD
