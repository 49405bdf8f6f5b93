"""Who logs in, and the secrets as a configuration gives them: a value, or the file with it."""

from __future__ import annotations

import getpass
import os
from pathlib import Path
from typing import TYPE_CHECKING

from dask_claim.redact import know

if TYPE_CHECKING:
    from dask_gateway.auth import GatewayAuth

MOST = 64 * 1024
"""Bytes of a file or an answer with a secret; the largest token is some thousand."""


class Secret:
    """A value, or a file with that value and nothing else, read each time it is wanted."""

    def __init__(self, name: str, value: object = None, file: object = None) -> None:
        """Raises ValueError where both are given."""
        if value is not None and file is not None:
            raise ValueError(f"either {name} or {name}_file is given, not both")
        self.name = name
        # Dask makes a number of a text that looks like one.
        self._value = None if value is None else str(value)
        self._path = None if file is None else Path(str(file))

    def __bool__(self) -> bool:
        """Whether there is one."""
        return self._value is not None or self._path is not None

    def read(self) -> str:
        """Return the value; of a file without the white space around it.

        Raises
        ------
        OSError
            The file cannot be read.
        ValueError
            It is empty, or no text.
        """
        if self._path is None:
            found = self._value or ""
        else:
            with self._path.open(encoding="utf-8") as file:
                found = file.read(MOST).strip()
        if not found:
            raise ValueError(f"{self.name} is empty")
        know(found)
        return found


def sound_token(text: str) -> str:
    """Return a token that fits into a header, without the white space around it.

    Raises ValueError, which does not show it, for any other text.
    """
    token = text.strip()
    if not token or not token.isascii() or not token.isprintable() or " " in token:
        raise ValueError("it is empty or no token")
    return token


def user_name() -> str:
    """Return this user's name, in any case."""
    return nameless_user() or getpass.getuser()


def nameless_user() -> str | None:
    """Return a name for the user where the system has none, else None.

    A container may run under a uid without a passwd entry, and Dask Gateway's basic
    authentication then fails with a KeyError. The launcher and the command must agree on the name.
    """
    try:
        getpass.getuser()
    except (KeyError, OSError):
        return f"uid-{os.getuid()}"
    return None


def name_only() -> GatewayAuth:
    """Return what a gateway sees that no operator names: a user's name, no configured secret."""
    from dask_gateway.auth import BasicAuth

    return BasicAuth(user_name())


def token_of(auth: object) -> str | None:
    """Return the token that an authentication, ours or JupyterHub's, sends, if it has one."""
    token = getattr(auth, "token", None) or getattr(auth, "api_token", None)
    return token if isinstance(token, str) else None
