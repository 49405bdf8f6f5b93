"""One conversation with an OpenID provider: what it answers is bounded and goes nowhere else."""

from __future__ import annotations

import ssl
import time
from typing import Any

from authlib.integrations.requests_client import OAuth2Session
from requests import RequestException, Response
from requests.adapters import HTTPAdapter

from dask_claim.credentials.identity import MOST

PATIENCE = 10.0
"""Seconds for an answer to begin, and for each part of it."""

WHOLE = 20.0
"""Seconds for an answer as a whole."""


def session(client_id: str, secret: str | None) -> Session:
    """Return a session, to be closed; it takes the variables for proxies and for a site's CA."""
    made = Session(client_id, secret, default_timeout=PATIENCE)
    made.mount("https://", _Adapter())
    return made


class Session(OAuth2Session):  # type: ignore[misc,unused-ignore]
    def described(self, address: str) -> dict[str, Any]:
        """The JSON object at an address, and what it says of how a client shows its secret."""
        answer = self.get(address, withhold_token=True)
        if answer.status_code != 200:
            raise RequestException(f"status {answer.status_code} for {address}")
        said = answer.json()
        if not isinstance(said, dict):
            raise ValueError("its description is no JSON object")
        methods = said.get("token_endpoint_auth_methods_supported")
        if (
            self.client_secret
            and isinstance(methods, list)
            and "client_secret_basic" not in methods
        ):
            self.token_endpoint_auth_method = "client_secret_post"
        return said

    def refresh(self, address: str, token: str, more: dict[str, str]) -> Any:
        """The answer to a refresh token; it holds that one where it was not replaced."""
        self.token = {"refresh_token": token}
        return self.refresh_token(address, refresh_token=token, **more)

    def send(self, request: Any, **options: Any) -> Response:
        """As requests does; without following anybody elsewhere, and not without end."""
        deadline = time.monotonic() + WHOLE
        answer: Response = super().send(
            request, **{**options, "stream": True, "allow_redirects": False}
        )
        found = b""
        for part in answer.iter_content(8192):
            found += part
            if len(found) > MOST or time.monotonic() > deadline:
                answer.close()
                raise ValueError(f"its answer is longer than {MOST} bytes or {WHOLE:g} s")
        answer._content = found
        if answer.is_redirect:
            raise ValueError("it answers with a redirection, which is not followed")
        if answer.status_code >= 500 or answer.status_code == 429:
            raise RequestException(f"it cannot serve now (status {answer.status_code})")
        return answer


class _Adapter(HTTPAdapter):
    """Trusts whom Python trusts, SSL_CERT_FILE included, as the gateway's client does."""

    def init_poolmanager(self, *arguments: Any, **options: Any) -> Any:
        options["ssl_context"] = ssl.create_default_context()
        return super().init_poolmanager(*arguments, **options)

    def proxy_manager_for(self, *arguments: Any, **options: Any) -> Any:
        options["ssl_context"] = ssl.create_default_context()
        return super().proxy_manager_for(*arguments, **options)
