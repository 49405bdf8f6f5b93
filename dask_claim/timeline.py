"""When each stage of a run was reached; filled in along the way, read by the log and receipt."""

from __future__ import annotations

import time
from datetime import datetime, timezone

STAGES = (
    "claimed",
    "submitted",
    "running",
    "first_worker",
    "command_start",
    "command_end",
    "gone",
)


class Timeline:
    """The moments of `STAGES`, each at most once."""

    def __init__(self) -> None:
        self._moments: dict[str, float] = {}

    def mark(self, stage: str) -> None:
        """Note that `stage` is reached now; only the first time counts."""
        if stage not in STAGES:
            raise ValueError(f"no such stage: {stage}")
        self._moments.setdefault(stage, time.time())

    def since(self, stage: str) -> float:
        """Seconds from `stage`, which must have been reached, until now."""
        return time.time() - self._moments[stage]

    def to_dict(self) -> dict[str, str | None]:
        """Each stage's moment as ISO 8601 in UTC, None where it was not reached."""
        return {stage: _iso(self._moments.get(stage)) for stage in STAGES}


def _iso(moment: float | None) -> str | None:
    if moment is None:
        return None
    return datetime.fromtimestamp(moment, timezone.utc).isoformat(timespec="milliseconds")
