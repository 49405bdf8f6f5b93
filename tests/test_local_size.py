"""How much of a plan one machine gives; of a batch system's node its job's share."""

from __future__ import annotations

import math
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dask_claim.cgroup import Bound
from dask_claim.providers.hpc.grants import granted_cores, granted_memory
from dask_claim.providers.local.size import LocalRequest, LocalSize, fit_here, here
from dask_claim.providers.local.size import fit as fit_into
from tests.support.claims import Env, write

GIB = 1024**3


def fit(request: LocalRequest, has_cores: float, has_memory: int) -> LocalSize:
    """On a machine of this size."""
    return fit_into(request, Bound(has_cores), Bound(has_memory))


cores = st.none() | st.floats(0.1, 64)
memory = st.none() | st.integers(GIB // 4, 512 * GIB)
policies = st.fixed_dictionaries(
    {},
    optional={
        "max_workers": st.integers(1, 9), "max_cores": st.floats(1, 64),
        "max_memory": st.integers(GIB, 64 * GIB), "worker_cores": st.floats(1, 64),
        "worker_memory": st.integers(GIB, 64 * GIB),
    },
)  # fmt: skip
requests = st.builds(
    LocalRequest, st.integers(0, 50), st.integers(1, 100), cores, cores, memory, st.booleans(),
    cores, memory, policies,
)  # fmt: skip


@given(requests, st.floats(0.1, 128), st.integers(GIB, 1024 * GIB))
def test_never_more_than_requested_granted_or_there(
    asked: LocalRequest, has_cores: float, has_memory: int
) -> None:
    request = replace(asked, min_workers=min(asked.min_workers, asked.max_workers))
    policy = asked.policy
    if request.unsaid:
        request = replace(request, worker_cores=None, worker_cores_limit=None)
    else:
        # A claim's own values are compared with the policy before.
        policy = {name: policy[name] for name in policy if name in ("max_cores", "max_memory")}
        request = replace(request, policy=policy)
    size = fit(request, has_cores, has_memory)
    if request.unsaid:
        assert size.max_workers <= policy.get("max_workers", size.max_workers)
        assert size.threads <= policy.get("worker_cores", size.threads)
        if request.worker_memory is None:
            assert size.memory <= policy.get("worker_memory", size.memory)
    has_cores = min(has_cores, math.floor(policy.get("max_cores", 999)))
    if request.local_cores is not None:
        has_cores = min(has_cores, max(1, int(request.local_cores)))
    granted = request.local_memory or has_memory
    has_memory = min(has_memory, int(policy.get("max_memory", has_memory)), granted)
    assert 0 <= size.min_workers <= size.max_workers
    assert size.max_workers >= 1
    # A part of a core lets one thread run.
    assert 1 <= size.threads <= math.ceil(has_cores)
    assert size.memory <= has_memory
    if request.worker_memory:
        assert size.memory <= request.worker_memory
        assert size.max_workers == 1 or size.max_workers * request.worker_memory <= has_memory
    else:
        assert size.max_workers * size.memory <= has_memory
    if request.unsaid:
        assert size.min_workers == size.max_workers
        assert size.threads * size.max_workers <= math.ceil(has_cores)
        return
    assert size.max_workers <= request.max_workers
    if size.max_workers > 1:
        each = request.worker_cores or request.worker_cores_limit or 1
        assert size.max_workers * each <= has_cores
    if size.max_workers < request.max_workers:
        assert f"{size.max_workers} of {request.max_workers} workers" in (size.shortfall or "")


def test_a_plan_that_fits_falls_short_of_nothing() -> None:
    size = fit(LocalRequest(1, 2, 1, 1, 2 * GIB), 4, 8 * GIB)
    assert (size.min_workers, size.max_workers, size.threads, size.memory) == (1, 2, 1, 2 * GIB)
    assert size.shortfall is None
    assert size.notice == (
        "Local cluster: 1 to 2 workers, each with 1 thread and 2.0 GiB, within 4 cores (this "
        "machine) and 8.0 GiB (this machine)"
    )
    # One worker that is asked for takes the machine.
    size = fit(LocalRequest(1, 1, None, None, None), 4, 8 * GIB)
    assert (size.max_workers, size.threads, size.memory) == (1, 4, 8 * GIB)


@pytest.mark.parametrize(
    ("has_cores", "has_memory", "worker_memory", "split"),
    [
        (1, 8 * GIB, None, (1, 1)),
        (2, 8 * GIB, None, (2, 1)),
        (16, 64 * GIB, None, (4, 4)),
        (64, 64 * GIB, None, (8, 8)),
        # Four workers of 256 MiB would have no room for more than themselves.
        (16, 1 * GIB, None, (2, 8)),
        (16, 64 * GIB, 30 * GIB, (2, 8)),
        (2, GIB // 4, None, (1, 2)),
    ],
)
def test_an_open_claim_takes_dasks_own_split(
    has_cores: int, has_memory: int, worker_memory: int | None, split: tuple[int, int]
) -> None:
    # What the plan says in this case are its defaults, nobody's request.
    request = LocalRequest(1, 1, None, None, worker_memory, unsaid=True)
    size = fit(request, has_cores, has_memory)
    assert (size.min_workers, size.max_workers) == (split[0], split[0])
    assert size.threads == split[1]
    assert size.memory == (worker_memory or has_memory // split[0])
    assert size.shortfall is None


@pytest.mark.parametrize(
    ("request_", "cores", "memory", "gives"),
    [
        # Fractions of a core share it.
        (LocalRequest(8, 10, 0.5, 1, None), Bound(2), Bound(8 * GIB),
         "4 of 10 workers: it has 2 cores (this machine) and 8.0 GiB (this machine)"),
        # A container's quota; one thread runs on it, at half its speed.
        (LocalRequest(4, 4, 0.5, None, None), Bound(0.5, "this container"), Bound(GIB, "job_7"),
         "1 of 4 workers: it has 0.5 cores (this container) and 1.0 GiB (job_7)"),
        # What was granted bounds it, and is named.
        *((LocalRequest(20, 20, 1, None, GIB, local_cores=granted, local_memory=room), Bound(8),
           Bound(16 * GIB), f"{workers} of 20 workers: it has {bounds}")
          for granted, room, workers, bounds in (
              (None, None, 8, "8 cores (this machine) and 16.0 GiB (this machine)"),
              (2.5, None, 2, "2 cores (local_cores) and 16.0 GiB (this machine)"),
              (0.5, GIB, 1, "1 core (local_cores) and 1.0 GiB (local_memory)"),
              (64, 512 * GIB, 8, "8 cores (this machine) and 16.0 GiB (this machine)"))),
    ],
)  # fmt: skip
def test_the_size_that_a_machine_gives_is_shown(
    request_: LocalRequest, cores: Bound, memory: Bound, gives: str
) -> None:
    size = fit_into(request_, cores, memory)
    workers, bounds = int(gives.split()[0]), gives.partition("it has ")[2]
    assert (size.min_workers, size.max_workers, size.threads) == (workers, workers, 1)
    assert size.memory == (request_.worker_memory or memory.amount // workers)
    assert size.shortfall == f"This machine gives {gives}"
    assert size.notice.endswith(f", within {bounds}")


# What batch systems tell their jobs.
MIB = 2**20
HOST = socket.gethostname()
# Before the text of a file whose path the variable holds.
FILE = "file:"

MACHINE_AD = f'{FILE}TotalCpus = 64\nCpus = 3\nDetectedMemory = 9999\nMemory = 2048\nName = "x"\n'
SLURM, PBS = {"SLURM_JOB_ID": "1"}, {"PBS_JOBID": "1.server"}
LSF, SGE = {"LSB_JOBID": "1"}, {"JOB_ID": "1"}
JOBS: dict[str, tuple[Env, tuple[int, str] | None, tuple[int, str] | None]] = {
    "no job": ({"NCPUS": "4", "NSLOTS": "4", "SLURM_CPUS_ON_NODE": "4"}, None, None),
    "Slurm": ({**SLURM, "SLURM_CPUS_ON_NODE": "4", "SLURM_MEM_PER_CPU": "500"},
              (4, "SLURM_CPUS_ON_NODE"), (2000, "SLURM_MEM_PER_CPU")),
    "Slurm, memory of the node": ({**SLURM, "SLURM_MEM_PER_NODE": "1000"}, None,
                                  (1000, "SLURM_MEM_PER_NODE")),
    "Slurm, all the memory there is": (
        {**SLURM, "SLURM_CPUS_ON_NODE": "4", "SLURM_MEM_PER_NODE": "0"},
        (4, "SLURM_CPUS_ON_NODE"), None,
    ),
    "Slurm, something else": (
        {**SLURM, "SLURM_CPUS_ON_NODE": "-4", "SLURM_MEM_PER_NODE": "many"}, None, None,
    ),
    "PBS Professional": ({**PBS, "NCPUS": "6"}, (6, "NCPUS"), None),
    "PBS Professional, a process for each core": (
        {**PBS, "NCPUS": "1", "PBS_NODEFILE": f"{FILE}{HOST}\n{HOST}\nother\n"},
        (2, "PBS_NODEFILE"), None,
    ),
    "PBS Professional, one process": ({**PBS, "NCPUS": "6", "PBS_NODEFILE": f"{FILE}{HOST}\n"},
                                      (6, "NCPUS"), None),
    "Torque, two nodes": ({**PBS, "PBS_NUM_PPN": "4", "PBS_NP": "8"}, (4, "PBS_NUM_PPN"), None),
    "Torque": ({**PBS, "PBS_NP": "8"}, (8, "PBS_NP"), None),
    "LSF": ({**LSF, "LSB_DJOB_NUMPROC": "5"}, (5, "LSB_DJOB_NUMPROC"), None),
    "LSF, two hosts": ({**LSF, "LSB_DJOB_NUMPROC": "5", "LSB_MCPU_HOSTS": f"{HOST} 3 other 2"},
                       (3, "LSB_MCPU_HOSTS"), None),
    "LSF, called by names of another kind": (
        {**LSF, "LSB_DJOB_NUMPROC": "5", "LSB_MCPU_HOSTS": "one 3 other 2"},
        (5, "LSB_DJOB_NUMPROC"), None,
    ),
    "Grid Engine": ({**SGE, "NSLOTS": "7"}, (7, "NSLOTS"), None),
    "Grid Engine, two hosts": (
        {**SGE, "NSLOTS": "7",
         "PE_HOSTFILE": f"{FILE}{HOST}.example.org 2 all.q@{HOST} <NULL>\nother 5 all.q 0:1\n"},
        (2, "PE_HOSTFILE"), None,
    ),
    "Grid Engine, the file is away": (
        {**SGE, "NSLOTS": "7", "PE_HOSTFILE": "/nonexistent/pe_hostfile"}, (7, "NSLOTS"), None,
    ),
    "OAR": ({"OAR_JOB_ID": "1", "OAR_NODEFILE": f"{FILE}{HOST}\n{HOST}\nother\n"},
            (2, "OAR_NODEFILE"), None),
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
    "one in the other": ({**SGE, "NSLOTS": "7", **LSF, "LSB_DJOB_NUMPROC": "2"},
                         (2, "LSB_DJOB_NUMPROC"), None),
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


def test_limit_of_the_shell_that_dask_takes_for_its_workers() -> None:
    code = "from dask_claim.providers.local.size import here; print(here({})[1])"
    limited = ["sh", "-c", 'ulimit -m 1048576; exec "$@"', "sh", sys.executable, "-c", code]
    shown = subprocess.run(limited, capture_output=True, text=True, check=True).stdout
    assert shown == f"{Bound(GIB, 'ulimit -m')}\n"
