"""Authentication beside what Dask Gateway's client has itself, named by its path.

`DASK_GATEWAY__AUTH__TYPE=dask_claim.credentials.bearer.BearerAuth`, or `gateway.auth.type` in
Dask's configuration. The launcher, its guard and the program all read that, each for itself.
"""

from __future__ import annotations

import contextlib
from typing import Any

from dask_gateway.auth import GatewayAuth

from dask_claim.credentials.identity import Secret, sound_token


class BearerAuth(GatewayAuth):  # type: ignore[misc,unused-ignore]
    """Sends a token as `Authorization: Bearer TOKEN`, read from its file for each request."""

    def __init__(
        self,
        token: object = None,
        token_file: str | None = None,
        prefix: str = "Bearer",
        token_prefix: str = "",
    ) -> None:
        """Take a token, or the file that holds one and nothing else; a file may be replaced.

        `prefix` is the word before it, empty for none; `token_prefix` is what some sites want
        directly before it.

        Raises
        ------
        ValueError
            Both are given, or none, or what is given is no token.
        OSError
            The file cannot be read.
        """
        if (token is None) == (token_file is None):
            raise ValueError("bearer authentication takes either token or token_file")
        self._secret = Secret("token", token, token_file)
        self._token = self._read()
        self._prefix, self._token_prefix = prefix.strip(), token_prefix

    @property
    def token(self) -> str:
        """The token that was sent last, for nobody to print."""
        return self._token

    def pre_request(self, resp: Any) -> tuple[dict[str, str], None]:
        """Return the header for a request that was answered with 401."""
        # While its file is being replaced the last token may still be taken.
        with contextlib.suppress(OSError, ValueError):
            self._token = self._read()
        return {"Authorization": f"{self._prefix} {self._token_prefix}{self._token}".strip()}, None

    def _read(self) -> str:
        try:
            return sound_token(self._secret.read())
        except ValueError as error:
            raise ValueError(f"the token for bearer authentication: {error}") from None
