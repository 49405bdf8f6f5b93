"""A gateway, a network, schedulers, workers and commands that fail: nothing is left of a run."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import pytest

from tests.support.gateway import LIMITED, PERSISTENT, REFERENCE, GatewayServer
from tests.support.launcher import ONE_TASK, PYTHON, Launcher, Run, processes_with, wait_for
from tests.support.proxy import CREATION, GIVING_BACK, LISTING, OFFERING, SCALING, WAITING, Proxy
from tests.support.scenes import (
    SMALL,
    kill,
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


# -- before it


@pytest.mark.parametrize("phase", [OFFERING, LISTING], ids=["options", "list"])
@pytest.mark.parametrize("kind", ["503", "reset"])
def test_gateway_that_is_replaced_while_a_run_begins(
    launcher: Launcher, proxy: Proxy, phase: tuple[str, str], kind: str
) -> None:
    proxy.fault(kind, phase, times=3)
    run = launcher("sh", "-c", "exit 3", claim=proxy.claim())
    assert (run.status, run.receipt["gone"]) == (3, True), run.err
    assert proxy.struck(kind) == 3
    assert run.err.count("Trying again for up to 600 s") == 1


# -- creation


@pytest.mark.parametrize(
    ("kind", "status", "gone"), [("502", 75, None), ("401", 78, None), ("reset", 75, None)]
)
def test_creation_that_fails(
    launcher: Launcher, proxy: Proxy, kind: str, status: int, gone: bool | None
) -> None:
    proxy.fault(kind, CREATION)
    run = launcher("true", claim=proxy.claim())
    assert (run.status, run.receipt["gone"]) == (status, gone), run.err
    assert proxy.struck(kind)


def test_creation_whose_answer_is_lost(launcher: Launcher, proxy: Proxy) -> None:
    """The cluster is found among those of the user, and somebody else's is not taken for it."""
    other = launcher.start(*WAITING_COMMAND, claim=proxy.claim(), stdin=subprocess.PIPE)
    until_ready(other)
    proxy.fault("swallow", CREATION, times=1)
    run = launcher("true", claim=proxy.claim(), flags=("--stop-timeout", "60"))
    assert (run.status, run.receipt["gone"]) == (75, True), run.err
    assert "was made although the gateway's answer was lost" in run.err
    other.process.communicate(b"\n")
    assert other.finish().status == 5


@pytest.mark.parametrize("kind", ["hang", "withhold"])
def test_creation_that_is_never_answered(launcher: Launcher, proxy: Proxy, kind: str) -> None:
    proxy.fault(kind, CREATION)
    run = launcher(
        "true", claim=proxy.claim(), flags=("--start-timeout", "15", "--stop-timeout", "30")
    )
    assert run.status == 75, run.err
    assert run.receipt["gone"] is (True if kind == "withhold" else None), run.err


def test_creation_that_is_never_answered_is_ended_by_a_signal(
    launcher: Launcher, gateway: GatewayServer, proxy: Proxy
) -> None:
    proxy.fault("withhold", CREATION)
    run = launcher.start("true", claim=proxy.claim(), flags=("--stop-timeout", "30"))
    wait_for(lambda: proxy.struck("withhold"), "request for a cluster")
    for signum in (signal.SIGTERM, signal.SIGINT):
        run.process.send_signal(signum)
        time.sleep(1)  # the second comes while the launcher still hopes for the answer
    ended = run.finish(90)
    assert (ended.status, ended.receipt["gone"]) == (143, True), ended.err
    assert gateway.clusters() == []


# -- waiting


@pytest.mark.parametrize("kind", ["502", "reset"])
def test_waiting_goes_on_after(launcher: Launcher, proxy: Proxy, kind: str) -> None:
    proxy.fault(kind, WAITING, times=5)
    run = launcher("sh", "-c", "exit 3", claim=proxy.claim())
    assert (run.status, run.receipt["gone"]) == (3, True), run.err
    assert proxy.struck(kind) == 5


