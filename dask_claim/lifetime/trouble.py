"""A scheduler that a launcher does not hear: busy, behind a dead network, or gone."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from time import monotonic

# One renewal may be missed for a busy scheduler; two in a row are worth a word.
TOLD_AFTER = 2


class Trouble:
    """Counts missed renewals; each change is told once. True while there is trouble.

    Parameters
    ----------
    tell : callable
        Told a line when the scheduler is not heard, when it is gone, and when it is back.
    gone_after : float
        Seconds of refused connections after which it is gone. A scheduler that does not answer
        may be busy for as long as it likes.
    """

    def __init__(self, tell: Callable[[str], None], gone_after: float) -> None:
        self._tell = tell
        self._gone_after = gone_after
        self._missed = 0
        self._refused_since: float | None = None
        self.gone = False

    def __bool__(self) -> bool:
        return self._missed > 0

    def missed(self, error: Exception) -> None:
        self._missed += 1
        # Dask wraps what happened, sometimes several times.
        causes: list[BaseException] = [error]
        while causes[-1].__cause__ is not None:
            causes.append(causes[-1].__cause__)
        what = next((str(cause) for cause in reversed(causes) if str(cause)), "no answer")
        if any(isinstance(cause, (asyncio.TimeoutError, TimeoutError)) for cause in causes):
            # Busy, or behind a network that is down.
            self._refused_since = None
        elif self._refused_since is None:
            self._refused_since = monotonic()
        if self._missed == TOLD_AFTER:
            self._tell(f"the scheduler does not answer; trying again ({what})")
        refused = self._refused_since
        if refused is not None and not self.gone and monotonic() - refused > self._gone_after:
            # Even if it came back it would have given this launcher up.
            self.gone = True
            self._tell(
                "the scheduler is gone: it has taken no connection for "
                f"{self._gone_after:g} s ({what})"
            )

    def cut(self) -> None:
        """The scheduler has closed its connection, and was not reached again until now, the end."""
        if not self.gone:
            self._tell("the scheduler has closed its connection and takes no other one")

    def over(self) -> None:
        if self._missed >= TOLD_AFTER:
            self._tell("the scheduler answers again")
        self._missed, self._refused_since, self.gone = 0, None, False
