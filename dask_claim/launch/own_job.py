"""The batch job that the launcher itself is: which start of it, when it ends, why it is ended."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

from dask_claim.launch.events import Events
from dask_claim.providers.hpc.jobs import facts_of_own_job, moment, why_signalled
from dask_claim.providers.hpc.systems import slurm_number
from dask_claim.threads import cancel

# A job without a limit has an end, too, years ahead.
FAR = 30 * 86400.0


class OwnJob:
    """What Slurm says of the job around this run, if there is one. The run never waits for it."""

    def __init__(self, environ: Mapping[str, str], emit: Events) -> None:
        self._environ, self._emit = environ, emit
        self._asking: set[asyncio.Task[None]] = set()

    def look(self, grace: float, on_end: Callable[[], None]) -> None:
        """Say which start of the job this is and when it ends; call `on_end` `grace` s before."""
        count = 1 + (slurm_number(self._environ, "SLURM_RESTART_COUNT") or 0)
        if count > 1:
            self._emit.note(f"Slurm has requeued this job before: this is start {count} of it")

        def before(left: float) -> None:
            self._emit.note(f"This job's walltime ends in {left:.0f} s")
            asyncio.get_running_loop().call_later(max(left - grace, 0.0), on_end)

        async def ask() -> None:
            end = moment((await facts_of_own_job(self._environ)).get("EndTime"))
            if end is not None and (left := _left(end)) is not None:
                before(left)

        if (left := seconds_left(self._environ)) is not None:
            before(left)
        else:  # a Slurm that sets no such variable
            self._ask(ask())

    def tell_why(self) -> None:
        """Say what Slurm has sent a signal for, if it was Slurm."""

        async def ask() -> None:
            if why := why_signalled(await facts_of_own_job(self._environ), self._environ):
                self._emit.warn(why)

        self._ask(ask())

    async def end(self) -> None:
        """Ask no more."""
        for task in list(self._asking):
            await cancel(task)

    def _ask(self, asking: Coroutine[Any, Any, None]) -> None:
        if not self._environ.get("SLURM_JOB_ID"):
            asking.close()
            return
        task = asyncio.ensure_future(asking)
        self._asking.add(task)
        task.add_done_callback(self._asking.discard)


def seconds_left(environ: Mapping[str, str], now: float | None = None) -> float | None:
    """Return the seconds until Slurm ends this job; None where it does not say, or never.

    Of `environ` only SLURM_JOB_END_TIME is read, seconds since the epoch as `now` is.
    """
    end = environ.get("SLURM_JOB_END_TIME", "").strip()
    if not (end.isascii() and end.isdecimal()) or not environ.get("SLURM_JOB_ID"):
        return None
    return _left(float(end), now)


def _left(end: float, now: float | None = None) -> float | None:
    left = end - (time.time() if now is None else now)
    return max(left, 0.0) if left < FAR else None
