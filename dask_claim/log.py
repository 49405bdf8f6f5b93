"""What the launcher says: to its stderr, or to the program that has started it. Secrets masked."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from loguru import logger

from dask_claim import stderr
from dask_claim.redact import redact, redact_text, register_secrets

if TYPE_CHECKING:
    from loguru import Message

FORMAT = (
    "<dim>{time:YYYY-MM-DD HH:mm:ss.SSS}</dim> | <level>{level: <8}</level> | "
    "dask-claim - {message}"
)

Take = Callable[[str, str, Mapping[str, Any]], bool]
"""Is given level, text and fields of a message; returns whether it takes it."""


def configure(level: str, take: Take | None = None) -> None:
    """Log from `level` (a name such as `INFO`) upwards, in the form that `stderr.state` has.

    `take` is given every message first; what it does not take goes to stderr.
    """
    lowest, as_json = logger.level(level).no, stderr.state.as_json

    def write(line: Message) -> None:
        """Write a whole line, its traceback included."""
        record = line.record
        extra, error, name = record["extra"], record["exception"], record["level"].name
        word, own = extra.get("event", "log"), extra.get("fields", {})
        if take is not None:
            given = {"event": word, "run": stderr.state.run, "fields": redact(own)}
            if take(name, redact_text(line if error else record["message"]), given):
                return
        # Some events are of no use to people, but to programs.
        every_event = as_json and lowest <= logger.level("INFO").no
        if record["level"].no < lowest and not (every_event and "event" in extra):
            return
        if not as_json:
            stderr.write(redact_text(line))
            return
        if error is not None:
            lines = traceback.format_exception(error.type, error.value, error.traceback)
            own = {**own, "traceback": "".join(lines)}
        stderr.write(stderr.json_line(word, name, record["message"], extra.get("at"), **own))

    register_secrets(os.environ)
    logger.remove()
    colours = bool(sys.stderr and sys.stderr.isatty() and not os.environ.get("NO_COLOR"))
    # diagnose would print the values of variables, and with them secrets.
    logger.add(
        write, format=FORMAT, level="DEBUG", colorize=colours, backtrace=False, diagnose=False
    )
