"""Dask's own performance report: what it is asked with, and what comes of it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import tempfile
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass
from time import time
from typing import IO, Any

from dask_claim.threads import in_time

PATIENCE = 10.0
"""Seconds in which a scheduler has to give it: nobody waits longer at the end of a run."""

MOST_TASKS = 10_000
"""Tasks that it draws: it takes a scheduler a second for some thousands of them."""

LARGEST = 50 * 2**20
"""Characters."""

NO_BOKEH = (
    "The scheduler's environment has no Bokeh, which Dask's own report needs: "
    "pip install 'dask-claim[dashboard]' on this machine, or an image that has it."
)


@dataclass(frozen=True)
class DaskReport:
    """Dask's report as a page of HTML, or why there is none."""

    html: str | None = None
    missing: str = ""
    """A sentence."""

    @classmethod
    async def made_by(cls, ask: Callable[[], Awaitable[Any]]) -> DaskReport:
        """Return what `ask` gives, within limits of time and size, or what stood in its way."""
        try:
            html = await in_time(ask(), PATIENCE)
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


def asked(start: float) -> dict[str, Any]:
    """Return the arguments of a scheduler's `performance_report`; `start`: by its clock."""
    return {"start": start, "last_count": 0, "code": "", "mode": "inline"}


class TaskRecord:
    """What a scheduler remembers of its tasks for its report, from `begin` on."""

    def __init__(self, call: Callable[..., Awaitable[Any]]) -> None:
        """`call`: asks the scheduler one question, by the keywords of a message and `timeout`."""
        self._call = call
        self._since = 0.0
        """When the scheduler started, by its clock."""

    async def begin(self) -> None:
        with contextlib.suppress(Exception):
            await self._call(op="get_task_stream", start=0, stop=0)
            self._since = (await self._call(op="identity"))["started"]

    async def report(self, tasks: int, seconds: float) -> DaskReport:
        """Return Dask's own report, or why there is none.

        `tasks`: that were done in so many `seconds` until now; of many it has the last ones.
        """
        since = self._since
        if tasks > MOST_TASKS:
            since += seconds * (1 - MOST_TASKS / tasks)
        asking = {"op": "performance_report", **asked(since), "timeout": PATIENCE}
        return await DaskReport.made_by(lambda: self._call(**asking))


class Handover:
    """A file without a name, in which the process that hosts a cluster leaves the report."""

    def __init__(self) -> None:
        self._file: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115  # `take` closes it

    @property
    def descriptor(self) -> int:
        return self._file.fileno()

    def forgo(self) -> None:
        """Have the other process make none, if it has not begun."""
        self._file.write(_content(IN_HASTE))
        self._file.flush()

    def take(self) -> DaskReport:
        """Return what was left there, and let the file go."""
        with self._file as file:
            file.seek(0)
            written = file.read(2 * LARGEST)
        try:
            return DaskReport(**json.loads(written))
        except ValueError:
            return DaskReport(None, "The cluster ended before Dask's report could be made.")


class HostedReport:
    """The same file, in the process that hosts the cluster; None for a run without a report."""

    def __init__(self, descriptor: int | None) -> None:
        self._descriptor, self._since = descriptor, time()
        if descriptor is not None:
            os.set_inheritable(descriptor, False)  # no worker gets it

    def begin(self, scheduler: Any) -> None:
        """Have the scheduler remember its tasks from now on."""
        if self._descriptor is not None:
            scheduler.get_task_stream(start=0, stop=0)

    async def leave(self, scheduler: Any) -> None:
        """Make the report while the workers are still there, which it asks for their profiles."""
        if self._descriptor is None or os.fstat(self._descriptor).st_size:
            return
        tasks, start = scheduler.get_task_stream(), self._since
        if len(tasks) > MOST_TASKS:
            start = max(each["stop"] for each in tasks[-MOST_TASKS]["startstops"])
        report = await DaskReport.made_by(lambda: scheduler.performance_report(**asked(start)))
        # On a full disk there is none.
        with contextlib.suppress(OSError), os.fdopen(self._descriptor, "wb") as file:
            file.write(_content(report))


def _content(report: DaskReport) -> bytes:
    return json.dumps(asdict(report)).encode()
