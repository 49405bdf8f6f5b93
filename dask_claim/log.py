"""What the launcher says: to its stderr, or to the program that has started it. Secrets masked."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

from loguru import logger

from dask_claim.redact import know_variables, redact_text

if TYPE_CHECKING:
    from loguru import Message

FORMAT = (
    "<dim>{time:YYYY-MM-DD HH:mm:ss.SSS}</dim> | <level>{level: <8}</level> | "
    "dask-claim - {message}"
)


def configure(level: str, take: Callable[[str, str], bool] | None = None) -> None:
    """Log from `level` (a name such as `INFO`) upwards.

    `take` is given level and text of each message first; what it does not take goes to stderr.
    """

    def write(line: Message) -> None:
        """Write a whole line, its traceback included."""
        record = line.record
        text = redact_text(line if record["exception"] else record["message"])
        if (take is None or not take(record["level"].name, text)) and sys.stderr is not None:
            sys.stderr.write(redact_text(line))
            sys.stderr.flush()

    know_variables(os.environ)
    logger.remove()
    colours = bool(sys.stderr and sys.stderr.isatty() and not os.environ.get("NO_COLOR"))
    # diagnose would print the values of variables, and with them secrets.
    logger.add(write, format=FORMAT, level=level, colorize=colours, backtrace=False, diagnose=False)
