"""The gateway provider: options of different sites, and gateways that cannot serve."""

from __future__ import annotations

import signal
import threading

import pytest

from tests.support.gateway import GatewayServer
from tests.support.launcher import PYTHON, Launcher
from tests.support.scenes import SMALL

ON_A_WORKER = (
    "import os\nfrom distributed import Client\n"
    "with Client() as c: print(*c.submit("
    "lambda: [os.environ['SITE_MEMORY'], os.environ['SITE_QUEUE']]).result())"
)


def test_memory_in_the_form_the_gateway_wants(
    launcher: Launcher, other_gateway: GatewayServer
) -> None:
    claim = {
        "gateway_url": other_gateway.url, "worker_cores": 2, "worker_cores_limit": 3,
        "worker_memory": "2560M", "options": {"queue": "long"},
    }  # fmt: skip
    run = launcher(PYTHON, "-c", ON_A_WORKER, claim=claim)
    assert (run.status, run.out.decode().split()) == (0, ["2.5", "long"]), run.err
    assert run.err.count("does not offer worker_cores_limit") == 1
    assert len(run.receipt["warnings"]) == 1
    # Its handler makes one core of two.
    assert "A worker here really has 1 thread (worker_cores 2)" in run.err
    assert run.receipt["workers"]["threads"] == 1
    assert run.receipt["workers"]["memory"] == 2560 * 2**20
    # What the scheduler's plugin tells, which it got by value.
    assert 0 < run.receipt["workers"]["memory_peak"] <= run.receipt["memory_peak"]
    assert (run.receipt["workers"]["lost"], run.receipt["tasks"]["failed"]) == ([], 0)
    assert 0 <= run.receipt["efficiency"] <= 1 and run.receipt["history"][-1][1:] == [1, 1]


WORKERS = ("--start", "workers")


def test_fixed_size(launcher: Launcher, gateway: GatewayServer) -> None:
    """And memory as this gateway would not understand it."""
    claim = {"gateway_url": gateway.url, "min_workers": 2, "max_workers": 2}
    claim["worker_memory"] = "1 GiB"
    run = launcher("true", claim=claim, flags=WORKERS)
    assert run.status == 0, run.err
    assert "Scaling cluster: workers=2" in run.err
    assert run.receipt["workers"]["peak"] == 2
    assert run.receipt["workers"]["memory"] == 2**30


def test_wrong_credentials(launcher: Launcher, closed_gateway: GatewayServer) -> None:
    wrong = {"DASK_GATEWAY__AUTH__KWARGS__PASSWORD": "guessed-1234"}
    refused = launcher("true", env=wrong | {"DASK_CLAIM_GATEWAY_URL": closed_gateway.url})
    assert refused.status == 78
    assert "refused the credentials" in refused.err
    assert "guessed-1234" not in refused.err


def test_cluster_that_does_not_start_in_time(
    launcher: Launcher, stuck_gateway: GatewayServer
) -> None:
    claim = {"gateway_url": stuck_gateway.url}
    fallen = launcher.start(
        "true", claim={**claim, "fallback": "local"}, flags=("--start-timeout", "20")
    )
    eager = launcher(
        "sleep", "60", claim=claim, flags=("--start-timeout", "20", "--start", "eager")
    )
    assert (eager.status, eager.receipt["gone"]) == (75, True), eager.err
    assert "--start-timeout" in eager.err, stuck_gateway.log.read_text()[-4000:]
    run = fallen.finish()
    assert (run.status, run.receipt["provider"]) == (0, "local"), run.err


def test_cluster_that_fails(launcher: Launcher, failing_gateway: GatewayServer) -> None:
    run = launcher("true", claim={"gateway_url": failing_gateway.url})
    assert run.status == 75
    assert run.cluster in run.err.splitlines()[-1]
    assert 'c.ClusterConfig.scheduler_cmd = ["dask", "scheduler"]' in run.err.splitlines()[-1]


def test_fewer_workers_than_claimed(launcher: Launcher, closed_gateway: GatewayServer) -> None:
    """What the gateway answers to a resize counts at once, whatever the command waits for."""
    right = {"DASK_GATEWAY__AUTH__KWARGS__PASSWORD": closed_gateway.password}
    launcher.variables |= right | {"DASK_CLAIM_GATEWAY_URL": closed_gateway.url}
    strict, less = (
        launcher.start("sh", "-c", "exit 3", claim={"min_workers": 2, **more}, flags=flags)
        for more, flags in (({}, ()), ({"strict": False, "max_workers": 3}, WORKERS))
    )
    refused, run = strict.finish(), less.finish()
    assert (refused.status, refused.receipt["gone"]) == (78, True), refused.err
    assert "resource limit of 1 workers" in refused.err.splitlines()[-1]
    assert run.status == 3, run.err
    [warning] = run.receipt["warnings"]
    assert "resource limit of 1 workers" in warning
    for told in (run.err, refused.err, str(run.receipt)):
        assert "GatewayWarning" not in told and closed_gateway.password not in told


def test_command_that_is_not_found_costs_no_cluster(
    launcher: Launcher, gateway: GatewayServer
) -> None:
    run = launcher("no-such-command", claim={"gateway_url": gateway.url})
    assert run.status == 127
    assert run.cluster is None


@pytest.mark.deep
def test_many_at_once(launcher: Launcher, gateway: GatewayServer) -> None:
    claim = {"gateway_url": gateway.url, **SMALL}
    runs = [
        launcher.start("sh", "-c", f"exit {n}", claim=claim, flags=("--stop-timeout", "90"))
        for n in range(20)
    ]
    for n, run in enumerate(runs):
        ended = run.finish(180)
        assert (ended.status, ended.receipt["gone"]) == (n, True), ended.err


@pytest.mark.deep
def test_terminated_while_the_request_is_on_its_way(
    launcher: Launcher, gateway: GatewayServer
) -> None:
    """SIGTERM at moments around the creation of the cluster: none survives."""
    for moment in range(20):
        run = launcher.start("true", claim={"gateway_url": gateway.url, **SMALL})
        run.until("Claiming")
        threading.Event().wait(moment * 0.03)
        run.process.send_signal(signal.SIGTERM)
        ended = run.finish()
        assert ended.status in (0, 143), ended.err
        assert ended.receipt["gone"] in (None, True)
        assert gateway.clusters() == []
