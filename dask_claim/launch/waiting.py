"""Tasks that no worker can run: the program around them is silent for ever."""

from __future__ import annotations

from collections.abc import Callable

from dask_claim.amounts import counted
from dask_claim.errors import printable
from dask_claim.launch.reports import NoWorkers
from dask_claim.providers.usage import Usage

REMIND_EVERY = 60.0
"""Seconds that such tasks wait before the first warning, and between warnings."""


class Waiting:
    """Notices that tasks wait in vain.

    Parameters
    ----------
    now : callable
        The clock, in seconds.
    """

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._since: float | None = None
        self._warnings = 0

    def look(self, usage: Usage, cluster: str, hint: str) -> NoWorkers | None:
        """Return a warning where one is due.

        `cluster`: what a sentence calls it. `hint`: where to look where no worker comes.
        """
        if not usage.waiting or (usage.workers and not usage.unrunnable and not _all_paused(usage)):
            self._since, self._warnings = None, 0
            return None
        now = self._now()
        if self._since is None:
            self._since = now
        waited = now - self._since
        if waited < REMIND_EVERY * (self._warnings + 1):
            return None
        self._warnings = int(waited / REMIND_EVERY)
        tasks = f"{counted(usage.waiting, 'task')} {'waits' if usage.waiting == 1 else 'wait'}"
        up = counted(usage.workers, "worker")
        if not usage.workers:
            text = (
                f"Waiting for the workers of {cluster} since {waited:.0f} s: {tasks}, and no "
                f"worker is up. {hint}"
            )
        elif _all_paused(usage):
            text = (
                f"{tasks} since {waited:.0f} s, and the workers here ({usage.workers}) are paused, "
                "for their memory is full: claim more worker_memory or more workers, or give each "
                "task less to hold"
            )
        else:
            needs = f"has {printable(usage.needs)}" if usage.needs else "can run them"
            text = (
                f"{tasks} since {waited:.0f} s for a worker that {needs}; {up} cannot: claim such "
                "workers, or let the program ask for less"
            )
        return NoWorkers(text, usage.waiting, usage.workers, round(waited, 1))


def _all_paused(usage: Usage) -> bool:
    return usage.paused > 0 and usage.paused == usage.workers
