"""A launcher that is itself a job: the allocation is the cluster, and nobody else gets in."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import time
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import pytest

from dask_claim.cgroup import Bound
from dask_claim.launch.own_job import seconds_left
from dask_claim.providers.hpc.step import divide, parse_cores
from dask_claim.providers.local.size import LocalRequest, fit, fit_here
from tests.support.launcher import DASK_CLAIM, PYTHON, Launcher, Running, processes_with, wait_for
from tests.support.scenes import NOBODY_ELSE, command_line
from tests.support.slurm import Slurm

pytestmark = pytest.mark.xdist_group("slurm allocation")

ON_BOTH_NODES = """
import os, sys, time
from distributed import Client
with Client() as client:
    client.wait_for_workers(3, timeout=120)
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
    (program := tmp_path / "program.py").write_text(NOBODY_ELSE)
    run = launcher(
        PYTHON, "-W", "ignore", str(program), claim={**CLAIM, "worker_cores": 2},
        before=in_a_job(slurm, "--cpus-per-task=1"), timeout=120,
    )  # fmt: skip
    assert run.status == 0, run.err
    assert run.out.decode().split() == ["42", "0", "0"]
    assert "this node's share of the Slurm allocation" in run.err
    # The machine has more than Slurm granted.
    assert "1 core (this job: SLURM_CPUS_ON_NODE)" in run.err
    assert ON_NO_NODE not in run.err
    assert (run.receipt["provider"], run.receipt["gone"]) == ("allocation", True)


ON_NO_NODE = "write srun --ntasks=1 before dask-claim"


def test_a_shell_that_is_on_no_node(launcher: Launcher, slurm: Slurm) -> None:
    """The one of salloc, which on many sites runs where it was called: on a login node."""
    salloc = (str(slurm.command("salloc")), "--quiet", "--ntasks=1")
    run = launcher("true", claim=CLAIM, before=salloc)
    assert (run.status, run.err.count(ON_NO_NODE)) == (0, 1), run.err


def start_on_both(launcher: Launcher, slurm: Slurm) -> Running:
    """The launcher is on the first node; returns when the workers of both have answered."""
    salloc = (str(slurm.command("salloc")), "--quiet", "--nodes=2", "--ntasks-per-node=1")
    run = launcher.start(
        PYTHON, "-c", ON_BOTH_NODES, env=slurm.variables, stdin=subprocess.PIPE,
        claim={
            **CLAIM, "max_workers": 3, "hpc": {"interface": "lo"}, "environment": {"SAID": "hello"}
        },
        before=(*salloc, "--cpus-per-task=2", *in_a_job(slurm, "--nodes=1", "--ntasks=1")),
    )  # fmt: skip
    assert run.process.stdout.readline() == b"node0 node0 node1 tls\n", run.err
    assert run.process.stdout.readline() == b"hello\n", run.err
    return run


def test_all_nodes_of_an_allocation(launcher: Launcher, slurm: Slurm) -> None:
    ended = start_on_both(launcher, slurm).finish()
    assert ended.status == 0, ended.err
    assert "the 2 nodes of the Slurm allocation" in ended.err
    assert ON_NO_NODE not in ended.err
    assert ended.receipt["workers"]["peak"] == 3
    assert ended.receipt["gone"] is True, ended.err
    assert "srun: error" not in ended.err


def test_workers_of_all_nodes_end_with_a_killed_launcher(launcher: Launcher, slurm: Slurm) -> None:
    """Its step ends, too, while the allocation goes on."""
    run = start_on_both(launcher, slurm)

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
    wait_for(lambda: not workers(), "end of the other node's workers")
    run.process.communicate(timeout=120)


def test_a_step_that_ends_early(launcher: Launcher, slurm: Slurm) -> None:
    run = start_on_both(launcher, slurm)
    steps = slurm.run("squeue", "--steps", "--noheader", "--format=%i %j").splitlines()
    (step,) = (step for step, name in (line.split() for line in steps) if name[:5] == "dask-")
    slurm.run("scancel", step)
    run.until("srun on the allocation's other nodes ended")
    ended = run.finish()
    assert (ended.status, ended.receipt["gone"]) == (0, True), ended.err


TRAP = "trap 'echo told; exit 3' TERM; echo ready; while :; do sleep 0.1; done"
CONNECT = """
import logging, signal, sys, time
import dask_claim
logging.basicConfig(level=logging.INFO)
signal.signal(signal.SIGTERM, lambda signum, frame: sys.exit(143))
try:
    with dask_claim.connect(grace=5):
        print("ready", flush=True)
        time.sleep(100)
except SystemExit as end:
    print("told", end.code, flush=True)
    raise
"""


