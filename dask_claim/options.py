"""How a run is to be conducted, as opposed to what it claims."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Start = Literal["ready", "workers", "eager"]


@dataclass(frozen=True)
class RunOptions:
    """The settings of one run; times in seconds."""

    start: Start = "ready"
    """When the command starts: the scheduler is up; the minimum of workers is up; at once."""

    start_timeout: float = 600.0
    """Seconds in which the cluster must be ready."""

    stop_timeout: float = 30.0
    """Seconds in which the cluster must be confirmed gone."""

    grace: float = 15.0
    """Seconds from SIGTERM to SIGKILL for the command."""

    receipt: Path | None = None
    """Where the receipt is written; None: nowhere."""
