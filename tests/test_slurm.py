"""A gateway whose clusters are jobs of a Slurm: they end as they do elsewhere, and so do the jobs.

Slurm, its node and its jobs are real; only what takes other machines and cgroups is not there.
"""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Iterator

import pytest

from tests.support.gateway import REFERENCE, GatewayServer
from tests.support.launcher import PYTHON, Launcher, processes_with, wait_for
from tests.support.scenes import WAITING, end_all, kill, until_gone, until_leased, until_ready
from tests.support.slurm import Slurm

LEASE = 3.0
ONE_WORKER = {"min_workers": 1, "max_workers": 1}

# Which jobs the scheduler and the worker are; nothing where they are none.
WHICH_JOBS = (
    "import os\n"
    "from distributed import Client\n"
    "with Client() as client:\n"
    "    name = 'SLURM_JOB_ID'\n"
    "    print(client.run_on_scheduler(os.getenv, name), client.submit(os.getenv, name).result())\n"
)


@pytest.fixture(scope="module")
def _slurm_gateway(_slurm: Slurm) -> Iterator[GatewayServer]:
    server = GatewayServer(REFERENCE + _slurm.gateway_options())
    yield server
    server.stop()


@pytest.fixture
def slurm_gateway(_slurm_gateway: GatewayServer, slurm: Slurm) -> Iterator[GatewayServer]:
    """Has no cluster before a test; fails where one is left after it."""
    yield _slurm_gateway
    left = _slurm_gateway.clusters()
    _slurm_gateway.clear()
    assert left == []


def until_no_job(slurm: Slurm) -> None:
    """The gateway's answer is there first: Slurm gives a cancelled job `KillWait` to end."""
    wait_for(lambda: not slurm.jobs(), "end of all jobs", 10)


def until_two_jobs(slurm: Slurm) -> None:
    """Scheduler and worker."""
    wait_for(lambda: slurm.jobs() == ["RUNNING"] * 2, "running jobs", 30)


def test_one_task_as_jobs(launcher: Launcher, slurm_gateway: GatewayServer, slurm: Slurm) -> None:
    run = launcher(PYTHON, "-c", WHICH_JOBS, claim={"gateway_url": slurm_gateway.url, **ONE_WORKER})
    assert run.status == 0, run.err
    scheduler, worker = map(int, run.out.split())
    assert scheduler != worker
    assert (run.receipt["leased"], run.receipt["gone"]) == (True, True)
    assert run.receipt["warnings"] == []
    until_no_job(slurm)


def test_jobs_end_by_their_lease(
    launcher: Launcher, slurm_gateway: GatewayServer, slurm: Slurm
) -> None:
    """The launcher's node is gone, its guard with it."""
    claim = {"gateway_url": slurm_gateway.url, **ONE_WORKER, "lease_timeout": LEASE}
    run = launcher.start(*WAITING, claim=claim, stdin=subprocess.PIPE)
    until_ready(run)
    until_leased(slurm_gateway)
    until_two_jobs(slurm)
    end_all(launcher)
    run.process.communicate()
    until_gone(slurm_gateway, LEASE + 10)
    until_no_job(slurm)


def test_jobs_end_with_a_killed_launcher(
    launcher: Launcher, slurm_gateway: GatewayServer, slurm: Slurm
) -> None:
    """By its guard, much sooner than the lease, whose timeout is 60 s."""
    claim = {"gateway_url": slurm_gateway.url, **ONE_WORKER}
    run = launcher.start(*WAITING, claim=claim, stdin=subprocess.PIPE)
    until_ready(run)
    until_two_jobs(slurm)
    kill(run)
    wait_for(lambda: not processes_with(launcher.marker), "end of all processes", 20)
    assert slurm_gateway.clusters() == []
    until_no_job(slurm)


def test_launcher_is_a_job_that_is_cancelled(
    launcher: Launcher, slurm_gateway: GatewayServer, slurm: Slurm
) -> None:
    """Everything in it gets SIGTERM, and after `KillWait`, which is shorter than the command
    takes to end, SIGKILL. A time limit does the same."""
    claim = {"gateway_url": slurm_gateway.url, "max_workers": 1, "lease_timeout": LEASE}
    run = launcher.start(
        "sh", "-c", "trap '' TERM; echo ready; sleep 300", claim=claim,
        before=(str(slurm.command("srun")), "--quiet", "--job-name=launcher"),
    )  # fmt: skip
    until_ready(run)
    until_leased(slurm_gateway)
    slurm.run("scancel", "--name=launcher")
    run.process.communicate(timeout=20)
    wait_for(lambda: not processes_with(launcher.marker), "end of all processes", 20)
    until_gone(slurm_gateway, LEASE + 10)
    until_no_job(slurm)


@pytest.fixture
def full_slurm(slurm: Slurm) -> Iterator[Slurm]:
    """One whose jobs wait."""
    slurm.drain()
    yield slurm
    slurm.resume()


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGKILL], ids=["SIGTERM", "SIGKILL"])
def test_jobs_that_wait_are_taken_back(
    launcher: Launcher, slurm_gateway: GatewayServer, full_slurm: Slurm, end: signal.Signals
) -> None:
    """There is no scheduler yet, so no lease: the launcher or its guard."""
    run = launcher.start("true", claim={"gateway_url": slurm_gateway.url, **ONE_WORKER})
    wait_for(lambda: full_slurm.jobs() == ["PENDING"], "waiting job", 30, lambda: run.err)
    run.process.send_signal(end)
    ended = run.finish()
    assert ended.status == (128 + end if end == signal.SIGTERM else -end), ended.err
    wait_for(lambda: not processes_with(launcher.marker), "end of all processes", 20)
    assert slurm_gateway.clusters() == []
    until_no_job(full_slurm)


def test_jobs_that_wait_too_long_are_taken_back(
    launcher: Launcher, slurm_gateway: GatewayServer, full_slurm: Slurm
) -> None:
    run = launcher(
        "true", claim={"gateway_url": slurm_gateway.url}, flags=("--start-timeout", "15")
    )
    assert (run.status, run.receipt["gone"]) == (75, True), run.err
    until_no_job(full_slurm)
