"""A gateway whose clusters are jobs of a Slurm: they end as they do elsewhere, and so do the jobs.

Slurm, its nodes and its jobs are real; only what takes other machines and cgroups is not there.
That no job is left is what the fixture `slurm` looks for.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.gateway import GatewayServer
from tests.support.launcher import PYTHON, Launcher, processes_with, wait_for
from tests.support.scenes import until_gone, until_leased, until_ready
from tests.support.slurm import Slurm

pytestmark = [pytest.mark.xdist_group("slurm gateway"), pytest.mark.usefixtures("slurm")]

LEASE = 3.0

# Which jobs the scheduler and the worker are; nothing where they are none.
WHICH_JOBS = (
    "import os\n"
    "from distributed import Client\n"
    "with Client() as client:\n"
    "    name = 'SLURM_JOB_ID'\n"
    "    print(client.run_on_scheduler(os.getenv, name), client.submit(os.getenv, name).result())\n"
)


@pytest.fixture(scope="module")
def slurm_gateway(_slurm: Slurm) -> Iterator[GatewayServer]:
    server = GatewayServer(_slurm.gateway_options())
    yield server
    left = server.clusters()
    server.stop()
    assert left == []


def claim(gateway: GatewayServer, **more: Any) -> dict[str, Any]:
    return {"gateway_url": gateway.url, "min_workers": 1, "max_workers": 1, **more}


def test_one_task_as_jobs(launcher: Launcher, slurm_gateway: GatewayServer) -> None:
    run = launcher(PYTHON, "-c", WHICH_JOBS, claim=claim(slurm_gateway))
    assert run.status == 0, run.err
    scheduler, worker = map(int, run.out.split())
    assert scheduler != worker
    assert (run.receipt["leased"], run.receipt["gone"]) == (True, True)
    assert run.receipt["warnings"] == []
    assert slurm_gateway.clusters() == []


def test_launcher_is_a_job_that_is_cancelled(
    launcher: Launcher, slurm_gateway: GatewayServer, slurm: Slurm
) -> None:
    """Everything in it gets SIGTERM, and after `KillWait`, which is shorter than the command
    takes to end, SIGKILL, as where a node is lost. A time limit does the same."""
    srun = (str(slurm.command("srun")), "--quiet", "--job-name=launcher", "--partition=frail")
    run = launcher.start(
        "sh", "-c", "trap '' TERM; echo ready; sleep 300",
        claim=claim(slurm_gateway, lease_timeout=LEASE), before=srun,
    )  # fmt: skip
    until_ready(run)
    until_leased(slurm_gateway)
    slurm.run("scancel", "--name=launcher")
    run.process.communicate(timeout=120)
    wait_for(lambda: not processes_with(launcher.marker), "end of all processes")
    until_gone(slurm_gateway, 40)


def test_jobs_that_wait_are_taken_back(
    launcher: Launcher, slurm_gateway: GatewayServer, slurm: Slurm
) -> None:
    """There is no scheduler yet, so no lease: the launcher or its guard, also after a while."""
    asked = claim(slurm_gateway, options={"partition": "closed"})
    ends = (signal.SIGTERM, signal.SIGKILL)
    runs = [launcher.start("true", claim=asked) for _ in ends]
    for run in runs:
        run.until("is requested")
    wait_for(lambda: slurm.jobs() == ["PENDING"] * 2, "waiting jobs")
    late = launcher.start("true", claim=asked, flags=("--start-timeout", "15"))
    for run, end in zip(runs, ends, strict=True):
        run.process.send_signal(end)
    assert [run.finish().status for run in runs] == [128 + signal.SIGTERM, -signal.SIGKILL]
    ended = late.finish()
    assert (ended.status, ended.receipt["gone"]) == (75, True), ended.err
    wait_for(lambda: not processes_with(launcher.marker), "end of all processes")
    assert slurm_gateway.clusters() == []