@pytest.mark.parametrize(("kind", "status"), [("401", 78), ("hang", 75)])
def test_waiting_that_ends_by(launcher: Launcher, proxy: Proxy, kind: str, status: int) -> None:
    proxy.fault(kind, WAITING, times=1)
    run = launcher("true", claim=proxy.claim(), flags=("--start-timeout", "15"))
    assert (run.status, run.receipt["gone"]) == (status, True), run.err


@pytest.mark.parametrize("kind", ["503", "reset"])
def test_request_for_workers_is_repeated(launcher: Launcher, proxy: Proxy, kind: str) -> None:
    proxy.fault(kind, SCALING, times=2)
    run = launcher(PYTHON, "-c", ONE_TASK, claim=proxy.claim())
    assert (run.status, run.out, run.receipt["gone"]) == (0, b"42\n", True), run.err
    assert proxy.struck(kind) == 2
    # The seconds that are told are those at which it is told, whatever it waited for.
    stamp, told = r"(\d\d:\d\d:[\d.]+) ", r"Scheduler is up .*\(([\d.]+) s\)"
    claimed, up, seconds = re.search(
        rf"(?s){stamp}[^\n]*Claiming .*{stamp}.*{told}", run.err
    ).groups()
    clock = "%H:%M:%S.%f"
    passed = datetime.strptime(up, clock) - datetime.strptime(claimed, clock)
    assert passed.total_seconds() % 86400 == pytest.approx(float(seconds), abs=0.9)


def test_cluster_that_the_gateway_gives_up_is_replaced(
    launcher: Launcher, gateway: GatewayServer, proxy: Proxy
) -> None:
    proxy.fault("gone", SCALING, times=1)
    run = launcher(PYTHON, "-c", ONE_TASK, claim=proxy.claim())
    assert (run.status, run.out, run.receipt["gone"]) == (0, b"42\n", True), run.err
    assert "Requesting another cluster" in run.err
    assert gateway.clusters() == []


# -- falling back


def test_fallback_that_leaves_a_cluster_says_so(
    launcher: Launcher, gateway: GatewayServer, proxy: Proxy
) -> None:
    """The receipt does not call gone what was not confirmed; the guard goes on asking."""
    proxy.fault("502", GIVING_BACK)
    proxy.fault("502", WAITING)
    run = launcher.start(
        "sh", "-c", "echo ready; exit 5",
        claim=proxy.claim(fallback="local"), flags=("--start-timeout", "20", "--stop-timeout", "3"),
    )  # fmt: skip
    ended = run.finish(90)
    assert (ended.status, ended.receipt["gone"]) == (5, False), ended.err
    assert ended.receipt["provider"] == "local"
    assert any("does not confirm" in warning for warning in ended.receipt["warnings"])
    assert gateway.clusters() == [ended.cluster]
    proxy.heal()
    until_gone(gateway, 15)


HANGING_HOST = """
import sys, time
if sys.argv and sys.argv[0].endswith("host.py") or "host.py" in " ".join(sys.orig_argv):
    time.sleep(600)
"""


@pytest.mark.parametrize("claim", [{}, {"gateway_url": "http://127.0.0.1:9", "fallback": "local"}])
def test_local_cluster_that_hangs_on_its_start(
    launcher: Launcher, tmp_path: Path, claim: dict[str, str]
) -> None:
    (tmp_path / "sitecustomize.py").write_text(HANGING_HOST)
    env = {"PYTHONPATH": str(tmp_path)}
    run = launcher(
        "true", claim=claim, env=env, flags=("--start-timeout", "12", "--stop-timeout", "2")
    )
    assert (run.status, run.receipt["gone"]) == (75, True), run.err
    assert "--start-timeout" in run.err


# -- giving back


def told_to_end(launcher: Launcher, proxy: Proxy, *faults: object, **more: object) -> Run:
    """A run, with faults from the moment on when its command runs."""
    run = launcher.start(
        *WAITING_COMMAND, claim=proxy.claim(lease_timeout=3), stdin=subprocess.PIPE, **more
    )
    until_ready(run)
    for fault in faults:
        proxy.fault(*fault)
    run.process.communicate(b"\n", timeout=90)
    return run.finish()


