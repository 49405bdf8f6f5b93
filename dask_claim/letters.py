"""Random names and secrets that Dask can read."""

from __future__ import annotations

import secrets
from string import ascii_lowercase


def letters(count: int = 32) -> str:
    """Return random letters, 4.7 bits each.

    Dask reads the value of each DASK_* variable as a Python literal, and Python warns on the
    command's stderr of a digit before a word such as `in`, `if` or `or`.
    """
    return "".join(secrets.choice(ascii_lowercase) for _ in range(count))
