"""Secrets as a configuration gives them: a value, or the file that holds it."""

from __future__ import annotations

from pathlib import Path

from dask_claim.redact import know

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