@pytest.mark.parametrize("kind", ["502", "401", "reset", "swallow"])
@pytest.mark.parametrize("phase", [GIVING_BACK, WAITING], ids=["DELETE", "GET"])
def test_giving_back_asks_again(
    launcher: Launcher, proxy: Proxy, kind: str, phase: tuple[str, str]
) -> None:
    run = told_to_end(launcher, proxy, (kind, phase, 4))
    assert (run.status, run.receipt["gone"]) == (5, True), run.err
    assert proxy.struck(kind) == 4


def test_giving_back_to_a_gateway_that_hangs_once(launcher: Launcher, proxy: Proxy) -> None:
    run = told_to_end(launcher, proxy, ("hang", GIVING_BACK, 1))
    assert (run.status, run.receipt["gone"]) == (5, True), run.err


@pytest.mark.parametrize("kind", ["502", "hang"])
def test_giving_back_that_is_not_confirmed(
    launcher: Launcher, gateway: GatewayServer, proxy: Proxy, kind: str
) -> None:
    """It is told, the command's own status stays, and the lease finishes it."""
    began = time.monotonic()
    run = told_to_end(
        launcher, proxy, (kind, GIVING_BACK), (kind, WAITING), flags=("--stop-timeout", "2")
    )
    assert time.monotonic() - began < 40
    assert (run.status, run.receipt["gone"]) == (5, False), run.err
    [line] = [line for line in run.err.splitlines() if "NOT confirmed gone" in line]
    assert run.cluster in line and proxy.url in line
    until_gone(gateway, 3 + 10)


# -- what stands behind the gateway


@pytest.fixture
def persistent_gateway() -> Iterator[GatewayServer]:
    server = GatewayServer(options=REFERENCE + PERSISTENT)
    yield server
    server.stop()


def test_gateway_restarted_while_the_command_runs(
    launcher: Launcher, persistent_gateway: GatewayServer
) -> None:
    claim = {"gateway_url": persistent_gateway.url, **SMALL}
    run = launcher.start(*TASK_LATER, claim=claim, stdin=subprocess.PIPE)
    until_ready(run)
    until_leased(persistent_gateway)
    persistent_gateway.kill()
    persistent_gateway.restart()
    assert persistent_gateway.clusters() == [run.until(r"Cluster (\w+) is requested").group(1)]
    until_leased(persistent_gateway)
    run.process.stdin.write(b"\n")
    ended = run.finish(90)
    assert (ended.status, ended.out) == (0, b"42\n"), ended.err
    assert ended.receipt["gone"] is True
    assert persistent_gateway.clusters() == []


def test_gateway_restarted_after_the_launcher_has_given_up(
    launcher: Launcher, persistent_gateway: GatewayServer
) -> None:
    claim = {"gateway_url": persistent_gateway.url, **SMALL, "lease_timeout": 3}
    run = launcher.start(
        *WAITING_COMMAND, claim=claim, stdin=subprocess.PIPE, flags=("--stop-timeout", "2")
    )
    until_ready(run)
    until_leased(persistent_gateway)
    persistent_gateway.kill()
    run.process.communicate(b"\n", timeout=60)
    ended = run.finish()
    assert (ended.status, ended.receipt["gone"]) == (5, False), ended.err
    persistent_gateway.restart()
    until_gone(persistent_gateway, 30)


def test_scheduler_is_killed(launcher: Launcher, gateway: GatewayServer) -> None:
    claim = {"gateway_url": gateway.url, **SMALL}
    run = launcher.start(*WAITING_COMMAND, claim=claim, stdin=subprocess.PIPE)
    until_ready(run)
    until_leased(gateway)
    [scheduler] = processes_of(gateway, "scheduler")
    os.kill(scheduler, signal.SIGKILL)
    run.process.communicate(b"\n", timeout=60)
    ended = run.finish()
    assert (ended.status, ended.receipt["gone"]) == (5, True), ended.err


