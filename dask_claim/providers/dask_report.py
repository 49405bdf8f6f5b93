"""Dask's own performance report: what it is asked with, and what comes of it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from time import monotonic
from typing import Any

from dask_claim.threads import in_time

PATIENCE = 10.0
"""Seconds in which a scheduler has to give it: nobody waits longer at the end of a run."""

MOST_TASKS = 10_000
"""Tasks that it draws: it takes a scheduler a second for some thousands of them."""

LARGEST = 50 * 2**20
"""Characters."""

NO_BOKEH = (
    "The scheduler's environment has no Bokeh, which Dask's own report needs: "
    "install dask-claim[dashboard] on this machine, or an image that has it."
)


@dataclass(frozen=True)
class DaskReport:
    """Dask's report as a page of HTML, or why there is none."""

    html: str | None = None
    missing: str = ""
    """A sentence."""

    @classmethod
    async def made_by(cls, ask: Callable[..., Awaitable[Any]], start: float) -> DaskReport:
        """Return what a scheduler's `performance_report` gives, or what stood in its way.

        `ask` takes its arguments as keywords, `start` is by the scheduler's clock.
        """
        try:
            asking = ask(start=start, last_count=0, code="", mode="inline")
            html = await in_time(asking, PATIENCE)
        except (TimeoutError, asyncio.TimeoutError):
            return cls(None, f"The scheduler did not give Dask's report within {PATIENCE:g} s.")
        except ImportError:
            return cls(None, NO_BOKEH)
        except Exception as error:
            return cls(None, f"The scheduler gave no report of Dask's own: {error!r}"[:500])
        if not isinstance(html, str) or len(html) > LARGEST:
            return cls(None, "Dask's report is too large, or no text.")
        return cls(html)


NO_CLUSTER = DaskReport(None, "At the end of the run there was no scheduler to ask for it.")
OTHERS = DaskReport(None, "The cluster is not of this run, which leaves its scheduler alone.")
IN_HASTE = DaskReport(None, "The run was ended, and left no time for Dask's own report.")


class TaskRecord:
    """What a scheduler remembers of its tasks for its report, from `begin` on."""

    def __init__(self, call: Callable[..., Awaitable[Any]]) -> None:
        """`call`: asks the scheduler one question, by the keywords of a message and `timeout`."""
        self._call, self._begun = call, monotonic()
        self._since = 0.0
        """When the scheduler started, by its clock."""

    async def begin(self) -> None:
        self._begun = monotonic()
        with contextlib.suppress(Exception):
            await self._call(op="get_task_stream", start=0, stop=0)
            self._since = (await self._call(op="identity"))["started"]

    async def report(self, tasks: int) -> DaskReport:
        """Return Dask's own report of so many `tasks`, or why there is none; of many the last."""
        since = self._since
        if tasks > MOST_TASKS:
            since += (monotonic() - self._begun) * (1 - MOST_TASKS / tasks)

        def ask(**asking: Any) -> Awaitable[Any]:
            return self._call(op="performance_report", timeout=PATIENCE, **asking)

        return await DaskReport.made_by(ask, since)


async def report_here(scheduler: Any, start: float) -> DaskReport:
    """Return that of a scheduler in this process, from `start` on; of many tasks the last ones."""
    tasks = scheduler.get_task_stream()
    if len(tasks) > MOST_TASKS:
        start = max(each["stop"] for each in tasks[-MOST_TASKS]["startstops"])
    return await DaskReport.made_by(scheduler.performance_report, start)
