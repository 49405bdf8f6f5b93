"""The start of a cluster, bounded in time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from dask_claim.errors import Reason, StartTimeout
from dask_claim.threads import in_time

T = TypeVar("T")

REPORT_EVERY = 30.0
"""Seconds between progress messages."""


class Opening:
    """Bounds the steps of a cluster's start, all together, to so many `seconds`.

    A long wait is reported to `note` now and then: `describe` returns what is waited for, and what
    stands in its way or None, in a sentence and in a word.
    """

    def __init__(
        self,
        seconds: float,
        describe: Callable[[], tuple[str, str | None, Reason | None]],
        note: Callable[[str], None],
    ) -> None:
        self._now = asyncio.get_running_loop().time
        self._seconds, self._describe, self._note = seconds, describe, note
        self._begun = self._now()
        self._end = self._begun + seconds

    @property
    def passed(self) -> float:
        """Seconds since the start."""
        return self._now() - self._begun

    def extend(self) -> None:
        """Allow the whole time once more."""
        self._end = self._now() + self._seconds

    async def bound(self, step: Awaitable[T], what: str = "") -> T:
        """Return the result of `step`; `what` of the cluster it waits for, for messages.

        Raises
        ------
        StartTimeout
        """
        reporting = asyncio.ensure_future(self._report_waiting(f"{what} of " if what else ""))
        try:
            return await in_time(step, max(self._end - self._now(), 0.0))
        except asyncio.TimeoutError:
            cluster, obstacle, reason = self._describe()
            raise StartTimeout(
                f"{cluster} was not ready within {self._seconds:g} s (--start-timeout)"
                + (f". The last obstacle: {obstacle}" if obstacle else ""),
                reason,
            ) from None
        finally:
            reporting.cancel()

    async def _report_waiting(self, what: str) -> None:
        while True:
            await asyncio.sleep(REPORT_EVERY - self.passed % REPORT_EVERY)
            cluster, obstacle, _ = self._describe()
            self._note(
                f"Waiting for {what}{cluster} since {self.passed:.0f} s"
                + (f": {obstacle}" if obstacle else "")
            )
