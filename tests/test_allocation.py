"""A launcher that is itself a job: the allocation is the cluster, and nobody else gets in."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dask_claim.cgroup import Bound
from dask_claim.launch.own_job import seconds_left
from dask_claim.providers.hpc.step import cores_of_nodes, divide
from dask_claim.providers.local.size import LocalRequest, fit, fit_here
from tests.support.launcher import DASK_CLAIM, PYTHON, Launcher, Running, processes_with, wait_for
from tests.support.scenes import NOBODY_ELSE, command_line
from tests.support.slurm import Slurm

ON_BOTH_NODES = """
import os, sys, time
from distributed import Client
with Client() as client:
    client.wait_for_workers(3, timeout=60)
    nodes = client.run(os.getenv, "SLURMD_NODENAME")
    print(*sorted(nodes.values()), *{worker[:3] for worker in nodes}, flush=True)
    print(*{client.run(os.getenv, "SAID").popitem()[1]}, flush=True)
    sys.stdin.readline()
"""

GIB = 2**30

CLAIM = {"worker_cores": 1, "max_workers": 1, "worker_memory": "500 MiB"}


def in_a_job(slurm: Slurm, *flags: str) -> tuple[str, ...]:
    return (str(slurm.command("srun")), "--quiet", "--job-name=launcher", *flags)


def test_other_users_are_refused(launcher: Launcher, slurm: Slurm, tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(NOBODY_ELSE)
    run = launcher(
        PYTHON, "-W", "ignore", str(program), claim={**CLAIM, "worker_cores": 2},
        before=in_a_job(slurm, "--cpus-per-task=1"), timeout=120,
    )  # fmt: skip
    assert run.status == 0, run.err
    assert run.out.decode().split() == ["42", "0", "0"]
    assert "this node's share of the Slurm allocation" in run.err
    # The machine has more than Slurm granted.
    assert "1 core (this job: SLURM_CPUS_ON_NODE)" in run.err
    assert run.receipt["provider"] == "allocation"
    assert run.receipt["gone"] is True
    wait_for(lambda: not slurm.jobs(), "end of the job", 20)


def test_a_shell_that_is_on_no_node(launcher: Launcher, slurm: Slurm) -> None:
    """The one of salloc, which on many sites runs where it was called: on a login node."""
    salloc = (str(slurm.command("salloc")), "--quiet", "--ntasks=1")
    for inside, told in ((), 1), (in_a_job(slurm), 0):
        run = launcher("true", claim=CLAIM, before=(*salloc, *inside))
        assert run.status == 0, run.err
        assert run.err.count("write srun --ntasks=1 before dask-claim") == told
        wait_for(lambda: not slurm.jobs(), "end of the job", 20)


def on_both_nodes(slurm: Slurm) -> tuple[str, ...]:
    """The launcher is on the first one."""
    salloc = (str(slurm.command("salloc")), "--quiet", "--nodes=2", "--ntasks-per-node=1")
    return (*salloc, "--cpus-per-task=2", *in_a_job(slurm, "--nodes=1", "--ntasks=1"))


def start_on_both(launcher: Launcher, slurm: Slurm, **more: Any) -> Running:
    claim = {
        **CLAIM, "max_workers": 3, "hpc": {"interface": "lo"}, "environment": {"SAID": "hello"},
    }  # fmt: skip
    path = f"{slurm.folder / 'bin'}{os.pathsep}{os.environ['PATH']}"
    run = launcher.start(
        PYTHON, "-c", ON_BOTH_NODES, claim=claim, env={"PATH": path}, stdin=subprocess.PIPE,
        before=on_both_nodes(slurm), **more,
    )  # fmt: skip
    return run


def test_all_nodes_of_an_allocation(launcher: Launcher, slurm: Slurm) -> None:
    run = start_on_both(launcher, slurm)
    assert run.process.stdout.readline() == b"node0 node0 node1 tls\n", run.err
    assert run.process.stdout.readline() == b"hello\n", run.err
    ended = run.finish(timeout=60)
    assert ended.status == 0, ended.err
    assert "the 2 nodes of the Slurm allocation" in ended.err
    assert ended.receipt["workers"]["peak"] == 3
    assert ended.receipt["gone"] is True, ended.err
    assert "srun: error" not in ended.err
    wait_for(lambda: not slurm.jobs(), "end of the job", 20)


def test_workers_of_all_nodes_end_with_a_killed_launcher(launcher: Launcher, slurm: Slurm) -> None:
    """Its step ends, too, while the allocation goes on."""
    run = start_on_both(launcher, slurm)
    assert run.process.stdout.readline().startswith(b"node0 node0 node1"), run.err

    def workers() -> list[int]:
        """Those of the other node."""
        found = processes_with("SLURMD_NODENAME=node1")
        return [pid for pid in found if "dask" in command_line(pid)]

    assert workers()
    # Whoever sees the processes of this machine sees their arguments.
    everyone = [*processes_with(launcher.marker), *workers()]
    assert not [pid for pid in everyone if "BEGIN" in command_line(pid)]
    (own,) = (
        pid for pid in processes_with(launcher.marker)
        if f"{DASK_CLAIM} --receipt" in command_line(pid).partition(" ")[2]
        and "python" in command_line(pid).partition(" ")[0]
    )  # fmt: skip
    os.kill(own, signal.SIGKILL)
    wait_for(lambda: not workers(), "end of the other node's workers", 40)
    run.process.communicate(timeout=60)
    wait_for(lambda: not slurm.jobs(), "end of the job", 20)


TRAP = "trap 'echo told; exit 3' TERM; echo ready; while :; do sleep 0.1; done"
LAUNCHED = f"{DASK_CLAIM} --grace 5 -- sh -c {shlex.quote(TRAP)}"


def test_command_ends_before_the_walltime(launcher: Launcher, slurm: Slurm) -> None:
    """Slurm's own limit is a minute at the least: its variable says a nearer end."""
    import time

    run = launcher.start(
        "sh", "-c", TRAP, claim=CLAIM, flags=("--grace", "5"), stdin=subprocess.DEVNULL,
        env={
            "SLURM_JOB_ID": "7",
            "SLURM_JOB_END_TIME": str(int(time.time()) + 35),
            "SLURM_RESTART_COUNT": "2",
        },
    )  # fmt: skip
    ended = run.finish(timeout=60)
    assert (ended.status, ended.out) == (3, b"ready\ntold\n"), ended.err
    assert "this is start 3 of it" in ended.err
    assert "This job's walltime ends in" in ended.err
    assert ended.receipt["gone"] is True


