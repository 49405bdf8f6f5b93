"""Batch systems: one row for each, and how their commands are run."""

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
    """What differs between batch systems."""

    title: str
    cluster: str
    """The class of dask-jobqueue."""

    submit: str
    """The command that must be there."""

    find: tuple[str, ...]
    """Prints the number of each job of the name `{name}` that is not over."""

    cancel: str
    """Ends the jobs whose numbers follow."""

    quiet: tuple[str, ...]
    """Directives that keep the job's output from appearing in the working directory."""

    account: str
    """What dask-jobqueue calls `hpc.account`."""

    renaming: str
    """Pattern of the directives that would take the jobs their name."""

    job: str
    """The variable that only its jobs have."""

    hosts: str = ""
    """The one with the cores of each host, or with the path of a file that has them."""

    cores: tuple[str, ...] = ()
    """Those with this host's number of cores, where that one is not set; the first counts."""

    threads: str = ""
    """The one with the cores of one process on a host: all of them, or a part."""

    gpus: str = ""
    """The directive for a worker's GPUs; else they are written under `hpc.directives`."""


SYSTEMS = {
    "slurm": System(
        "Slurm", "SLURMCluster", "sbatch",
        ("squeue", "--noheader", "--format=%i", "--name={name}"), "scancel",
        ("--output=/dev/null",), "account", r"-J|--job-name",
        "SLURM_JOB_ID", cores=("SLURM_CPUS_ON_NODE",), gpus="--gpus-per-node={}",
    ),
    "pbs": System(
        "PBS", "PBSCluster", "qsub", ("qselect", "-N", "{name}"), "qdel",
        ("-o /dev/null", "-e /dev/null"), "account", "-N",
        # The file has a line for each process. PBS Professional starts one, or as many as
        # `mpiprocs` says, and NCPUS is what `ompthreads` says, else all; Torque starts one for
        # each core.
        "PBS_JOBID", "PBS_NODEFILE", ("PBS_NUM_PPN", "PBS_NP"), "NCPUS",
    ),
    "lsf": System(
        "LSF", "LSFCluster", "bsub", ("bjobs", "-noheader", "-o", "jobid", "-J", "{name}"),
        "bkill", ("-o /dev/null", "-e /dev/null"), "project", "-J",
        "LSB_JOBID", "LSB_MCPU_HOSTS", ("LSB_DJOB_NUMPROC",),
    ),
    "sge": System(
        # `qstat -j` prints a line `job_number: N` among others; unknown names are no output.
        "Grid Engine", "SGECluster", "qsub", ("qstat", "-j", "{name}"), "qdel",
        ("-o /dev/null", "-e /dev/null"), "project", "-N",
        "JOB_ID", "PE_HOSTFILE", ("NSLOTS",),
    ),
    "oar": System(
        "OAR", "OARCluster", "oarsub", ("oarstat", "--sql", "job_name='{name}'"), "oardel",
        ("-O /dev/null", "-E /dev/null"), "project", "-n|--name",
        "OAR_JOB_ID", "OAR_NODEFILE",
    ),
    "htcondor": System(
        # Its jobs have no output files by default.
        "HTCondor", "HTCondorCluster", "condor_submit",
        ("condor_q", "-constraint", 'DaskClaimRun == "{name}"', "-autoformat", "ClusterId"),
        "condor_rm", (), "account", r"(MY\.|\+)DaskClaimRun", "_CONDOR_JOB_AD",
        gpus="request_gpus = {}",
    ),
}  # fmt: skip

ANSWERS_WITHIN = 10.0
_JOB = re.compile(r"^(?:job_number:\s*)?(\d+[\w.\[\]-]*)", re.MULTILINE)

# What a batch system prints where it is away or busy, or where jobs must end to make room.
_PASSING = re.compile(
    r"(timed? ?out|time-?out|unable to contact|cannot connect|failed to connect"
    r"|can't find address of local schedd|connection (refused|reset|timed)|MAX_JOBS_"
    r"|communication (error|connection)|commlib error|not responding|is down|inactive or drain"
    r"|no route to host|temporarily|try (again|later)|retry|busy|maintenance"
    r"|submit limit|job limit|MaxSubmit|maximum number of jobs|too many jobs|jobs are allowed"
    r"|per-user limit|threshold reached|database)",
    re.I,
)


def passes(refusal: str) -> bool:
    """Whether a batch system that refuses a job with these words may take the same one later."""
    return bool(_PASSING.search(refusal))


def name_jobs(run_id: str) -> str:
    """Return the name that all jobs of one run have and no others; 15 characters suit PBS."""
    return f"dask-{run_id[:10]}"


def parse_jobs(printed: str) -> list[str]:
    """Return the jobs that the output of `System.find` names."""
    return _JOB.findall(printed)


def read_number(environ: Mapping[str, str], name: str) -> int | None:
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
        out, err = await in_time(process.communicate(), ANSWERS_WITHIN)
    except asyncio.TimeoutError:
        return None, "", f"{command[0]} does not answer"
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
    return process.returncode, out.decode(errors="replace"), err.decode(errors="replace").strip()
