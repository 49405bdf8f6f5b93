"""Who logs in, and the secrets as a configuration gives them: a value, or the file with it."""

from __future__ import annotations

import getpass
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dask_claim.redact import register_secret

if TYPE_CHECKING:
    from dask_gateway.auth import GatewayAuth


class Secret:
    """A value, or a file with that value and nothing else, read each time it is needed."""

    def __init__(self, name: str, value: object = None, file: object = None) -> None:
        """Raises ValueError where both are given."""
        if value is not None and file is not None:
            raise ValueError(f"either {name} or {name}_file is given, not both")
        self._name = name
        # Dask makes a number of a text that looks like one.
        self._value = None if value is None else str(value)
        self._path = None if file is None else Path(str(file))

    def __bool__(self) -> bool:
        """Whether there is one."""
        return self._value is not None or self._path is not None

    def read(self) -> str:
        """Return the value; of a file without the white space around it.

        Raises OSError where the file cannot be read, ValueError where it is empty or not a text.
        """
        if self._path is None:
            secret = self._value or ""
        else:
            secret = self._path.read_text(encoding="utf-8").strip()
        if not secret:
            raise ValueError(f"{self._name} is empty")
        register_secret(secret)
        return secret


def check_token(text: str) -> str:
    """Return a token that fits into a header, without the white space around it.

    Raises ValueError, which does not show it, for any other text.
    """
    token = text.strip()
    if not token or not token.isascii() or not token.isprintable() or " " in token:
        raise ValueError("the token is empty, or has characters that a token cannot have")
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


def name_only(**configured: Any) -> GatewayAuth:
    """Return the authentication for a gateway that no operator names: a user's name alone.

    Whatever is `configured`, the gateway client's keyword arguments, stays here.
    """
    from dask_gateway.auth import BasicAuth

    return BasicAuth(user_name())


def own_gateway(username: str, password: str, **configured: Any) -> GatewayAuth:
    """Return the authentication for the gateway of this run; `configured` is for another one."""
    from dask_gateway.auth import BasicAuth

    return BasicAuth(username, password)
