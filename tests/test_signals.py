"""What a signal means in each phase of a run (contract §4), on a real gateway."""

from __future__ import annotations

import signal
import subprocess
import time

import pytest

from tests.support.gateway import GatewayServer
from tests.support.launcher import PYTHON, Launcher, Running
from tests.support.scenes import SMALL

FORWARDED = ["TERM", "INT", "HUP", "QUIT", "USR1", "USR2"]

# Tells that it is ready, and which signal it got.
HANDLER = """
import os, signal, sys, time
def tell(signum, frame):
    print(signal.Signals(signum).name, flush=True)
    sys.exit(9)
for name in ("TERM", "INT", "HUP", "QUIT", "USR1", "USR2"):
    signal.signal(getattr(signal, "SIG" + name), tell)
print("ready", flush=True)
time.sleep(60)
"""


def until_ready(run: Running) -> None:
    assert run.process.stdout.readline() == b"ready\n"


@pytest.mark.parametrize("name", FORWARDED)
def test_pending_the_run_ends_at_once(
    launcher: Launcher, stuck_gateway: GatewayServer, name: str
) -> None:
    run = launcher.start("sh", "-c", "echo started", claim={"gateway_url": stuck_gateway.url})
    run.until("is requested")
    began = time.monotonic()
    run.process.send_signal(signal.Signals[f"SIG{name}"])
    ended = run.finish()
    assert ended.status == 128 + signal.Signals[f"SIG{name}"], ended.err
    assert time.monotonic() - began < 15
    assert ended.out == b""
    assert ended.receipt["gone"] is True
    assert ended.receipt["timeline"]["command_start"] is None
    assert f"SIG{name}" in ended.receipt["error"]


@pytest.mark.parametrize("name", FORWARDED)
def test_running_it_reaches_the_command(
    launcher: Launcher, gateway: GatewayServer, name: str
) -> None:
    run = launcher.start(PYTHON, "-c", HANDLER, claim={"gateway_url": gateway.url, **SMALL})
    until_ready(run)
    run.process.send_signal(signal.Signals[f"SIG{name}"])
    ended = run.finish()
    assert (ended.status, ended.out) == (9, f"SIG{name}\n".encode()), ended.err
    assert ended.receipt["gone"] is True


@pytest.mark.parametrize("name", FORWARDED)
def test_giving_back_it_is_noted(launcher: Launcher, gateway: GatewayServer, name: str) -> None:
    run = launcher.start("sh", "-c", "exit 3", claim={"gateway_url": gateway.url, **SMALL})
    run.until("The command ended with status 3")
    for _ in range(3):
        run.process.send_signal(signal.Signals[f"SIG{name}"])
    ended = run.finish()
    assert ended.status == 3, ended.err
    assert ended.receipt["gone"] is True


@pytest.mark.parametrize("name", FORWARDED)
def test_a_command_that_handles_nothing_ends_by_the_signal(launcher: Launcher, name: str) -> None:
    run = launcher.start("sh", "-c", "echo ready; exec sleep 60", claim=SMALL)
    until_ready(run)
    run.process.send_signal(signal.Signals[f"SIG{name}"])
    assert run.finish().status == 128 + signal.Signals[f"SIG{name}"]


def test_pending_local(launcher: Launcher) -> None:
    run = launcher.start("sh", "-c", "echo started")
    run.until("Claiming")
    run.process.send_signal(signal.SIGTERM)
    ended = run.finish()
    assert (ended.status, ended.out) == (143, b""), ended.err


def test_two_signals_while_pending(launcher: Launcher, stuck_gateway: GatewayServer) -> None:
    run = launcher.start("true", claim={"gateway_url": stuck_gateway.url})
    run.until("is requested")
    run.process.send_signal(signal.SIGTERM)
    run.process.send_signal(signal.SIGINT)
    ended = run.finish()
    assert ended.status in (130, 143)
    assert ended.receipt["gone"] is True


def test_term_while_an_eager_command_waits(
    launcher: Launcher, stuck_gateway: GatewayServer
) -> None:
    run = launcher.start(
        PYTHON, "-c", HANDLER, claim={"gateway_url": stuck_gateway.url}, flags=("--start", "eager")
    )
    until_ready(run)
    run.process.send_signal(signal.SIGTERM)
    ended = run.finish()
    assert (ended.status, ended.out) == (9, b"SIGTERM\n"), ended.err
    assert ended.receipt["gone"] is True


def test_the_whole_process_group_gets_it(launcher: Launcher) -> None:
    # dash does not pass SIGTERM on to what it waits for.
    run = launcher.start(
        "sh", "-c", f'{PYTHON} -c "$PROGRAM"; exit 4', claim=SMALL, env={"PROGRAM": HANDLER}
    )
    until_ready(run)
    run.process.send_signal(signal.SIGTERM)
    ended = run.finish()
    assert ended.out == b"SIGTERM\n"


def test_kill_after_the_grace(launcher: Launcher, gateway: GatewayServer) -> None:
    run = launcher.start(
        "sh", "-c", "trap '' TERM; echo ready; while :; do sleep 0.1; done",
        claim={"gateway_url": gateway.url, **SMALL}, flags=("--grace", "0.5"),
    )  # fmt: skip
    until_ready(run)
    run.process.send_signal(signal.SIGTERM)
    ended = run.finish()
    assert ended.status == 137
    assert "SIGKILL" in ended.err
    assert ended.receipt["gone"] is True


def test_a_stopped_command_can_be_ended(launcher: Launcher) -> None:
    run = launcher.start("sh", "-c", "echo ready; kill -STOP $$; sleep 60", claim=SMALL)
    until_ready(run)
    run.process.send_signal(signal.SIGTERM)
    assert run.finish(30).status == 143


def test_what_nohup_ignores_stays_ignored(launcher: Launcher) -> None:
    program = "import signal; print(signal.getsignal(signal.SIGHUP) == signal.SIG_IGN, flush=True)"
    run = launcher.start(
        PYTHON, "-c", f"{program}; print('ready', flush=True); input()",
        claim=SMALL, before=("nohup",), stdin=subprocess.PIPE,
    )  # fmt: skip
    assert run.process.stdout.readline() == b"True\n"
    until_ready(run)
    run.process.send_signal(signal.SIGHUP)
    run.process.stdin.write(b"\n")
    assert run.finish().status == 0
