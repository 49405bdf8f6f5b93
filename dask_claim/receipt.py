"""The receipt: what happened in a run, as one JSON file that is whole or absent."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dask_claim.files import write_whole
from dask_claim.handoff import Handoff
from dask_claim.redact import redact
from dask_claim.timeline import Timeline

if TYPE_CHECKING:
    from dask_claim.claim import Effective
    from dask_claim.plan import Plan
    from dask_claim.usage import Usage

VERSION = 1
"""Of the receipt's form: raised when a field changes its meaning or goes."""


@dataclass
class Receipt:
    """One run, filled in as it goes along; see `to_dict` for the form it is written in."""

    command: Sequence[str]
    timeline: Timeline = field(default_factory=Timeline)

    effective: Effective | None = None
    """None while, or because, the claim is not sound."""

    plan: Plan | None = None

    provider: str | None = None
    """The provider that was used in the end, which a fallback may have changed."""

    handoff: Handoff = field(default_factory=Handoff)

    usage: Usage | None = None
    """None where the scheduler never told."""

    leased: bool = False
    """Whether a lease held the cluster while the command ran."""

    exit_status: int | None = None
    gone: bool | None = None
    """Whether the cluster was confirmed gone; None where there was none of ours."""

    warnings: list[str] = field(default_factory=list)
    error: str | None = None
    """What ended the run where that was not the command."""

    def to_dict(self) -> dict[str, Any]:
        """The receipt as JSON types, secrets masked."""
        from dask_claim import __version__

        usage = self.usage
        content = {
            "version": VERSION,
            "dask_claim": __version__,
            "claim": self.effective.claim.to_dict() if self.effective else None,
            "plan": self.plan.to_dict() if self.plan else None,
            "sources": dict(self.effective.sources) if self.effective else None,
            "provider": self.provider,
            "cluster_name": self.handoff.cluster_name,
            "scheduler_address": self.handoff.scheduler_address,
            "dashboard_url": self.handoff.dashboard_url,
            "timeline": self.timeline.to_dict(),
            "command": list(self.command),
            "exit_status": self.exit_status,
            "error": self.error,
            "workers": {
                "peak": usage.peak,
                "worker_seconds": round(usage.worker_seconds, 3),
                "core_hours": round(usage.core_seconds / 3600, 6),
            }
            if usage
            else None,
            "tasks": {"done": usage.tasks_done, "failed": usage.tasks_failed} if usage else None,
            "leased": self.leased,
            "warnings": self.warnings,
            "gone": self.gone,
        }
        masked = redact(content)
        assert isinstance(masked, dict)
        return masked

    def write(self, path: Path) -> None:
        """Write to `path`, whole or not at all.

        Raises
        ------
        OSError
            The folder is missing or cannot be written to.
        """
        write_whole(path, json.dumps(self.to_dict(), indent=2, ensure_ascii=False) + "\n")