def test_no_cluster_without_keys(launcher: Launcher, tmp_path: Path) -> None:
    """Where no keys can be made others could get in: nothing is made."""
    (tmp_path / "sitecustomize.py").write_text("import sys; sys.modules['cryptography'] = None\n")
    env = {"SLURM_JOB_ID": "7", "PYTHONPATH": str(tmp_path)}
    run = launcher("true", claim=CLAIM, env=env)
    assert run.status == 78, run.err
    assert "cryptography" in run.err


class Job(NamedTuple):
    """A launcher, or a program of its own, that is a whole job: `exec` in its script."""

    id: str
    log: Path

    def until(self, text: str) -> None:
        wait_for(lambda: text in self.log.read_text(), text, 60, self.log.read_text)


def submitted(launcher: Launcher, slurm: Slurm, folder: Path, command: str) -> Job:
    folder.mkdir()
    (log := folder / "log").touch()
    claim = json.dumps({**CLAIM, "provider": "allocation"})
    (script := folder / "job.sh").write_text(
        "#!/bin/sh\n"
        f"export DASK_CONFIG=/dev/null DASK_CLAIM={shlex.quote(claim)} {launcher.marker}\n"
        f"export PATH={slurm.variables['PATH']}\n"
        f"exec {command}\n"
    )
    told = slurm.run(
        "sbatch", "--parsable", "--export=NIL", f"--chdir={folder}", f"--output={log}",
        "--time=9", "--signal=B:TERM@40", str(script),
    )  # fmt: skip
    return Job(told.strip(), log)


def test_what_runs_ends_before_the_walltime(
    launcher: Launcher, slurm: Slurm, scheduler: dict[str, str], tmp_path: Path
) -> None:
    """Side by side: a program with a block of `connect()`, by Slurm's variable; and a command by
    its signals. It looks only every 30 s whether a job wants one before its end."""
    env = {
        **scheduler, "SLURM_JOB_ID": "7", "SLURM_JOB_END_TIME": str(int(time.time()) + 45),
    }  # fmt: skip
    program = launcher.program(CONNECT.replace("connect(", "connect(dask_claim.Claim(), "), env=env)
    launched = f"{DASK_CLAIM} --grace 5 -- sh -c {shlex.quote(TRAP)}"
    warned = submitted(launcher, slurm, tmp_path / "job", launched)
    warned.until("ready")
    slurm.run("scontrol", "update", f"JobId={warned.id}", "EndTime=now+65")
    # Its Slurm sets no SLURM_JOB_END_TIME.
    assert "This job's walltime ends in" in warned.log.read_text()
    warned.until("The command ended with status 3")
    warned.until("The local cluster stopped")
    ended = program.finish()
    assert (ended.status, ended.out) == (143, b"ready\ntold 143\n"), ended.err
    assert "This job's walltime ends in" in ended.err
    assert "ending the block" in ended.err


def test_nodes_are_filled_one_after_the_other() -> None:
    environ = {"SLURM_JOB_CPUS_PER_NODE": "1,4(x2),2", "SLURM_MEM_PER_CPU": "1000"}
    assert list(parse_cores(environ["SLURM_JOB_CPUS_PER_NODE"])) == [1, 4, 4, 2]
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


@pytest.mark.parametrize(
    "policy",
    [
        {"max_cores": 1}, {"max_cores": 6}, {"max_cores": 9.5}, {"max_workers": 6},
        {"max_memory": GIB}, {"max_memory": 5 * GIB}, {"max_memory": 12 * GIB, "max_cores": 12},
        {"max_cores": 7, "worker_cores": 1}, {"max_memory": 7 * GIB, "worker_memory": GIB},
    ],
)  # fmt: skip
@pytest.mark.parametrize("workers", [None, 2, 6])
def test_a_policy_bounds_all_nodes_together(policy: dict[str, float], workers: int | None) -> None:
    if not workers or workers <= policy.get("max_cores", workers):  # else refused or cut before
        for nodes in 1, 2, 5:
            bounded(policy, workers, nodes)


def bounded(policy: dict[str, float], workers: int | None, nodes: int) -> None:
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
    assert seconds_left(job, 1000.0) == 0.0
    assert seconds_left(job, 1100.0) is None
    assert seconds_left({**job, "SLURM_JOB_END_TIME": "99999999999"}, 900.0) is None
    assert seconds_left({"SLURM_JOB_END_TIME": "1000"}, 900.0) is None