def test_all_workers_are_killed(launcher: Launcher, gateway: GatewayServer) -> None:
    claim = {"gateway_url": gateway.url, "min_workers": 1, "max_workers": 2}
    run = launcher.start(
        *TASK_LATER, claim=claim, stdin=subprocess.PIPE, flags=("--start", "workers")
    )
    until_ready(run)
    workers = processes_of(gateway, "worker")
    assert workers
    for worker in workers:
        os.kill(worker, signal.SIGKILL)
    run.process.stdin.write(b"\n")
    ended = run.finish(120)
    assert (ended.status, ended.out) == (0, b"42\n"), ended.err
    assert ended.receipt["gone"] is True


# -- commands


@pytest.mark.parametrize(
    ("program", "status"),
    [
        ("from distributed import Client; Client().shutdown(); exit(4)", 4),
        ("import os; os.kill(os.getpid(), 9)", 137),  # as the kernel does it without memory
        ("import ctypes; ctypes.string_at(0)", 139),
        ("import os; os.abort()", 134),
    ],
)
def test_command_that_dies(
    launcher: Launcher, gateway: GatewayServer, program: str, status: int
) -> None:
    run = launcher(PYTHON, "-c", program, claim={"gateway_url": gateway.url, **SMALL})
    assert (run.status, run.receipt["gone"]) == (status, True), run.err


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGKILL])
def test_command_that_ignores_sigterm(
    launcher: Launcher, gateway: GatewayServer, signum: signal.Signals
) -> None:
    """Whoever ends it, the launcher or, where that is killed, its guard."""
    run = launcher.start(
        "sh", "-c", "trap '' TERM; echo ready; while :; do sleep 0.1; done",
        claim={"gateway_url": gateway.url, **SMALL}, flags=("--grace", "1"),
    )  # fmt: skip
    until_ready(run)
    if signum == signal.SIGKILL:
        kill(run)
        wait_for(lambda: not processes_with(launcher.marker), "end of all processes", 30)
    else:
        run.process.send_signal(signum)
        ended = run.finish()
        assert (ended.status, ended.receipt["gone"]) == (137, True), ended.err


# -- many


def test_more_launchers_than_the_limit_allows(launcher: Launcher) -> None:
    """Those refused wait for their turn, without a storm of requests."""
    server = GatewayServer(options=REFERENCE + LIMITED + "LIMIT = 2\n")
    try:
        claim = {"gateway_url": server.url, **SMALL}
        runs = [launcher.start("sh", "-c", f"exit {n}", claim=claim) for n in range(8)]
        for n, run in enumerate(runs):
            ended = run.finish(180)
            assert (ended.status, ended.receipt["gone"]) == (n, True), ended.err
        assert server.clusters() == []
        log = server.log.read_text()
        refused = sum(" 422 POST /api/v1/clusters/ " in line for line in log.splitlines())
        assert 0 < refused < 8 * 8
    finally:
        server.stop()


def test_list_of_clusters_that_fails(launcher: Launcher, proxy: Proxy) -> None:
    """It is asked for before a cluster is requested: nothing is made that could be lost."""
    proxy.fault("502", LISTING)
    run = launcher("true", claim=proxy.claim(), flags=("--start-timeout", "9"))
    assert (run.status, run.cluster, run.receipt["gone"]) == (75, None, None), run.err


def test_file_that_only_the_program_sees(launcher: Launcher, tmp_path: Path) -> None:
    here = tmp_path / "scene.tif"
    here.touch()
    program = (
        "from distributed import Client\n"
        "def read(path): raise OSError(f'{path}: No such file or directory')\n"
        f"with Client() as c: c.submit(read, {str(here)!r}).exception()"
    )
    run = launcher(PYTHON, "-c", program)
    assert run.status == 0, run.err
    [warning] = run.receipt["warnings"]
    assert "on worker tls://" in warning and f"{here} exists here" in warning
    assert run.receipt["tasks"]["failed"] == 1
