"""Batch systems: how dask-jobqueue calls them, and how they are asked about jobs."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass

from dask_claim.threads import in_time


@dataclass(frozen=True)
class System:
    """How dask-jobqueue calls a batch system, and how its jobs are found and ended by name."""

    title: str
    cluster: str
    """The class of dask-jobqueue."""

    submit: str
    """The command that must be there."""

    find: tuple[str, ...]
    """Prints the number of each job of the name `{name}` that is not over."""

    cancel: tuple[str, ...]
    """Ends the jobs whose numbers follow."""

    quiet: tuple[str, ...]
    """Directives that keep the job's output from appearing in the working directory."""

    account: str = "account"
    """What dask-jobqueue calls `hpc.account`."""


SYSTEMS = {
    "slurm": System(
        "Slurm", "SLURMCluster", "sbatch",
        ("squeue", "--noheader", "--format=%i", "--name={name}"), ("scancel",),
        ("--output=/dev/null",),
    ),
    "pbs": System(
        "PBS", "PBSCluster", "qsub", ("qselect", "-N", "{name}"), ("qdel",),
        ("-o /dev/null", "-e /dev/null"),
    ),
    "lsf": System(
        "LSF", "LSFCluster", "bsub", ("bjobs", "-noheader", "-o", "jobid", "-J", "{name}"),
        ("bkill",), ("-o /dev/null", "-e /dev/null"), "project",
    ),
    "sge": System(
        # `qstat -j` prints a line `job_number: N` among others; unknown names are no output.
        "Grid Engine", "SGECluster", "qsub", ("qstat", "-j", "{name}"), ("qdel",),
        ("-o /dev/null", "-e /dev/null"), "project",
    ),
    "oar": System(
        "OAR", "OARCluster", "oarsub", ("oarstat", "--sql", "job_name='{name}'"), ("oardel",),
        ("-O /dev/null", "-E /dev/null"), "project",
    ),
}  # fmt: skip

ASK_TIMEOUT = 10.0
_JOB = re.compile(r"^(?:job_number:\s*)?(\d+[\w.\[\]-]*)", re.MULTILINE)


def job_name(run_id: str) -> str:
    """Return the name that all jobs of one run have and no others; 15 characters suit PBS."""
    return f"dask-{run_id[:10]}"


def job_numbers(printed: str) -> list[str]:
    """Return the jobs that the output of `System.find` names."""
    return _JOB.findall(printed)


def slurm_number(environ: Mapping[str, str], name: str) -> int | None:
    """Return a variable's number; None where it has none, or 0, which is all that there is."""
    value = environ.get(name, "").strip()
    return int(value) or None if re.fullmatch("[0-9]{1,12}", value) else None


async def ask(*command: str) -> tuple[int | None, str, str]:
    """Return exit status, output and error of one of a batch system's commands."""
    try:
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env={**os.environ, "SLURM_TIME_FORMAT": "standard"},
            start_new_session=True,
        )
    except OSError as error:
        return None, "", str(error)
    try:
        out, err = await in_time(process.communicate(), ASK_TIMEOUT)
    except asyncio.TimeoutError:
        return None, "", f"{command[0]} does not answer"
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process.pid, 9)
    return process.returncode, out.decode(errors="replace"), err.decode(errors="replace").strip()


# What a batch system says where it is away or busy, or where jobs must end before there is room.
_PASSING = re.compile(
    r"(timed? ?out|time-?out|unable to contact|cannot connect|connection (refused|reset|timed)"
    r"|communication (error|connection)|commlib error|not responding|is down|inactive or drain"
    r"|no route to host|temporarily|try (again|later)|retry|busy|maintenance"
    r"|submit limit|job limit|MaxSubmit|maximum number of jobs|too many jobs|jobs are allowed"
    r"|per-user limit|threshold reached|database)",
    re.I,
)


def passes(refusal: str) -> bool:
    """Whether a batch system that refuses a job with these words may take the same one later."""
    return bool(_PASSING.search(refusal))
