"""An interactive command on a real terminal, under a real shell: keys, Ctrl-C, Ctrl-Z and fg."""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pexpect
import pytest

from tests.support.gateway import clean_environment
from tests.support.launcher import DASK_CLAIM, PYTHON, wait_for

pytestmark = pytest.mark.slow

PROMPT = "PROMPT# "


@pytest.fixture
def shell() -> Iterator[pexpect.spawn]:
    """An interactive bash on a terminal of its own."""
    env = clean_environment(PS1=PROMPT, TERM="dumb", PYTHON=PYTHON)
    bash = pexpect.spawn(
        "bash", ["--norc", "--noprofile", "-i"], env=env, echo=False, timeout=30, encoding="utf-8"
    )
    bash.logfile_read = sys.stdout
    bash.expect_exact(PROMPT)
    bash.sendline("bind 'set enable-bracketed-paste off'")
    bash.expect_exact(PROMPT)
    yield bash
    bash.close(force=True)


def claimed(shell: pexpect.spawn, command: str) -> None:
    shell.sendline(f"{DASK_CLAIM} -q -- {command}")


def status(shell: pexpect.spawn) -> int:
    shell.expect_exact(PROMPT)
    shell.sendline('echo "status=$?"')
    shell.expect(r"status=(\d+)")
    found = int(shell.match.group(1))
    shell.expect_exact(PROMPT)
    return found


def test_keyboard_and_end_of_file(shell: pexpect.spawn) -> None:
    claimed(shell, "sh -c 'echo ready; while read line; do echo got $line; done; exit 7'")
    shell.expect_exact("ready")
    shell.sendline("first")
    shell.expect_exact("got first")
    shell.sendeof()
    assert status(shell) == 7


def test_interactive_python(shell: pexpect.spawn) -> None:
    claimed(shell, "$PYTHON -q -i -c 'from distributed import Client; c = Client()'")
    shell.expect_exact(">>> ")
    shell.sendline("c.submit(sum, [20, 22]).result()")
    shell.expect_exact("42")
    shell.sendintr()
    shell.expect_exact("KeyboardInterrupt")
    shell.sendline("c.close(); raise SystemExit(5)")
    assert status(shell) == 5


def test_control_c_ends_the_command(shell: pexpect.spawn) -> None:
    claimed(shell, "sh -c 'echo ready; exec sleep 60'")
    shell.expect_exact("ready")
    shell.sendintr()
    assert status(shell) == 130


def test_control_c_while_pending(shell: pexpect.spawn) -> None:
    shell.sendline(f"{DASK_CLAIM} -- sh -c 'echo never'")
    shell.expect_exact("Claiming")
    shell.sendintr()
    assert status(shell) == 130


def test_stop_and_foreground(shell: pexpect.spawn) -> None:
    claimed(shell, "sh -c 'echo ready; while read line; do echo got $line; done; exit 7'")
    shell.expect_exact("ready")
    for word in ("first", "second"):
        shell.sendcontrol("z")
        shell.expect_exact("Stopped")
        shell.expect_exact(PROMPT)
        shell.sendline("echo $((40 + 2))")
        shell.expect_exact("42")
        shell.expect_exact(PROMPT)
        shell.sendline("fg")
        shell.sendline(word)
        shell.expect_exact(f"got {word}")
    shell.sendeof()
    assert status(shell) == 7


def test_stop_and_background(shell: pexpect.spawn, tmp_path: Path) -> None:
    # Not a loop around `sleep`: a Ctrl-Z that meets the shell between vfork and exec stops the one
    # and leaves the other waiting, with no launcher in sight.
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    claimed(shell, f"sh -c 'echo ready; read line < {fifo}; echo $line'")
    shell.expect_exact("ready")
    shell.sendcontrol("z")
    shell.expect_exact("Stopped")
    shell.expect_exact(PROMPT)
    shell.sendline("bg")
    shell.expect_exact(PROMPT)
    writer = os.open(fifo, os.O_RDWR)  # unlike O_WRONLY it does not wait for the reader
    os.write(writer, b"finished\n")
    shell.expect_exact("finished")
    os.close(writer)
    shell.sendline("wait")
    shell.expect_exact(PROMPT)


