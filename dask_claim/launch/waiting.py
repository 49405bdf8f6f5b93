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
        self._warnings = 0
        self._begun = 0
        self.in_vain: str | None = None
        """In words, what tasks wait for, or did until their program was gone; None: nothing."""

    def look(self, usage: Usage, cluster: str, hint: str) -> NoWorkers | None:
        """Return a warning where one is due.

        `cluster`: what a sentence calls it. `hint`: where to look where no worker comes.
        """
        if not usage.waiting or (usage.workers and not usage.unrunnable and not _all_paused(usage)):
            self._since, self._warnings = None, 0
            if _begun(usage) > self._begun:  # and not only forgotten, as their client has gone
                self.in_vain = None
            return None
        self._begun = _begun(usage)
        now = self._now()
        if self._since is None:
            self._since = now
        waited = now - self._since
        if waited < VAIN:
            return None
        self.in_vain = text = _describe(usage, waited, cluster, hint)
        if waited < REMIND_EVERY * (self._warnings + 1):
            return None
        self._warnings = int(waited / REMIND_EVERY)
        return NoWorkers(text, usage.waiting, usage.workers, round(waited, 1))


def _describe(usage: Usage, waited: float, cluster: str, hint: str) -> str:
    tasks = f"{counted(usage.waiting, 'task')} {'waits' if usage.waiting == 1 else 'wait'}"
    up = counted(usage.workers, "worker")
    if not usage.workers:
        return (
            f"Waiting for the workers of {cluster} since {waited:.0f} s: {tasks}, and no "
            f"worker is up. {hint}"
        )
    if _all_paused(usage):
        return (
            f"{tasks} since {waited:.0f} s, and the workers here ({usage.workers}) are paused, "
            "for their memory is full: claim more worker_memory or more workers, or give each "
            "task less to hold"
        )
    needs = f"has {printable(usage.needs)}" if usage.needs else "can run them"
    return (
        f"{tasks} since {waited:.0f} s for a worker that {needs}; {up} cannot: claim such "
        "workers, or let the program ask for less"
    )


def _begun(usage: Usage) -> int:
    """How many tasks workers were given."""
    return usage.tasks_done + usage.tasks_failed + usage.processing


def _all_paused(usage: Usage) -> bool:
    return usage.paused > 0 and usage.paused == usage.workers
