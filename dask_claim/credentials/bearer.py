"""Authentication by a token, named by the path of its class: Dask Gateway's client has none.

`DASK_GATEWAY__AUTH__TYPE=dask_claim.credentials.bearer.BearerAuth`, or `gateway.auth.type` in
Dask's configuration. The launcher, its guard and the program all read that, each for itself.
"""

from __future__ import annotations

import contextlib
from typing import Any

from dask_gateway.auth import GatewayAuth

from dask_claim.credentials.identity import Secret, check_token


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

        `prefix` is the word before it, empty for none; `token_prefix` is what some sites expect
        directly before it. Raises ValueError where both are given, or neither, or it is not a
        token, OSError where the file cannot be read.
        """
        self._secret = Secret("token", token, token_file)
        if not self._secret:
            raise ValueError("bearer authentication needs token or token_file")
        self._before_token = f"{prefix.strip()} {token_prefix}".lstrip()
        self.token = check_token(self._secret.read())
        """The token that was sent last, never to be printed."""

    def pre_request(self, resp: Any) -> tuple[dict[str, str], None]:
        """Return the header for a request that was answered with 401."""
        # While its file is being replaced the last token may still be taken.
        with contextlib.suppress(OSError, ValueError):
            self.token = check_token(self._secret.read())
        return {"Authorization": f"{self._before_token}{self.token}"}, None
