"""An interactive command on a real terminal, under a real shell: keys, Ctrl-C, Ctrl-Z and fg."""

from __future__ import annotations

import json
import os
import shlex
import signal
import socket
import time
from pathlib import Path

import pexpect
import pytest

from tests.support.launcher import (
    DASK_CLAIM,
    PROMPT,
    PYTHON,
    Launcher,
    processes_with,
    wait_for,
)

# In a line for a shell.
OURS, ITS_PYTHON = shlex.quote(DASK_CLAIM), shlex.quote(PYTHON)
READER = "sh -c 'echo ready; while read line; do echo got $line; done; exit 7'"


@pytest.fixture
def shell(attached: Launcher) -> pexpect.spawn:
    return attached.shell(TERM="dumb")


def claimed(shell: pexpect.spawn, command: str) -> None:
    shell.sendline(f"{OURS} -q -- {command}")


def status(shell: pexpect.spawn) -> int:
    shell.expect_exact(PROMPT)
    shell.sendline('echo "status=$?"')
    shell.expect(r"status=(\d+)")
    found = int(shell.match.group(1))
    shell.expect_exact(PROMPT)
    return found


def stop(shell: pexpect.spawn) -> None:
    shell.sendcontrol("z")
    shell.expect_exact("Stopped")
    shell.expect_exact(PROMPT)


def until_lent(terminal: pexpect.spawn) -> None:
    """Wait until neither the program that leads the session nor the launcher has the keyboard.

    What a command writes in its first moment may come before that.
    """

    def lent() -> bool:
        try:
            group = os.tcgetpgrp(terminal.child_fd)
            leaders = Path(f"/proc/{group}/environ").read_bytes()
        except OSError:  # it has ended since
            return False
        return group != terminal.pid and b"DASK_CLAIM_RUN_ID=" in leaders

    wait_for(lent, "foreground of the command")


def test_interactive_python(shell: pexpect.spawn) -> None:
    """Ctrl-C is for it, not for the processes of the local cluster that it has."""
    shell.sendline("unset DASK_SCHEDULER_ADDRESS; export DASK_CLAIM_MAX_WORKERS=1")
    shell.expect_exact(PROMPT)
    claimed(shell, f"{ITS_PYTHON} -q -i -c 'from distributed import Client; c = Client()'")
    shell.expect_exact(">>> ")
    shell.sendline("c.submit(sum, [20, 22]).result()")
    shell.expect_exact("42")
    shell.expect_exact(">>> ")
    shell.sendintr()
    shell.expect_exact("KeyboardInterrupt")
    shell.expect_exact(">>> ")
    shell.sendline("c.submit(sum, [20, 23]).result()")
    shell.expect_exact("43")
    shell.sendline("c.close(); raise SystemExit(5)")
    assert status(shell) == 5


def test_stop_and_foreground(shell: pexpect.spawn) -> None:
    """Keyboard and end of file are the command's, before and after."""
    claimed(shell, READER)
    shell.expect_exact("ready")
    shell.sendline("key")
    shell.expect_exact("got key")
    for word in ("first", "second"):
        stop(shell)
        shell.sendline("echo $((40 + 2))")
        shell.expect_exact("42")
        shell.expect_exact(PROMPT)
        shell.sendline("fg")
        until_lent(shell)
        shell.sendline(word)
        shell.expect_exact(f"got {word}")
    shell.sendeof()
    assert status(shell) == 7


COUNTS = """
import os, signal, sys
signal.signal(signal.SIGCONT, lambda signum, frame: os.write(1, b"woken\\n"))
print("ready", flush=True)
print(open(sys.argv[1]).readline())
"""


@pytest.mark.parametrize("builtin", ["fg", "bg"])
def test_continued_once(shell: pexpect.spawn, tmp_path: Path, builtin: str) -> None:
    """One more SIGCONT, a moment later, would undo a Ctrl-Z."""
    # Not a loop around `sleep`: a Ctrl-Z that meets the shell between vfork and exec stops the one
    # and leaves the other waiting, with no launcher in sight.
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    (tmp_path / "counts").write_text(COUNTS)
    claimed(shell, f"{ITS_PYTHON} '{tmp_path}/counts' '{fifo}'")
    shell.expect_exact("ready")
    stop(shell)
    shell.sendline(builtin)
    shell.expect_exact("woken")
    time.sleep(0.3)  # for one too many
    writer = os.open(fifo, os.O_RDWR)  # unlike O_WRONLY it does not wait for the reader
    os.write(writer, b"finished\n")
    shell.expect_exact("finished")
    os.close(writer)
    assert "woken" not in shell.before
    shell.sendline("wait")
    shell.expect_exact(PROMPT)


TYPED = "import sys; sys.stdin.read(); print('got', open('/dev/tty').readline())"


@pytest.mark.parametrize(
    ("ours", "other"),
    [
        ("sh -c 'echo ready >&2'", f' | {ITS_PYTHON} -c "{TYPED}"'),
        ("sh -c 'echo ready >&2; read line; echo got $line'", " | cat"),
    ],
    ids=["the other end reads", "the command reads"],
)
def test_keyboard_of_a_pipeline(shell: pexpect.spawn, ours: str, other: str) -> None:
    """Is of whichever part reads it."""
    claimed(shell, f"{ours}{other}")
    shell.expect_exact("ready")
    shell.sendline("hello")
    shell.expect_exact("got hello")
    shell.expect_exact(PROMPT)


