"""The start of a cluster: bounded in time, and ended at any step by whatever ends the run."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar

from dask_claim.errors import Reason, StartTimeout
from dask_claim.threads import in_time

T = TypeVar("T")

REPORT_EVERY = 30.0
"""Seconds between progress messages."""


class Opening:
    """Takes the steps of a cluster's start, within so many `seconds`.

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
        self._task: asyncio.Task[None] | None = None
        self._interrupted: asyncio.Task[None] | None = None

    @property
    def passed(self) -> float:
        """Seconds since the start."""
        return self._now() - self._begun

    @property
    def left(self) -> float:
        """Seconds, 0 where none are left."""
        return max(self._end - self._now(), 0.0)

    def extend(self) -> None:
        """Allow the whole time once more."""
        self._end = self._now() + self._seconds

    async def take(self, steps: Iterable[Callable[[], Awaitable[None]]]) -> None:
        """Take these steps, in a task that `interrupt` can end: CancelledError then."""

        async def one_after_the_other() -> None:
            for step in steps:
                await step()

        self._task = asyncio.ensure_future(one_after_the_other())
        await self._task

    def interrupt(self) -> None:
        """End the step that is under way."""
        # Once only: a second time would interrupt what the first one has to wait for, such as the
        # gateway's answer with the name of the cluster.
        task, self._task = self._task, None
        if task is not None and not task.done():
            self._interrupted = task
            task.cancel()

    async def end(self) -> None:
        """Interrupt it, and return when it has ended."""
        self.interrupt()
        if self._interrupted is not None:
            await asyncio.wait({self._interrupted})

    async def bound(self, step: Awaitable[T], what: str = "") -> T:
        """Return the result of `step`; `what` of the cluster it waits for, for messages.

        Raises
        ------
        StartTimeout
        """
        reporting = asyncio.ensure_future(self._report_waiting(f"{what} of " if what else ""))
        try:
            result = await in_time(step, self.left)
            # Before Python 3.12 a step that ends at that very moment swallows its cancellation.
            if self._interrupted is not None:
                raise asyncio.CancelledError
            return result
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
