"""dask-claim as a container's first process, or below a shell that is: in a PID namespace."""

from __future__ import annotations

import os
import shlex
import signal

import pexpect
import pytest

from tests.support.launcher import DASK_CLAIM, PYTHON, Launcher, Running, processes_with, wait_for
from tests.support.scenes import NAMESPACE, children, until_ready

# Leaves ten orphans, waits until they have ended, and counts those that nobody has reaped.
ORPHANS = """
import os, subprocess, time
for _ in range(10):
    subprocess.run(["sh", "-c", "sleep 0.3 &"])
def states():
    found = []
    for pid in filter(str.isdecimal, os.listdir("/proc")):
        try:
            fields = open(f"/proc/{pid}/stat").read().rpartition(")")[2].split()
            found.append((fields[0], open(f"/proc/{pid}/comm").read().strip()))
        except OSError:
            pass
    return found
deadline = time.monotonic() + 20
while any(name == "sleep" for _, name in states()) and time.monotonic() < deadline:
    time.sleep(0.05)
print([state for state in states() if state[0] == "Z" or state[1] == "sleep"])
raise SystemExit(7)
"""


def in_container(launcher: Launcher, *command: str) -> Running:
    """Start dask-claim as the first process of a PID namespace of its own."""
    return launcher.start(*command, before=NAMESPACE)


def first_process(run: Running) -> int:
    return wait_for(lambda: children(run.process.pid), "first process of the container")[0]


def test_orphans_are_reaped(launcher: Launcher) -> None:
    """With a cluster here, whose processes are some more."""
    launcher.variables["DASK_CLAIM_MAX_WORKERS"] = "1"
    run = in_container(launcher, PYTHON, "-c", ORPHANS).finish()
    assert (run.status, run.out) == (7, b"[]\n"), run.err


def test_ctrl_c(attached: Launcher) -> None:
    """A first process cannot end by a signal: its status says so."""
    command = (DASK_CLAIM, "-q", "--no-create", "--", "sh", "-c", "echo ready; exec sleep 60")
    child = attached.terminal(*NAMESPACE, *command)
    child.expect_exact("ready")
    child.sendintr()
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 130


@pytest.mark.parametrize("way_in", ["command line", "run()"], indirect=True)
def test_itself_is_not_deaf(way_in: Launcher) -> None:
    """Neither the run nor doctor warns of the first process, where that is dask-claim.

    A program's signals are its own, nor would advice on how to start dask-claim help it.
    """
    doctor = shlex.join([DASK_CLAIM, "doctor", "--no-create"])
    run = in_container(way_in, "sh", "-c", doctor).finish()
    assert run.receipt["warnings"] == [], run.err
    assert run.out and b"SIGTERM" not in run.out


def test_signals_reach_the_command(attached: Launcher) -> None:
    program = "trap 'echo INT' INT; trap 'exit 5' TERM; echo ready; while :; do sleep 0.1; done"
    run = in_container(attached, "sh", "-c", program)
    until_ready(run)
    first = first_process(run)
    os.kill(first, signal.SIGINT)
    assert run.process.stdout.readline() == b"INT\n", run.err
    os.kill(first, signal.SIGTERM)
    ended = run.finish()
    assert ended.status == 5, ended.err


@pytest.mark.parametrize(
    ("trap", "warned"), [("", 1), ("trap true TERM; ", 0)], ids=["deaf", "handles SIGTERM"]
)
def test_shell_that_keeps_sigterm_to_itself(attached: Launcher, trap: str, warned: int) -> None:
    # Two commands: a shell does not replace itself by the first of them.
    run = attached("true", before=(*NAMESPACE, "sh", "-c", f'{trap}"$@"; exit $?', "-"))
    assert run.status == 0, run.err
    assert run.err.count("has no handler for SIGTERM") == warned, run.err


def test_failed_test_leaves_nothing(attached: Launcher) -> None:
    """The tests' own `Launcher` ends whatever a test has left, and tells that it was there."""
    program = "setsid sleep 300 & echo ready; exec sleep 300"
    for before in (NAMESPACE, ("setsid", "--fork")):
        until_ready(attached.start("sh", "-c", program, before=before))
    assert len(processes_with(attached.marker)) > 6
    with pytest.raises(AssertionError, match="no end of all processes"):
        attached.end(patience=1)
    assert processes_with(attached.marker) == []