def test_without_a_shell(attached: Launcher) -> None:
    """As a container's first process with a terminal: nobody could continue a stopped job."""
    command = attached.terminal(
        DASK_CLAIM, "-q", "--", "sh", "-c", "echo ready; read line; echo got $line"
    )
    command.expect_exact("ready")
    command.sendcontrol("z")
    command.sendline("hello")
    command.expect_exact("got hello")
    command.expect(pexpect.EOF)
    command.close()
    assert command.exitstatus == 0


FROM_PYTHON = """
import dask_claim, threading
def work():
    dask_claim.run(["sh", "-c", "echo ready; read line; echo got $line; exec sleep 60"])
thread = threading.Thread(target=work)
thread.start()
thread.join()
print("went on")
"""


def test_run_in_a_program(shell: pexpect.spawn, tmp_path: Path) -> None:
    """Its command has the keyboard, also below a thread; Ctrl-C ends command and program."""
    (tmp_path / "program").write_text(FROM_PYTHON)
    shell.sendline(f"{ITS_PYTHON} '{tmp_path}/program'")
    shell.expect_exact("ready")
    until_lent(shell)
    shell.sendline("key")
    shell.expect_exact("got key")
    shell.sendintr()
    shell.expect_exact("KeyboardInterrupt")
    assert status(shell) == 130


HANDLES = """
import signal, sys
signal.signal(signal.SIGINT, lambda signum, frame: sys.exit(3))
print("ready", flush=True)
signal.pause()
"""

# The shell of a script is seldom what leads its session, whose end would send SIGHUP to the rest.
LEADER = 'trap : INT; "$@"; echo "script ended with $?"'


@pytest.mark.parametrize(
    ("shell_name", "moment", "goes_on"),
    [
        ("sh", "running", False), ("bash", "through a pipe", False), ("sh", "pending", False),
        ("bash", "handled", True),
    ],
)  # fmt: skip
def test_script_ends_by_ctrl_c(
    launcher: Launcher, shell_name: str, moment: str, goes_on: bool, tmp_path: Path
) -> None:
    """As without the launcher: where the command has died of it, and not where it handled it."""
    receipt = tmp_path / "receipt"
    command = {
        "running": "sh -c 'echo ready; exec sleep 60'",
        "through a pipe": "sh -c 'echo ready; exec sleep 60' | cat",
        "pending": "true",
        "handled": f"{ITS_PYTHON} -c '{HANDLES}'",
    }[moment]
    kind = "--provider attach" if moment == "pending" else "-q --no-create"
    script = f"{OURS} --receipt {shlex.quote(str(receipt))} {kind} -- {command}; echo went on"
    # Takes connections, and says nothing.
    with socket.create_server(("127.0.0.1", 0)) as silent:
        child = launcher.terminal(
            "bash", "-c", LEADER, "-", shell_name, "-c", script,
            DASK_SCHEDULER_ADDRESS=f"tcp://127.0.0.1:{silent.getsockname()[1]}",
        )  # fmt: skip
        child.expect_exact("Using the running" if moment == "pending" else "ready")
        if moment in ("running", "handled"):
            until_lent(child)
        child.sendintr()
        child.expect(r"script ended with (\d+)")
        assert ("went on" in child.before) == goes_on
        assert goes_on or child.match[1] == "130"
        child.expect(pexpect.EOF)
        # dash dies at once of what its command gets, too.
        wait_for(lambda: not processes_with(launcher.marker), "end of the launcher")
    assert json.loads(receipt.read_text())["exit_status"] == (3 if goes_on else 130)


ANSWERS = """
import os, signal
signal.signal(signal.SIGINT, signal.SIG_DFL)
signal.signal(signal.SIGUSR1, lambda signum, frame: os.write(1, b"lent\\n"))
print("ready", os.getppid(), flush=True)
while True:
    signal.pause()
"""


@pytest.mark.parametrize("shell_name", ["bash", pytest.param("sh", marks=pytest.mark.deep)])
def test_script_goes_on_after_sigint_to_the_launcher_alone(
    attached: Launcher, shell_name: str, tmp_path: Path
) -> None:
    """`kill -INT` ends the run it was meant for, not the script or the pipeline around it."""
    receipt = tmp_path / "receipt"
    ours = f"{OURS} --receipt {shlex.quote(str(receipt))} -q --no-create"
    command = f"{ours} -- {ITS_PYTHON} -c '{ANSWERS}'"
    child = attached.terminal(shell_name, "-c", f"{command}; echo went on $?")
    child.expect(r"ready (\d+)")
    process = int(child.match[1])
    until_lent(child)
    os.kill(process, signal.SIGUSR1)  # the launcher, too, knows that the terminal is lent
    child.expect_exact("lent")
    os.kill(process, signal.SIGINT)
    child.expect_exact("went on 130")
    child.expect(pexpect.EOF)
    child.close()
    assert (child.exitstatus, json.loads(receipt.read_text())["exit_status"]) == (0, 130)
