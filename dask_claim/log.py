"""What the launcher says, on stderr: lines a person can follow, secrets masked."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from loguru import logger

from dask_claim.redact import know_variables, redact_text

if TYPE_CHECKING:
    from loguru import Message

FORMAT = (
    "<dim>{time:YYYY-MM-DD HH:mm:ss.SSS}</dim> | <level>{level: <8}</level> | "
    "dask-claim - {message}"
)


def configure(level: str) -> None:
    """Log to stderr from `level` (a name such as `INFO`) upwards."""
    know_variables(os.environ)
    logger.remove()
    colours = bool(sys.stderr and sys.stderr.isatty() and not os.environ.get("NO_COLOR"))
    # diagnose would print the values of variables, and with them secrets.
    logger.add(
        _write, format=FORMAT, level=level, colorize=colours, backtrace=False, diagnose=False
    )


def _write(line: Message) -> None:
    """Write a whole line, its traceback included."""
    if sys.stderr is not None:
        sys.stderr.write(redact_text(line))
        sys.stderr.flush()
