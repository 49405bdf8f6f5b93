"""The batch job that the launcher itself is: which start of it, when it ends, why it is ended."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

from dask_claim.launch.events import Events
from dask_claim.providers.hpc.jobs import ENDED
from dask_claim.providers.hpc.systems import ask, read_number
from dask_claim.threads import cancel

# A job without a limit has an end, too, years ahead.
FAR = 30 * 86400.0
_FACT = re.compile(r"(?:^|\s)(\w+)=(\S*)")


class OwnJob:
    """The job of Slurm around this run, if there is one. The run never waits for its answers."""

    def __init__(self, environ: Mapping[str, str], emit: Events) -> None:
        self._environ, self._emit = environ, emit
        self._tasks: set[asyncio.Task[None]] = set()

    def look(self, grace: float, on_end: Callable[[], None]) -> None:
        """Log which start of the job this is, and its end; call `on_end` `grace` s before that."""
        count = 1 + (read_number(self._environ, "SLURM_RESTART_COUNT") or 0)
        if count > 1:
            self._emit.note(f"Slurm has requeued this job before: this is start {count} of it")

        async def watch_end() -> None:
            left = seconds_left(self._environ)
            if left is None:  # a Slurm that sets no such variable
                left = _until(_moment((await self._facts()).get("EndTime")))
            if left is not None:
                self._emit.note(f"This job's walltime ends in {left:.0f} s")
                asyncio.get_running_loop().call_later(max(left - grace, 0.0), on_end)

        self._begin(watch_end())

    def tell_why(self) -> None:
        """Warn of what Slurm has sent a signal for, if it was Slurm."""

        async def warn() -> None:
            if why := why_signalled(await self._facts(), self._environ):
                self._emit.warn(why)

        self._begin(warn())

    async def end(self) -> None:
        """Let go of the questions that are not answered yet."""
        for task in list(self._tasks):
            await cancel(task)

    def _begin(self, question: Coroutine[Any, Any, None]) -> None:
        if not self._environ.get("SLURM_JOB_ID"):
            question.close()
            return
        task = asyncio.ensure_future(question)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _facts(self) -> dict[str, str]:
        """What `scontrol show job` prints of this job; empty where it does not answer."""
        job = self._environ["SLURM_JOB_ID"]
        _, printed, _ = await ask("scontrol", "--oneliner", "show", "job", job)
        # The first of each name is the job's own.
        return dict(reversed(_FACT.findall(printed)))


def seconds_left(environ: Mapping[str, str], now: float | None = None) -> float | None:
    """Return the seconds until Slurm ends this job; None where no variable has it, or never.

    A moment that is over means nothing: the variables may be another job's, or a site may let jobs
    run beyond their limit.

    Of `environ` only SLURM_JOB_END_TIME is read, seconds since the epoch as `now` is.
    """
    end = environ.get("SLURM_JOB_END_TIME", "").strip()
    if not (end.isascii() and end.isdecimal()) or not environ.get("SLURM_JOB_ID"):
        return None
    return _until(float(end), now)


def why_signalled(facts: Mapping[str, str], environ: Mapping[str, str]) -> str | None:
    """Return why Slurm has sent SIGTERM to this job; None where it is not ending it."""
    state = facts.get("JobState")
    # SIGNALING: it sends the signal of `--signal`.
    if state in (None, "RUNNING", "SUSPENDED", "SIGNALING"):
        return None
    starts, restarts = read_number(environ, "SLURM_RESTART_COUNT") or 0, facts.get("Restarts", "")
    if restarts.isdecimal() and int(restarts) > starts:
        return f"Slurm requeues this job: it will start again ({state})"
    unknown = "it was cancelled or preempted, or its walltime is over"
    return f"Slurm ends this job ({state}): {ENDED.get(state, unknown)}"


def _moment(written: str | None) -> float | None:
    """Read a time of Slurm's, in seconds since the epoch; None for `Unknown` and the like."""
    try:
        return time.mktime(time.strptime(written or "", "%Y-%m-%dT%H:%M:%S"))
    except ValueError:
        return None


def _until(end: float | None, now: float | None = None) -> float | None:
    left = None if end is None else end - (time.time() if now is None else now)
    return left if left is not None and 0 <= left < FAR else None
