"""Says that tasks wait and there is no worker: nobody else does, and a program waits for ever."""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dask_claim.providers.usage import Usage

EVERY = 60.0
"""Seconds of waiting after which it is told, and then told again."""


class NoWorkers:
    """Listens to what the lease tells.

    Parameters
    ----------
    tell : callable
        Told how long tasks have waited, in seconds, how many wait, and whether it is for the first
        time.
    every : float
        Seconds, as `EVERY`.
    now : callable
        The clock.
    """

    def __init__(
        self,
        tell: Callable[[float, int, bool], None],
        every: float | None = None,
        now: Callable[[], float] = monotonic,
    ) -> None:
        self._tell, self._now = tell, now
        self._every = EVERY if every is None else every
        self._since: float | None = None
        self._times = 0

    def __call__(self, usage: Usage) -> None:
        if usage.workers or not usage.waiting:
            self._since, self._times = None, 0
            return
        now = self._now()
        if self._since is None:
            self._since = now
        elif now - self._since >= self._every * (self._times + 1):
            self._tell(now - self._since, usage.waiting, self._times == 0)
            self._times = int((now - self._since) / self._every)
