"""A gateway, a network, schedulers, workers and commands that fail: nothing is left of a run."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import pytest

from tests.support.forking import ForkedDask
from tests.support.gateway import PERSISTENT, REFERENCE, GatewayServer
from tests.support.launcher import ONE_TASK, PYTHON, Launcher, wait_for
from tests.support.proxy import CREATION, GIVING_BACK, LISTING, OFFERING, SCALING, WAITING, Proxy
from tests.support.scenes import (
    SMALL,
    processes_of,
    until_gone,
    until_leased,
    until_ready,
)
from tests.support.scenes import WAITING as WAITING_COMMAND

TASK_LATER = ("sh", "-c", f"echo ready; read line; exec {PYTHON} -c '{ONE_TASK}'")


@pytest.fixture
def proxy(gateway: GatewayServer) -> Iterator[Proxy]:
    with Proxy(gateway) as made:
        yield made
        made.heal()


def test_trouble_in_every_phase_passes(launcher: Launcher, proxy: Proxy) -> None:
    """A gateway that is replaced, refuses, or hangs: whatever can be asked again is.

    And a cluster that it gives up before the command starts is replaced.
    """
    proxy.fault("gone", SCALING, times=1)
    for phase in (OFFERING, LISTING, WAITING, SCALING):
        for kind in ("503", "reset", "502"):
            proxy.fault(kind, phase, times=1)
    run = launcher.start(
        "sh", "-c", f"{PYTHON} -c '{ONE_TASK}'; echo ready; read line; exit 5",
        claim=proxy.claim(), flags=("--stop-timeout", "60"), stdin=subprocess.PIPE,
    )  # fmt: skip
    assert run.process.stdout.readline() == b"42\n", run.err
    until_ready(run)
    assert proxy.left() == []
    assert run.err.count("Requesting another cluster") == 1
    # Once for each phase.
    assert run.err.count("Trying again for up to 600 s") == 4
    # The seconds that are told are those at which it is told, whatever it waited for.
    stamp, told = r"(\d\d:\d\d:[\d.]+) ", r"Scheduler is up .*\(([\d.]+) s\)"
    claimed, up, seconds = re.search(
        rf"(?s){stamp}[^\n]*Claiming .*{stamp}.*{told}", run.err
    ).groups()
    clock = "%H:%M:%S.%f"
    passed = datetime.strptime(up, clock) - datetime.strptime(claimed, clock)
    assert passed.total_seconds() % 86400 == pytest.approx(float(seconds), abs=0.9)
    for kind in ("502", "401", "reset", "swallow", "hang"):
        proxy.fault(kind, GIVING_BACK, times=1)
    for kind in ("502", "401", "reset", "swallow"):
        proxy.fault(kind, WAITING, times=1)
    run.process.communicate(b"\n", timeout=120)
    ended = run.finish()
    assert (ended.status, ended.receipt["gone"]) == (5, True), ended.err
    assert proxy.left() == []


# -- creation


def test_creation_that_fails(launcher: Launcher, proxy: Proxy) -> None:
    proxy.fault("502", CREATION)
    run = launcher("true", claim=proxy.claim())
    assert (run.status, run.receipt["gone"]) == (75, None), run.err
    assert proxy.struck("502")


def test_creation_that_is_never_answered(
    launcher: Launcher, variables_gateway: GatewayServer
) -> None:
    """Whether the gateway makes the cluster; the start timeout, or signals end the wait."""
    timed = ("--start-timeout", "20", "--stop-timeout", "30")
    with Proxy(variables_gateway) as deaf, Proxy(variables_gateway) as mute:
        deaf.fault("hang", CREATION)
        mute.fault("withhold", CREATION)
        unasked = launcher.start("true", claim=deaf.claim(), flags=timed)
        unheard = launcher.start("true", claim=mute.claim(), flags=timed)
        told = launcher.start("true", claim=mute.claim(), flags=timed[2:])
        wait_for(lambda: mute.struck("withhold") == 2, "requests for two clusters")
        told.process.send_signal(signal.SIGTERM)
        told.until("SIGTERM")
        told.process.send_signal(signal.SIGINT)  # while the launcher still hopes for the answer
        for run, status, gone in ((unasked, 75, None), (unheard, 75, True), (told, 143, True)):
            ended = run.finish()
            assert (ended.status, ended.receipt["gone"]) == (status, gone), ended.err
    assert variables_gateway.clusters() == []


def test_creation_without_an_answer(launcher: Launcher, variables_gateway: GatewayServer) -> None:
    """It is repeated until there is a cluster, which is told by its mark from another such one."""
    with Proxy(variables_gateway) as proxy:
        other = launcher.start(*WAITING_COMMAND, claim=proxy.claim(), stdin=subprocess.PIPE)
        until_ready(other)
        [busy] = processes_of(variables_gateway, "scheduler")
        os.kill(busy, signal.SIGSTOP)
        for kind in ("429", "502", "reset", "swallow"):
            proxy.fault(kind, CREATION, times=1)
        run = launcher("true", claim=proxy.claim())
        assert variables_gateway.clusters() == [other.until(r"Cluster (\w+) is requested").group(1)]
        os.kill(busy, signal.SIGCONT)
        assert proxy.left() == []
        assert (run.status, run.receipt["gone"]) == (0, True), run.err
        [warning] = run.receipt["warnings"]
        assert "was made although the gateway's answer was lost" in warning
        other.process.communicate(b"\n")
        assert other.finish().status == 5


# -- waiting


def test_waiting_that_ends_by(launcher: Launcher, gateway: GatewayServer, proxy: Proxy) -> None:
    """Refused credentials, or the start timeout of a request that hangs."""
    proxy.fault("401", WAITING, times=1)
    refused = launcher.start("true", claim=proxy.claim())
    with Proxy(gateway) as mute:
        mute.fault("hang", WAITING, times=1)
        unheard = launcher("true", claim=mute.claim(), flags=("--start-timeout", "20"))
    for run, status in ((refused.finish(), 78), (unheard, 75)):
        assert (run.status, run.receipt["gone"]) == (status, True), run.err


# -- falling back


def test_fallback_that_leaves_a_cluster_says_so(
    launcher: Launcher, gateway: GatewayServer, proxy: Proxy
) -> None:
    """The receipt does not call gone what was not confirmed; the guard goes on asking."""
    proxy.fault("502", GIVING_BACK)
    proxy.fault("502", WAITING)
    flags = ("--start-timeout", "20", "--stop-timeout", "3")
    run = launcher("sh", "-c", "exit 5", claim=proxy.claim(fallback="local"), flags=flags)
    assert (run.status, run.receipt["gone"]) == (5, False), run.err
    assert run.receipt["provider"] == "local"
    assert any("does not confirm" in warning for warning in run.receipt["warnings"])
    assert gateway.clusters() == [run.cluster]
    proxy.heal()
    until_gone(gateway, 60)


HANGING_HOST = """
import sys, time
if sys.argv and sys.argv[0].endswith("host.py") or "host.py" in " ".join(sys.orig_argv):
    time.sleep(600)
