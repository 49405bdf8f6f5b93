"""What a signal means in each phase of a run (contract §4)."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess

import pytest

from tests.support.gateway import GatewayServer
from tests.support.launcher import PYTHON, RUNS, Launcher, Running, wait_for
from tests.support.scenes import SMALL, until_ready

FORWARDED = ["USR1", "USR2", "HUP", "INT", "QUIT", "TERM"]

# Tells that it is ready, and which signals it gets, up to SIGTERM or Ctrl-C.
HANDLER = """
import os, signal, time
def tell(signum, frame):
    name = signal.Signals(signum).name
    os.write(1, name.encode() + b"\\n")  # what it interrupts may be a print
    if name[3:] in os.environ.get("LAST", "TERM"):
        os._exit(9)
for name in ("TERM", "INT", "HUP", "QUIT", "USR1", "USR2"):
    signal.signal(getattr(signal, "SIG" + name), tell)
print("ready", flush=True)
while True:
    time.sleep(60)
"""


def send(run: Running, *names: str) -> None:
    for name in names:
        run.process.send_signal(signal.Signals[f"SIG{name}"])


@pytest.mark.parametrize(
    "names",
    [
        "TERM INT", "HUP",
        *(pytest.param(each, marks=pytest.mark.deep) for each in ("INT", "QUIT", "USR1", "USR2")),
    ],
)  # fmt: skip
def test_pending_the_run_ends_at_once(
    launcher: Launcher, stuck_gateway: GatewayServer, names: str
) -> None:
    """Also where two come."""
    run = launcher.start("sh", "-c", "echo started", claim={"gateway_url": stuck_gateway.url})
    run.until("is requested")
    send(run, *names.split())
    ended = run.finish(20)
    signums = {signal.Signals[f"SIG{name}"] for name in names.split()}
    assert ended.status in {128 + signum for signum in signums}, ended.err
    assert ended.out == b""
    assert ended.receipt["gone"] is True
    assert ended.receipt["timeline"]["command_start"] is None
    assert any(signum.name in ended.receipt["error"] for signum in signums)


@pytest.mark.parametrize("way_in", RUNS[:2], indirect=True)
def test_running_it_reaches_the_command(way_in: Launcher) -> None:
    """Of the signals that a program gets, only one that interrupts its `run()`."""
    both = way_in.way == "command line"
    names = FORWARDED if both else ["INT"]
    run = way_in.start(PYTHON, "-c", HANDLER, env={"LAST": names[-1]})
    until_ready(run)
    for name in names:
        send(run, name)
        assert run.process.stdout.readline() == f"SIG{name}\n".encode(), run.err
    ended = run.finish()
    assert (ended.receipt["exit_status"], ended.receipt["reason"]) == (9, "interrupted")
    # The program of a run that was interrupted is interrupted, too.
    assert ended.status == (9 if both else -signal.SIGINT), ended.err


def test_giving_back_it_is_noted(launcher: Launcher, gateway: GatewayServer) -> None:
    # The fault handler gives Python's handlers a small stack, too small for all of them at once.
    env = {"PYTHONFAULTHANDLER": ""}
    claim = {"gateway_url": gateway.url, **SMALL}
    run = launcher.start("sh", "-c", "exit 3", claim=claim, env=env)
    run.until("The command ended with status 3")
    send(run, *FORWARDED * 3)
    ended = run.finish()
    assert ended.status == 3, ended.err
    assert ended.receipt["gone"] is True


def test_how_a_command_ends(attached: Launcher) -> None:
    """By the signal where it handles nothing, and also where it is stopped."""
    waits = ("sh", "-c", "echo ready; exec sleep 60")
    runs = [(name, attached.start(*waits)) for name in ("USR1", "HUP", "QUIT")]
    runs.append(("TERM", attached.start("sh", "-c", "echo ready; kill -STOP $$; sleep 60")))
    # dash does not pass SIGTERM on to what it waits for: the whole group gets it.
    group = attached.start("sh", "-c", '"$0" -c "$1"; exit 4', PYTHON, HANDLER)
    for name, run in [*runs, ("TERM", group)]:
        until_ready(run)
        send(run, name)
    for name, run in runs:
        ended = run.finish()
        assert ended.status == 128 + signal.Signals[f"SIG{name}"]
        assert ended.receipt["reason"] == "interrupted"
    assert group.finish().out == b"SIGTERM\n"


def test_term_while_an_eager_command_waits(
    launcher: Launcher, stuck_gateway: GatewayServer
) -> None:
    run = launcher.start(
        PYTHON, "-c", HANDLER, claim={"gateway_url": stuck_gateway.url}, flags=("--start", "eager")
    )
    until_ready(run)
    send(run, "TERM")
    ended = run.finish()
    assert (ended.status, ended.out) == (9, b"SIGTERM\n"), ended.err
    assert ended.receipt["gone"] is True


@pytest.mark.parametrize("way_in", ["run()"], indirect=True)
def test_kill_after_the_grace(way_in: Launcher) -> None:
    run = way_in.start(
        "sh", "-c", "trap '' TERM; echo ready; while :; do sleep 0.1; done",
        env={"DASK_CLAIM_GRACE": "0.5"},
    )  # fmt: skip
    until_ready(run)
    send(run, "TERM")
    ended = run.finish()
    assert (ended.receipt["exit_status"], ended.receipt["reason"]) == (137, "interrupted")
    assert ended.status == (137 if way_in.way == "command line" else -signal.SIGTERM)
    assert "SIGKILL" in ended.err


@pytest.mark.parametrize(
    "way_in",
    ["command line", pytest.param("run() in a notebook", marks=pytest.mark.deep)],
    indirect=True,
)
def test_command_that_stops_itself(way_in: Launcher) -> None:
    """Where nobody could continue whoever runs it, that does not stop with it."""
    run = way_in.start("sh", "-c", "echo $$; kill -TSTP $$; exit 4", start_new_session=True)
    command = int(run.process.stdout.readline())

    def ended_after_sigcont() -> bool:
        with contextlib.suppress(ProcessLookupError):
            os.kill(command, signal.SIGCONT)
        return run.process.poll() is not None

    wait_for(ended_after_sigcont, "end of the command", 60, lambda: run.err)
    ended = run.finish()
    assert ended.status == 4, ended.err
    assert "Exception" not in ended.err


@pytest.mark.parametrize("way_in", ["command line", "connect()"], indirect=True)
def test_what_nohup_ignores_stays_ignored(way_in: Launcher) -> None:
    program = "import signal; print(signal.getsignal(signal.SIGHUP) == signal.SIG_IGN, flush=True)"
    run = way_in.start(
        PYTHON, "-c", f"{program}; print('ready', flush=True); input()",
        before=("nohup",), stdin=subprocess.PIPE,
    )  # fmt: skip
    assert run.process.stdout.readline() == b"True\n"
    until_ready(run)
    send(run, "HUP")
    run.process.stdin.write(b"\n")
    assert run.finish().status == 0
