"""The receipt: what happens in a run, as one JSON file that is whole whenever somebody reads it.

It is written from the first ticket on, so that a launcher that is killed leaves one.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any

from loguru import logger

from dask_claim.claim.choice import RUN_ID
from dask_claim.errors import DaskClaimError
from dask_claim.files import is_replaceable, write_whole
from dask_claim.launch import events
from dask_claim.launch.event_log import GONE
from dask_claim.launch.history import History, shared, used
from dask_claim.launch.reports import Explained, NoWorkers
from dask_claim.processes import mark
from dask_claim.providers.values import Cluster, Outcome, Ticket
from dask_claim.receipts import VERSION
from dask_claim.redact import redact

if TYPE_CHECKING:
    from dask_claim.claim.model import Resolved
    from dask_claim.claim.plan import Plan
    from dask_claim.providers.usage import Usage

STAGES: dict[type[events.Event], str] = {
    events.Claimed: "claimed",
    events.Submitted: "submitted",
    events.Running: "running",
    events.WorkersChanged: "first_worker",
    events.CommandStarted: "command_start",
    events.CommandEnded: "command_end",
    events.Released: "gone",
}
"""Which event reaches which stage of the timeline, the first time that it happens."""

STATES: dict[type[events.Event], str] = {
    events.TicketsWritten: "claiming",
    events.Submitted: "claiming",
    events.CommandStarted: "running",
    events.CommandEnded: "releasing",
}
"""Which event writes the receipt, and the `state` that it has from then on."""

ORDER = ("claiming", "running", "releasing", "ended")


class Receipt:
    """A listener that remembers what it hears; see `to_dict` for the form it is written in."""

    def __init__(
        self,
        command: Sequence[str],
        resolved: Resolved | None = None,
        plan: Plan | None = None,
        path: Path | None = None,
    ) -> None:
        """`resolved` and `plan` are None where the claim is not sound; `path`: written there."""
        self._path, self._state = path, "claiming"
        self._tickets: Sequence[Ticket] = ()
        self._command, self._resolved, self._plan = command, resolved, plan
        self._moments: dict[str, float] = {}
        self._begun, self._history = monotonic(), History()
        self._ended: float | None = None
        self._provider: str | None = None
        self._adopted = False
        self._cluster = Cluster()
        self._usage: Usage | None = None
        self._worker: tuple[int, int] | None = None
        self._leased = False
        self._warned: list[events.Warned] = []
        self._outcome: Outcome | None = None
        self._explanation: Sequence[str] = ()
        self.exit_status: int | None = None
        self.reason: str | None = None
        """Why the run did not end well; None where it did, or lasts."""

        self.error: str | None = None
        """What ended the run where that was not the command."""

        self.run: str | None = None
        """The run's id."""

        self.traceparent: str | None = None
        """The trace around the run."""

        self.failed = False
        """Whether the command was not started."""

    def fail(self, error: DaskClaimError) -> None:
        """Note what kept the command from being started."""
        self.failed, self.error = True, str(error)
        self.reason, self.exit_status = error.reason.value, error.exit_status

    def __call__(self, event: events.Event) -> None:
        """Remember an event."""
        if isinstance(event, events.Warned):
            if isinstance(event, NoWorkers):  # the last one says how long
                self._warned = [each for each in self._warned if not isinstance(each, NoWorkers)]
            self._warned.append(event)
        elif isinstance(event, (events.Claimed, events.Submitted, events.Running)):
            self._provider = event.provider
            if isinstance(event, events.Claimed):
                self._adopted = event.adopted
            else:
                self._cluster = event.cluster
        elif isinstance(event, events.Reported):
            self._usage, self._worker = event.usage, event.usage.worker or self._worker
            self._history.add(event.at - self._moments.get("claimed", event.at), event.usage)
        elif isinstance(event, Explained):
            self._explanation = event.lines
        elif isinstance(event, events.Leased):
            self._leased = event.ends_cluster
        elif isinstance(event, events.Released):
            self._outcome, self._provider = event.outcome, event.provider
            self._cluster, self._usage = event.cluster, event.usage or self._usage
        stage = STAGES.get(type(event))
        no_worker = isinstance(event, events.WorkersChanged) and not event.usage.workers
        not_gone = isinstance(event, events.Released) and event.outcome is not Outcome.GONE
        if stage and not no_worker and not not_gone:
            self._moments.setdefault(stage, event.at)
        if isinstance(event, events.TicketsWritten):
            self._tickets = event.tickets
        if state := STATES.get(type(event)):
            # Never back: a command may run, or have ended, while tickets are still written.
            self._state = max(self._state, state, key=ORDER.index)
            # The last attempt says why it fails; a FIFO or stream gets that one alone.
            with contextlib.suppress(OSError):
                if self._path is not None and is_replaceable(self._path):
                    self._write(self._path)

    def to_dict(self) -> dict[str, Any]:
        """The receipt as JSON types, secrets masked."""
        from dask_claim import __version__

        resolved = self._resolved
        content = {
            "version": VERSION,
            "dask_claim": __version__,
            "run": self.run,
            "state": self._state,
            "claim": resolved.claim.to_dict() if resolved else None,
            "plan": self._plan.to_dict() if self._plan else None,
            "sources": None,
            "provider": self._provider,
            "adopted": self._adopted,
            "cluster_name": self._cluster.cluster_name,
            "scheduler_address": self._cluster.scheduler_address,
            "dashboard_url": self._cluster.dashboard_url,
            "timeline": {stage: _iso(self._moments.get(stage)) for stage in STAGES.values()},
            "duration": round((self._ended or monotonic()) - self._begun, 3),
            "history": self._history.points,
            "traceparent": self.traceparent,
            "attached": self._plan and self._plan.choice.run,
            "shared": shared(self._usage),
            "command": list(self._command),
            "exit_status": self.exit_status,
            "reason": self.reason,
            "error": self.error,
            "explanation": list(self._explanation) or None,
            **used(self._usage, self._worker),
            "leased": self._leased,
            "warnings": [event.text for event in self._warned],
            "gone": GONE.get(self._outcome) if self._outcome else None,
            # What is to be reclaimed where the launcher is killed.
            "launcher": mark(os.getpid()),
            "tickets": [ticket.to_dict() for ticket in self._tickets],
        }
        masked = redact(content)
        assert isinstance(masked, dict)
        if resolved:
            masked["sources"] = resolved.shown_sources()
        return masked

    def finish(self) -> None:
        """Write the last form to its file, if any; a failure is logged and changes nothing else."""
        self._state, self._ended = "ended", monotonic()
        if self._outcome is not Outcome.NOT_CONFIRMED:
            self._tickets = ()
        if self._path is None:
            return
        try:
            self._write(self._path)
        except OSError as error:
            why = error.strerror or error
            logger.error(f"The receipt could not be written to {self._path}: {why}")
        except Exception:
            logger.exception("A defect in dask-claim while writing the receipt; please report it")

    def _write(self, path: Path) -> None:
        """Write to `path`, but not over the receipt of a run around this one that still lasts."""
        if (outer := os.environ.get(RUN_ID)) and is_replaceable(path):
            with contextlib.suppress(OSError, ValueError, AttributeError):
                there = json.loads(path.read_text())
                if there.get("run") == outer and there.get("state") != "ended":
                    return
        write_whole(path, json.dumps(self.to_dict(), indent=2, ensure_ascii=False) + "\n")


def _iso(moment: float | None) -> str | None:
    """ISO 8601 in UTC."""
    if moment is None:
        return None
    return datetime.fromtimestamp(moment, timezone.utc).isoformat(timespec="milliseconds")