"""


def test_local_cluster_that_hangs_on_its_start(launcher: Launcher, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(HANGING_HOST)
    env, flags = {"PYTHONPATH": str(tmp_path)}, ("--start-timeout", "20", "--stop-timeout", "2")
    away = {"gateway_url": "http://127.0.0.1:9", "fallback": "local"}
    for run in [launcher.start("true", claim=claim, env=env, flags=flags) for claim in ({}, away)]:
        ended = run.finish()
        assert (ended.status, ended.receipt["gone"]) == (75, True), ended.err
        assert "--start-timeout" in ended.err


# -- what stands behind the gateway


def test_gateway_restarted_while_the_command_runs(
    launcher: Launcher, forked_dask: ForkedDask
) -> None:
    """One goes on; one ends meanwhile, whose lease ends the cluster when the gateway is back."""
    server = GatewayServer(options=REFERENCE + PERSISTENT, dask=forked_dask)
    try:
        claim = {"gateway_url": server.url, **SMALL}
        staying = launcher.start(*TASK_LATER, claim=claim, stdin=subprocess.PIPE)
        leaving = launcher.start(
            *WAITING_COMMAND, claim={**claim, "lease_timeout": 3}, stdin=subprocess.PIPE,
            flags=("--stop-timeout", "2"),
        )  # fmt: skip
        for run in (staying, leaving):
            until_ready(run)
        until_leased(server)
        server.kill()
        leaving.process.communicate(b"\n", timeout=120)
        left = leaving.finish()
        assert (left.status, left.receipt["gone"]) == (5, False), left.err
        [line] = [line for line in left.err.splitlines() if "NOT confirmed gone" in line]
        assert left.cluster in line and server.url in line
        server.restart()
        name = staying.until(r"Cluster (\w+) is requested").group(1)
        wait_for(lambda: server.clusters() == [name], "end of the other cluster")
        until_leased(server)
        staying.process.stdin.write(b"\n")
        ended = staying.finish()
        assert (ended.status, ended.out) == (0, b"42\n"), ended.err
        assert ended.receipt["gone"] is True
        assert server.clusters() == []
    finally:
        server.stop()


def test_all_workers_are_killed(launcher: Launcher, gateway: GatewayServer) -> None:
    claim = {"gateway_url": gateway.url, "min_workers": 1, "max_workers": 2}
    flags = ("--start", "workers")
    run = launcher.start(*TASK_LATER, claim=claim, flags=flags, stdin=subprocess.PIPE)
    until_ready(run)
    workers = processes_of(gateway, "worker")
    assert workers
    for worker in workers:
        os.kill(worker, signal.SIGKILL)
    run.process.stdin.write(b"\n")
    ended = run.finish()
    assert (ended.status, ended.out) == (0, b"42\n"), ended.err
    assert ended.receipt["gone"] is True


# -- many


def test_more_launchers_than_the_limit_allows(
    launcher: Launcher, limited_gateway: GatewayServer
) -> None:
    """Those refused wait for their turn as long as they may, without a storm of requests.

    One command dies, as the kernel ends it where memory runs out.
    """
    claim = {"gateway_url": limited_gateway.url, **SMALL}
    before = limited_gateway.log.stat().st_size
    first = launcher.start(*WAITING_COMMAND, claim=claim, stdin=subprocess.PIPE)
    until_ready(first)
    refused = launcher("true", claim=claim, flags=("--start-timeout", "20"))
    patient = [launcher.start("sh", "-c", end, claim=claim) for end in ("exit 0", "kill -9 $$")]
    assert (refused.status, refused.receipt["gone"]) == (75, None)
    assert "limit of 1 clusters" in refused.err.splitlines()[-1], refused.err
    for run in patient:
        run.until("limit of 1 clusters. Trying again for up to 600 s")
    first.process.communicate(b"\n")
    for run, status in zip((first, *patient), (5, 0, 137), strict=True):
        ended = run.finish(180)
        assert (ended.status, ended.receipt["gone"]) == (status, True), ended.err
    log = limited_gateway.log.read_text()[before:]
    assert 3 <= log.count(" 422 POST /api/v1/clusters/ ") < 3 * 12