def test_pipeline_leaves_the_keyboard_to_its_other_end(shell: pexpect.spawn) -> None:
    reader = "import sys; sys.stdin.read(); print('typed', open('/dev/tty').readline())"
    claimed(shell, f'sh -c "echo through" | $PYTHON -c "{reader}"')
    shell.sendline("hello")
    shell.expect_exact("typed hello")
    shell.expect_exact(PROMPT)


def test_command_in_a_pipeline_can_read_the_keyboard(shell: pexpect.spawn) -> None:
    claimed(shell, "sh -c 'echo ready >&2; read line; echo got $line' | cat")
    shell.expect_exact("ready")
    shell.sendline("hello")
    shell.expect_exact("got hello")
    shell.expect_exact(PROMPT)


def test_without_a_shell(tmp_path: Path) -> None:
    """As a container's first process with a terminal: nobody could continue a stopped job."""
    command = pexpect.spawn(
        DASK_CLAIM, ["-q", "--", "sh", "-c", "echo ready; read line; echo got $line"],
        env=clean_environment(), timeout=30, encoding="utf-8",
    )  # fmt: skip
    command.expect_exact("ready")
    command.sendcontrol("z")
    command.sendline("hello")
    command.expect_exact("got hello")
    command.expect(pexpect.EOF)
    command.close()
    assert command.exitstatus == 0
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("shell_name", ["bash", "sh"])
@pytest.mark.parametrize(
    ("moment", "goes_on"),
    [("running", False), ("through a pipe", False), ("pending", False), ("handled", True)],
)
def test_script_ends_by_ctrl_c(shell_name: str, moment: str, goes_on: bool, tmp_path: Path) -> None:
    """As without the launcher: where the command has died of it, and not where it handled it."""
    receipt = tmp_path / "receipt"
    command = {
        "running": "sh -c 'echo ready; exec sleep 60'",
        "through a pipe": "sh -c 'echo ready; exec sleep 60' | cat",
        "pending": "true",
        "handled": f"{PYTHON} -c '{HANDLES}'",
    }[moment]
    kind = "--provider attach" if moment == "pending" else "-q --no-create"
    flags = f"--receipt {receipt} {kind}"
    script = f"{DASK_CLAIM} {flags} -- {command}; echo went on"
    # Takes connections, and says nothing.
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"tcp://127.0.0.1:{silent.getsockname()[1]}"
        env = clean_environment(DASK_SCHEDULER_ADDRESS=address)
        child = pexpect.spawn(shell_name, ["-c", script], env=env, timeout=30, encoding="utf-8")
        child.logfile_read = sys.stdout
        child.expect_exact("Using the running" if moment == "pending" else "ready")
        child.sendintr()
        assert child.expect_exact([pexpect.EOF, "went on"]) == (1 if goes_on else 0)
        child.close()
    written = json.loads(receipt.read_text())["exit_status"]
    assert written == (3 if goes_on else 130)
    assert goes_on or child.signalstatus == signal.SIGINT or child.exitstatus == 130


@pytest.mark.parametrize("shell_name", ["bash", "sh"])
def test_script_goes_on_after_sigint_to_the_launcher_alone(shell_name: str, tmp_path: Path) -> None:
    """`kill -INT` ends the run it was meant for, not the script or the pipeline around it."""
    receipt = tmp_path / "receipt"
    command = "sh -c 'echo ready $PPID; exec sleep 60'"
    script = f"{DASK_CLAIM} --receipt {receipt} -q --no-create -- {command}; echo went on $?"
    child = pexpect.spawn(
        shell_name, ["-c", script], env=clean_environment(), timeout=30, encoding="utf-8"
    )
    child.logfile_read = sys.stdout
    child.expect(r"ready (\d+)")
    wait_for(lambda: os.tcgetpgrp(child.child_fd) != child.pid, "foreground of the command")
    os.kill(int(child.match[1]), signal.SIGINT)
    child.expect_exact("went on 130")
    child.expect(pexpect.EOF)
    child.close()
    assert (child.exitstatus, json.loads(receipt.read_text())["exit_status"]) == (0, 130)


HANDLES = """
import signal, sys
signal.signal(signal.SIGINT, lambda signum, frame: sys.exit(3))
print("ready", flush=True)
signal.pause()
"""
