"""How far the tasks are, once a minute, for logs that nobody watches on a terminal."""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic

from dask_claim.launch import events
from dask_claim.launch.reports import Progress
from dask_claim.providers.usage import Usage

EVERY = 60.0
"""Seconds between two of these events."""


class ProgressReports:
    """A listener that emits `Progress` while tasks run, and where more are done than before.

    Parameters
    ----------
    emit : callable
        Takes the event.
    now : callable
        The clock, in seconds.
    """

    def __init__(self, emit: events.Listener, now: Callable[[], float] = monotonic) -> None:
        self._emit, self._now = emit, now
        self._last: float | None = None
        self._done = 0

    def __call__(self, event: events.Event) -> None:
        """Note an event."""
        if isinstance(event, events.Running):
            self._last = self._now()
        elif isinstance(event, events.Released):
            self._last = None
        elif isinstance(event, events.Reported) and self._is_due(event.usage):
            usage = event.usage
            self._last, self._done = self._now(), usage.tasks_done
            self._emit(
                Progress(usage.tasks_done, usage.tasks_total, usage.workers, usage.memory_used)
            )

    def _is_due(self, usage: Usage) -> bool:
        if self._last is None or self._now() - self._last < EVERY:
            return False
        return usage.processing > 0 or usage.tasks_done != self._done
