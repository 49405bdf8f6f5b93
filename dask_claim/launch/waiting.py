"""Tasks that no worker can run: the program around them is silent for ever."""

from __future__ import annotations

from collections.abc import Callable

from dask_claim.amounts import counted
from dask_claim.errors import printable
from dask_claim.launch.reports import NoWorkers
from dask_claim.providers.usage import Usage

REMIND_EVERY = 60.0
"""Seconds that such tasks wait before the first warning, and between warnings."""

VAIN = 10.0
"""Seconds after which tasks wait in vain, where the run ends meanwhile."""


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
        self._due = REMIND_EVERY
        self._begun = 0
        self.in_vain: str | None = None
        """In words, what tasks wait for, or did until their program was gone; None: nothing."""

    def look(self, usage: Usage, cluster: str, hint: str) -> NoWorkers | None:
        """Return a warning where one is due.

        `cluster`: what a sentence calls it. `hint`: where to look where no worker comes.
        """
        begun = usage.tasks_done + usage.tasks_failed + usage.processing
        paused = 0 < usage.paused == usage.workers
        if not usage.waiting or (usage.workers and not usage.unrunnable and not paused):
            self._since, self._due = None, REMIND_EVERY
            if begun > self._begun:  # and not only forgotten, as their client has gone
                self.in_vain = None
            return None
        self._begun, now = begun, self._now()
        if self._since is None:
            self._since = now
        waited = now - self._since
        if waited < VAIN:
            return None
        self.in_vain = text = _describe(usage, f"since {waited:.0f} s", cluster, hint)
        if waited < self._due:
            return None
        self._due = waited - waited % REMIND_EVERY + REMIND_EVERY
        return NoWorkers(text, usage.waiting, usage.workers, round(waited, 1))


def _describe(usage: Usage, since: str, cluster: str, hint: str) -> str:
    tasks = f"{counted(usage.waiting, 'task')} {'waits' if usage.waiting == 1 else 'wait'}"
    if not usage.workers:
        return f"Waiting for the workers of {cluster} {since}: {tasks}, and no worker is up. {hint}"
    if usage.paused == usage.workers:
        return (
            f"{tasks} {since}, and the workers here ({usage.workers}) are paused, for their memory "
            "is full: claim more worker_memory or more workers, or give each task less to hold"
        )
    needs = f"has {printable(usage.needs)}" if usage.needs else "can run them"
    return (
        f"{tasks} {since} for a worker that {needs}; {counted(usage.workers, 'worker')} cannot: "
        "claim such workers, or let the program ask for less"
    )
