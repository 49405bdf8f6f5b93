"""What batch systems tell their jobs: a local cluster takes the job's share, not the whole node."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from dask_claim.cgroup import Bound
from dask_claim.providers.hpc.grants import granted_cores, granted_memory
from dask_claim.providers.local.size import LocalRequest, fit_here, here
from tests.support.claims import write

MIB = 2**20
HOST = socket.gethostname()
# Before the text of a file whose path the variable holds.
FILE = "file:"

MACHINE_AD = f'{FILE}TotalCpus = 64\nCpus = 3\nDetectedMemory = 9999\nMemory = 2048\nName = "x"\n'
JOBS = {
    "no job": ({"NCPUS": "4", "NSLOTS": "4", "SLURM_CPUS_ON_NODE": "4"}, None, None),
    "Slurm": (
        {"SLURM_JOB_ID": "1", "SLURM_CPUS_ON_NODE": "4", "SLURM_MEM_PER_CPU": "500"},
        (4, "SLURM_CPUS_ON_NODE"), (2000, "SLURM_MEM_PER_CPU"),
    ),
    "Slurm, memory of the node": (
        {"SLURM_JOB_ID": "1", "SLURM_MEM_PER_NODE": "1000"}, None, (1000, "SLURM_MEM_PER_NODE"),
    ),
    "Slurm, all the memory there is": (
        {"SLURM_JOB_ID": "1", "SLURM_CPUS_ON_NODE": "4", "SLURM_MEM_PER_NODE": "0"},
        (4, "SLURM_CPUS_ON_NODE"), None,
    ),
    "Slurm, something else": (
        {"SLURM_JOB_ID": "1", "SLURM_CPUS_ON_NODE": "-4", "SLURM_MEM_PER_NODE": "many"}, None, None,
    ),
    "PBS Professional": ({"PBS_JOBID": "1.server", "NCPUS": "6"}, (6, "NCPUS"), None),
    "PBS Professional, a process for each core": (
        {"PBS_JOBID": "1.server", "NCPUS": "1", "PBS_NODEFILE": f"{FILE}{HOST}\n{HOST}\nother\n"},
        (2, "PBS_NODEFILE"), None,
    ),
    "PBS Professional, one process": (
        {"PBS_JOBID": "1.server", "NCPUS": "6", "PBS_NODEFILE": f"{FILE}{HOST}\n"},
        (6, "NCPUS"), None,
    ),
    "Torque, two nodes": (
        {"PBS_JOBID": "1.server", "PBS_NUM_PPN": "4", "PBS_NP": "8"}, (4, "PBS_NUM_PPN"), None,
    ),
    "Torque": ({"PBS_JOBID": "1.server", "PBS_NP": "8"}, (8, "PBS_NP"), None),
    "LSF": ({"LSB_JOBID": "1", "LSB_DJOB_NUMPROC": "5"}, (5, "LSB_DJOB_NUMPROC"), None),
    "LSF, two hosts": (
        {"LSB_JOBID": "1", "LSB_DJOB_NUMPROC": "5", "LSB_MCPU_HOSTS": f"{HOST} 3 other 2"},
        (3, "LSB_MCPU_HOSTS"), None,
    ),
    "LSF, called by names of another kind": (
        {"LSB_JOBID": "1", "LSB_DJOB_NUMPROC": "5", "LSB_MCPU_HOSTS": "one 3 other 2"},
        (5, "LSB_DJOB_NUMPROC"), None,
    ),
    "Grid Engine": ({"JOB_ID": "1", "NSLOTS": "7"}, (7, "NSLOTS"), None),
    "Grid Engine, two hosts": (
        {"JOB_ID": "1", "NSLOTS": "7",
         "PE_HOSTFILE": f"{FILE}{HOST}.example.org 2 all.q@{HOST} <NULL>\nother 5 all.q 0:1\n"},
        (2, "PE_HOSTFILE"), None,
    ),
    "Grid Engine, the file is away": (
        {"JOB_ID": "1", "NSLOTS": "7", "PE_HOSTFILE": "/nonexistent/pe_hostfile"},
        (7, "NSLOTS"), None,
    ),
    "OAR": (
        {"OAR_JOB_ID": "1", "OAR_NODEFILE": f"{FILE}{HOST}\n{HOST}\nother\n"},
        (2, "OAR_NODEFILE"), None,
    ),
    "HTCondor": ({"_CONDOR_MACHINE_AD": MACHINE_AD},
                 (3, "_CONDOR_MACHINE_AD"), (2048, "_CONDOR_MACHINE_AD")),
    "HTCondor, more than was asked for": (
        {"_CONDOR_MACHINE_AD": f"{FILE}Cpus = 8\nMemory = 16000\n",
         "_CONDOR_JOB_AD": f"{FILE}RequestCpus = 1\nRequestMemory = 1\n"},
        (8, "_CONDOR_MACHINE_AD"), (16000, "_CONDOR_MACHINE_AD"),
    ),
    "HTCondor, the job's own ad": (
        {"_CONDOR_JOB_AD": f"{FILE}RequestCpus = 2\nrequestmemory = ifThenElse(true, 1, 2)\n"},
        (2, "_CONDOR_JOB_AD"), None,
    ),
    "HTCondor, garbage": ({"_CONDOR_MACHINE_AD": f"{FILE}Cpus = 0\nMemory = \"2\"\n"}, None, None),
    "one in the other": (
        {"JOB_ID": "1", "NSLOTS": "7", "LSB_JOBID": "1", "LSB_DJOB_NUMPROC": "2"},
        (2, "LSB_DJOB_NUMPROC"), None,
    ),
}  # fmt: skip


@pytest.mark.parametrize("job", JOBS)
def test_share_of_a_job(job: str, tmp_path: Path) -> None:
    environ, cores, memory = JOBS[job]
    for name, value in environ.items():
        if value.startswith(FILE):
            path = write(tmp_path / name, value.removeprefix(FILE))
            environ = {**environ, name: str(path)}
    for granted, expected, unit in (granted_cores, cores, 1), (granted_memory, memory, MIB):
        bound = min(granted(environ), key=lambda bound: bound.amount, default=None)
        assert bound == (expected and Bound(expected[0] * unit, f"this job: {expected[1]}"))


def test_a_machine_with_less_than_the_grant_is_the_bound() -> None:
    assert here({"JOB_ID": "1", "NSLOTS": "999999"}) == here({})


def test_a_job_names_its_grant() -> None:
    size = fit_here(LocalRequest(4, 4, 1, None, None), {"JOB_ID": "1", "NSLOTS": "1"})
    assert "gives 1 of 4 workers: it has 1 core (this job: NSLOTS)" in (size.shortfall or "")