CONNECT = """
import time
import dask_claim
try:
    with dask_claim.connect(grace=5):
        print("ready", flush=True)
        time.sleep(100)
except SystemExit as end:
    print("told", end.code, flush=True)
    raise
"""


def test_a_program_ends_before_the_walltime(launcher: Launcher, slurm: Slurm) -> None:
    """Also a block of `connect()` in a program of its own."""
    import time

    end = {"SLURM_JOB_ID": "7", "SLURM_JOB_END_TIME": str(int(time.time()) + 35)}
    ended = launcher.program(CONNECT, claim=CLAIM, env=end).finish(timeout=60)
    assert (ended.status, ended.out) == (143, b"ready\ntold 143\n"), ended.err
    assert "This job's walltime ends in" in ended.err
    assert "so does the program" in ended.err
    assert "The local cluster stopped" in ended.err


def test_a_step_that_ends_early(launcher: Launcher, slurm: Slurm) -> None:
    run = start_on_both(launcher, slurm)
    assert run.process.stdout.readline().startswith(b"node0 node0 node1"), run.err
    steps = slurm.run("squeue", "--steps", "--noheader", "--format=%i %j").splitlines()
    (step,) = (step for step, name in (line.split() for line in steps) if name[:5] == "dask-")
    slurm.run("scancel", step)
    run.until("srun on the allocation's other nodes ended")
    ended = run.finish()
    assert ended.status == 0, ended.err
    assert ended.receipt["gone"] is True
    wait_for(lambda: not slurm.jobs(), "end of the job", 20)


def test_no_cluster_without_keys(launcher: Launcher, tmp_path: Path) -> None:
    """Where no keys can be made others could get in: nothing is made."""
    (tmp_path / "sitecustomize.py").write_text("import sys; sys.modules['cryptography'] = None\n")
    env = {"SLURM_JOB_ID": "7", "PYTHONPATH": str(tmp_path)}
    run = launcher("true", claim=CLAIM, env=env)
    assert run.status == 78, run.err
    assert "pip install cryptography" in run.err


class Batch:
    """A launcher, or a program of its own, that is a whole job: `exec` in its script."""

    def __init__(
        self, launcher: Launcher, slurm: Slurm, folder: Path, *flags: str, command: str = LAUNCHED
    ) -> None:
        self._slurm, self._log = slurm, folder / "log"
        claim = json.dumps({**CLAIM, "provider": "allocation"})
        script = folder / "job.sh"
        script.write_text(
            "#!/bin/sh\n"
            f"export DASK_CONFIG=/dev/null DASK_CLAIM={shlex.quote(claim)} {launcher.marker}\n"
            f"PATH={slurm.folder / 'bin'}:$PATH\n"
            f"exec {command}\n"
        )
        self.id = slurm.run(
            "sbatch", "--parsable", "--export=NIL", "--requeue", f"--chdir={folder}",
            f"--output={self._log}", *flags, str(script),
        ).strip()  # fmt: skip

    @property
    def log(self) -> str:
        return self._log.read_text() if self._log.exists() else ""

    def until(self, text: str, timeout: float = 60) -> None:
        wait_for(lambda: text in self.log, text, timeout, lambda: self.log + self._slurm.logs())


def test_signal_before_the_walltime(launcher: Launcher, slurm: Slurm, tmp_path: Path) -> None:
    """Slurm looks at its jobs every 30 s, and so may be that much earlier than asked."""
    job = Batch(launcher, slurm, tmp_path, "--time=1", "--signal=B:TERM@10")
    job.until("ready")
    # Its Slurm sets no SLURM_JOB_END_TIME.
    job.until("This job's walltime ends in")
    job.until("told", 90)
    job.until("The command ended with status 3")
    assert "Slurm ends this job" not in job.log
    wait_for(lambda: not slurm.jobs(), "end of the job", 20)


