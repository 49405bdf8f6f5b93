"""The receipt: what happens in a run, as one JSON file that is whole whenever somebody reads it.

It is written from the first ticket on, so that a launcher that is killed leaves one.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict
from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any

from loguru import logger

from dask_claim.claim.choice import RUN_ID
from dask_claim.errors import DaskClaimError
from dask_claim.files import is_replaceable, write_whole
from dask_claim.launch import events
from dask_claim.launch.events import harmless
from dask_claim.launch.reports import Explained, NoWorkers
from dask_claim.processes import mark
from dask_claim.providers.dask_report import NO_CLUSTER, DaskReport
from dask_claim.providers.values import Outcome
from dask_claim.receipts import VERSION
from dask_claim.receipts.fields import ReceiptFields, Shared, Timeline
from dask_claim.redact import redact, redact_known, redact_text

if TYPE_CHECKING:
    from dask_claim.claim.model import Resolved
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

MOST_POINTS = 500
"""Of `history`; from then on every second one goes."""


class Receipt:
    """A listener that fills the receipt in, whose form is `receipts.fields`."""

    def __init__(
        self,
        command: Sequence[str],
        resolved: Resolved | None = None,
        path: Path | None = None,
        run: str | None = None,
        traceparent: str | None = None,
    ) -> None:
        """`resolved` is None where the claim is not sound; `path`: it is written there.

        Raises ClaimError.
        """
        from dask_claim import __version__

        plan = resolved.plan() if resolved else None
        self._resolved, self._path = resolved, path
        self._begun = monotonic()
        self._claimed_at = 0.0
        self._worker: tuple[int, int] | None = None
        self._warned: list[events.Warned] = []
        self._form: dict[str, Any] = dict.fromkeys(ReceiptFields.model_fields) | {
            "version": VERSION,
            "dask_claim": __version__,
            "run": run,
            "state": "claiming",
            "claim": resolved.claim.to_dict() if resolved else None,
            "plan": plan.to_dict() if plan else None,
            "attached": plan.choice.run if plan else None,
            "adopted": False,
            "timeline": dict.fromkeys(Timeline.model_fields),
            "command": list(command),
            "traceparent": traceparent,
            "history": [],
            "leased": False,
            # What is to be reclaimed where the launcher is killed.
            "launcher": mark(os.getpid()),
            "tickets": [],
        }

    @property
    def exit_status(self) -> int | None:
        status: int | None = self._form["exit_status"]
        return status

    def end(self, status: int, cause: DaskClaimError | None = None) -> None:
        """Note the run's exit status; `cause`: why the launcher has ended the run."""
        self._form |= {"exit_status": status, "error": str(cause) if cause else None}

    def fail(self, error: DaskClaimError) -> None:
        """Note what kept the command from being started."""
        self.end(error.exit_status, error)
        self._form["reason"] = error.reason.value

    def __call__(self, event: events.Event) -> None:
        """Remember an event."""
        form = self._form
        if isinstance(event, (events.Claimed, events.Submitted, events.Running, events.Released)):
            form["provider"] = event.provider
        if isinstance(event, (events.Submitted, events.Running, events.Released)):
            form |= {name: getattr(event.cluster, name) for name in events.PLACE}
        if isinstance(event, events.Claimed):
            form["adopted"], self._claimed_at = event.adopted, event.at
        elif isinstance(event, events.Warned):
            if isinstance(event, NoWorkers):  # the last one says how long
                self._warned = [each for each in self._warned if not isinstance(each, NoWorkers)]
            self._warned.append(event)
        elif isinstance(event, events.TicketsWritten):
            form["tickets"] = [ticket.to_dict() for ticket in event.tickets]
        elif isinstance(event, events.Leased):
            form["leased"] = event.ends_cluster
        elif isinstance(event, events.Reported):
            self._use(event.usage)
            self._add_point(event.at, event.usage)
        elif isinstance(event, Explained):
            form |= {"reason": event.reason, "explanation": list(event.lines) or None}
        elif isinstance(event, events.Released):
            form["gone"] = event.outcome.value
            if event.outcome is not Outcome.NOT_CONFIRMED:
                form["tickets"] = []
            if event.usage is not None:
                self._use(event.usage)
        self._reach(event)

    def _reach(self, event: events.Event) -> None:
        """Note the stage that the run has reached, and write it down."""
        form = self._form
        no_worker = isinstance(event, events.WorkersChanged) and not event.usage.workers
        not_gone = isinstance(event, events.Released) and event.outcome is not Outcome.GONE
        stage = STAGES.get(type(event))
        if stage and not no_worker and not not_gone and form["timeline"][stage] is None:
            at = datetime.fromtimestamp(event.at, timezone.utc)
            form["timeline"][stage] = at.isoformat(timespec="milliseconds")
        if state := STATES.get(type(event)):
            # Never back: a command may run, or have ended, while tickets are still written.
            form["state"] = max(form["state"], state, key=ORDER.index)
            # The last attempt says why it fails; a FIFO or stream gets that one alone.
            with contextlib.suppress(OSError):
                if self._path is not None and is_replaceable(self._path):
                    self._write(self._path)

    def _use(self, usage: Usage) -> None:
        # Of one worker as it really was: gateways round the size.
        self._worker = usage.worker or self._worker
        self._form |= {
            "workers": {
                "peak": usage.peak,
                "worker_seconds": round(usage.worker_seconds, 3),
                "core_hours": round(usage.core_seconds / 3600, 6),
                **dict(zip(("threads", "memory"), self._worker or (None, None), strict=True)),
                "memory_peak": usage.memory_peak,
                "lost": [asdict(loss) for loss in usage.lost],
            },
            "memory_peak": usage.cluster_memory_peak,
            "spilled": usage.spilled,
            "efficiency": usage.efficiency,
            "tasks": {"done": usage.tasks_done, "failed": usage.tasks_failed},
        }
        if usage.shared:
            self._form["shared"] = {
                **{name: usage.shared.get(name) for name in Shared.model_fields},
                "core_seconds": round(usage.core_seconds, 3),
                "tasks": usage.tasks_done + usage.tasks_failed,
            }

    def _add_point(self, at: float, usage: Usage) -> None:
        """Add to the history; of reports that say the same only the first and the last are kept."""
        points = self._form["history"]
        point = round(at - self._claimed_at, 1), usage.workers, usage.tasks_done
        if len(points) > 1 and all(before[1:] == point[1:] for before in points[-2:]):
            points.pop()
        points.append(point)
        if len(points) > MOST_POINTS:
            del points[1:-1:2]

    def to_dict(self) -> dict[str, Any]:
        """The receipt as JSON types, secrets masked."""
        lasted, warnings = monotonic() - self._begun, [event.text for event in self._warned]
        now = {"warnings": warnings, "duration": self._form["duration"] or round(lasted, 3)}
        masked = redact(self._form | now)
        assert isinstance(masked, dict)
        if self._resolved:
            masked["sources"] = self._resolved.shown_sources()
        return masked

    def finish(self, report: Path | None = None, dask_report: DaskReport = NO_CLUSTER) -> None:
        """Write the last form, and the `report` where one is wanted; a failure is logged alone."""
        self._form |= {"state": "ended", "duration": round(monotonic() - self._begun, 3)}
        _attempt("receipt", self._path, self._write)
        _attempt("report", report, partial(self._write_report, dask_report))

    def _write(self, path: Path) -> None:
        """Write to `path`, but not over the receipt of a run around this one that still lasts."""
        if (outer := os.environ.get(RUN_ID)) and is_replaceable(path):
            with contextlib.suppress(OSError, ValueError, AttributeError):
                there = json.loads(path.read_text())
                if there.get("run") == outer and there.get("state") != "ended":
                    return
        write_whole(path, json.dumps(self.to_dict(), indent=2, ensure_ascii=False) + "\n")

    def _write_report(self, dask_report: DaskReport, path: Path) -> None:
        from dask_claim.receipts.report import html

        # Dask's page is mostly code, which a search for the names of secrets would break.
        page = redact_known(dask_report.html) if dask_report.html else None
        write_whole(path, html(self.to_dict(), page, redact_text(dask_report.missing)))


def _attempt(what: str, path: Path | None, write: Callable[[Path], None]) -> None:
    """Write to a file, where one is wanted; a failure is logged and changes nothing else."""
    with harmless():
        try:
            if path is not None:
                write(path)
        except OSError as error:
            logger.error(f"The {what} could not be written to {path}: {error.strerror or error}")
