"""What the launcher says, on stderr: lines a person can follow, secrets masked."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from loguru import logger

from dask_claim.redact import redact

if TYPE_CHECKING:
    from loguru import Record

FORMAT = (
    "<dim>{time:YYYY-MM-DD HH:mm:ss.SSS}</dim> | <level>{level: <8}</level> | "
    "dask-claim - {message}"
)


def configure(level: str) -> None:
    """Log to stderr from `level` (a name such as `INFO`) upwards."""
    logger.remove()
    # diagnose would print the values of variables, and with them secrets.
    logger.add(sys.stderr, format=FORMAT, level=level, backtrace=False, diagnose=False)
    logger.configure(patcher=_mask)


def _mask(record: Record) -> None:
    record["message"] = str(redact(record["message"]))
