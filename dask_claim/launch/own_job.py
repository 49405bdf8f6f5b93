"""When the job of Slurm ends that the launcher itself is."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping

from dask_claim.providers.hpc.systems import ask

# A job without a limit has an end, too, years ahead.
FAR = 30 * 86400.0
_END = re.compile(r"(?:^|\s)EndTime=(\S+)")


async def walltime_left(environ: Mapping[str, str]) -> float | None:
    """Return `seconds_left`, also where a Slurm before 22.05 sets no variable for it."""
    left, job = seconds_left(environ), environ.get("SLURM_JOB_ID")
    if left is not None or not job:
        return left
    _, printed, _ = await ask("scontrol", "--oneliner", "show", "job", job)
    end = _END.search(printed)
    try:
        return end and _until(time.mktime(time.strptime(end[1], "%Y-%m-%dT%H:%M:%S")))
    except ValueError:  # `Unknown` and the like
        return None


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


def _until(end: float, now: float | None = None) -> float | None:
    left = end - (time.time() if now is None else now)
    return left if 0 <= left < FAR else None