@pytest.mark.parametrize("command", [LAUNCHED, f"{PYTHON} -c {shlex.quote(CONNECT)}"])
def test_a_job_that_is_cancelled(
    launcher: Launcher, slurm: Slurm, tmp_path: Path, command: str
) -> None:
    job = Batch(launcher, slurm, tmp_path, command=command)
    job.until("ready")
    slurm.run("scancel", job.id)
    job.until("The local cluster stopped")
    assert "Slurm ends this job" in job.log
    wait_for(lambda: not slurm.jobs(), "end of the job", 20)


def test_a_job_that_is_requeued(launcher: Launcher, slurm: Slurm, tmp_path: Path) -> None:
    job = Batch(launcher, slurm, tmp_path)
    job.until("ready")
    slurm.run("scontrol", "requeue", job.id)
    job.until("Slurm requeues this job")
    slurm.run("scancel", job.id)
    wait_for(lambda: not slurm.jobs(), "end of the job", 20)


def test_nodes_are_filled_one_after_the_other() -> None:
    environ = {"SLURM_JOB_CPUS_PER_NODE": "1,4(x2),2", "SLURM_MEM_PER_CPU": "1000"}
    assert list(cores_of_nodes(environ["SLURM_JOB_CPUS_PER_NODE"])) == [1, 4, 4, 2]
    request = LocalRequest(1, 9, 2, None, 2000 * 2**20)
    names = ["b", "a", "c", "d"]
    environ.update(SLURM_JOB_CPUS_PER_NODE="4,1,4,2", SLURM_JOB_ID="1", SLURM_CPUS_ON_NODE="1")
    # One worker fits into any node, and this node is first wherever Slurm lists it.
    left, others, shortfall = divide(request, "a", names, environ)
    assert left.max_workers == 1
    assert {name: asked.max_workers for name, asked in others.items()} == {"b": 2, "c": 2, "d": 1}
    assert others["b"].local_memory == 4000 * 2**20
    assert shortfall == "The allocation's 4 nodes give 6 of 9 workers"
    few = replace(request, max_workers=3)
    left, others, shortfall = divide(few, "a", names, environ)
    assert (left.max_workers, list(others), shortfall) == (1, ["b"], None)


@pytest.mark.parametrize("nodes", [1, 2, 5])
@pytest.mark.parametrize("workers", [None, 2, 6])
@pytest.mark.parametrize(
    "policy",
    [
        {"max_cores": 1}, {"max_cores": 6}, {"max_cores": 9.5}, {"max_workers": 6},
        {"max_memory": GIB}, {"max_memory": 5 * GIB}, {"max_memory": 12 * GIB, "max_cores": 12},
        {"max_cores": 7, "worker_cores": 1}, {"max_memory": 7 * GIB, "worker_memory": GIB},
    ],
)  # fmt: skip
def test_a_policy_bounds_all_nodes_together(
    policy: dict[str, float], workers: int | None, nodes: int
) -> None:
    if workers and workers > policy.get("max_cores", workers):
        return  # refused or cut before
    environ = {
        "SLURM_JOB_ID": "1", "SLURM_CPUS_ON_NODE": "2", "SLURM_MEM_PER_NODE": "4096",
        "SLURM_JOB_CPUS_PER_NODE": f"2(x{nodes})",
    }  # fmt: skip
    request = LocalRequest(1, workers or 1, None, None, None, unsaid=not workers, policy=policy)
    names = [f"n{number}" for number in range(nodes)]
    here, others, _ = divide(request, "n0", names, environ)
    sizes = [fit_here(here, environ)]
    # There is more on a node than was granted.
    sizes += [fit(asked, Bound(64), Bound(512 * GIB)) for asked in others.values()]
    given = {
        "max_workers": sum(size.max_workers for size in sizes),
        "max_cores": sum(size.max_workers * size.threads for size in sizes),
        "max_memory": sum(size.max_workers * size.memory for size in sizes),
    }
    bounds = {name: policy[name] for name in given if name in policy}
    assert all(given[name] <= bound for name, bound in bounds.items()), given
    if workers:
        assert given["max_workers"] == min(workers, 2 * nodes)
    else:
        # Nothing is left unused but what is too little for a worker.
        least = {"max_workers": 1, "max_cores": 2, "max_memory": 4 * GIB}
        used = any(bound - given[name] < least[name] for name, bound in bounds.items())
        assert used or len(others) == nodes - 1


def test_walltime_is_slurms_word() -> None:
    job = {"SLURM_JOB_ID": "1", "SLURM_JOB_END_TIME": "1000"}
    assert seconds_left(job, 900.0) == 100.0
    assert seconds_left(job, 1100.0) == 0.0
    assert seconds_left({**job, "SLURM_JOB_END_TIME": "99999999999"}, 900.0) is None
    assert seconds_left({"SLURM_JOB_END_TIME": "1000"}, 900.0) is None
