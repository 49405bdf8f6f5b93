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
    from loguru import Message, Record

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

    def is_shown(record: Record) -> bool:
        # Some events are of no use to people, but to programs.
        every_event = as_json and lowest <= logger.level("INFO").no
        return record["level"].no >= lowest or (every_event and "event" in record["extra"])

    def write(line: Message) -> None:
        """Write a whole line, its traceback included."""
        record = line.record
        text = redact_text(line if record["exception"] else record["message"])
        if take is not None and take(record["level"].name, text, _extra(record)):
            return
        if is_shown(record):
            stderr.write(_json_of(record) if as_json else redact_text(line))

    register_secrets(os.environ)
    logger.remove()
    colours = bool(sys.stderr and sys.stderr.isatty() and not os.environ.get("NO_COLOR"))
    # diagnose would print the values of variables, and with them secrets.
    logger.add(
        write, format=FORMAT, level="DEBUG", colorize=colours, backtrace=False, diagnose=False
    )


def _extra(record: Record) -> dict[str, Any]:
    """Return what a record of Python's logging has as attributes."""
    extra = record["extra"]
    return {
        "event": extra.get("event", "log"),
        "run": stderr.state.run,
        "fields": redact(extra.get("fields", {})),
    }


def _json_of(record: Record) -> str:
    extra, error = record["extra"], record["exception"]
    own = dict(extra.get("fields", {}))
    if error is not None:
        lines = traceback.format_exception(error.type, error.value, error.traceback)
        own["traceback"] = "".join(lines)
    word, level = extra.get("event", "log"), record["level"].name
    return stderr.json_line(word, level, record["message"], extra.get("at"), **own)
