"""dask-claim as a container's first process, or below a shell that is: in a PID namespace."""

from __future__ import annotations

import json
import shlex
import signal
import subprocess
from pathlib import Path

import pexpect
import pytest

from tests.support.gateway import clean_environment
from tests.support.launcher import DASK_CLAIM, PYTHON, wait_for
from tests.support.scenes import NAMESPACE

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


def in_container(*command: str, **popen: object) -> subprocess.Popen[str]:
    """Start a command as the first process of a PID namespace of its own."""
    return subprocess.Popen(
        [*NAMESPACE, *command],
        env=clean_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **popen,
    )


@pytest.mark.slow
def test_orphans_are_reaped() -> None:
    process = in_container(DASK_CLAIM, "--", PYTHON, "-c", ORPHANS)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (7, "[]\n"), err


@pytest.mark.slow
def test_ctrl_c() -> None:
    """A first process cannot end by a signal: its status says so."""
    command = [DASK_CLAIM, "-q", "--no-create", "--", "sh", "-c", "echo ready; exec sleep 60"]
    env = clean_environment(DASK_SCHEDULER_ADDRESS="tcp://127.0.0.1:1")
    child = pexpect.spawn(NAMESPACE[0], [*NAMESPACE[1:], *command], env=env, timeout=30)
    child.expect_exact("ready")
    child.sendintr()
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 130


@pytest.mark.slow
def test_itself_is_not_deaf(tmp_path: Path) -> None:
    """Neither the run nor doctor warns of the first process, where that is dask-claim."""
    receipt = tmp_path / "receipt"
    doctor = shlex.join([DASK_CLAIM, "doctor", "--no-create"])
    command = (DASK_CLAIM, "--no-create", "--receipt", str(receipt), "--", "sh", "-c", doctor)
    out, err = in_container(*command).communicate(timeout=60)
    assert json.loads(receipt.read_text())["warnings"] == [], err
    assert "SIGTERM" not in out


@pytest.mark.slow
@pytest.mark.parametrize(("how", "status"), [("exit 3", 3), ("kill -9 $$", 137)])
def test_status_is_the_commands(how: str, status: int) -> None:
    process = in_container(DASK_CLAIM, "--", "sh", "-c", how)
    _, err = process.communicate(timeout=60)
    assert process.returncode == status, err


@pytest.mark.slow
@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_signals_reach_the_command(signum: signal.Signals, tmp_path: Path) -> None:
    program = f"trap 'exit 5' {signum.name[3:]}; echo ready; while :; do sleep 0.1; done"
    process = in_container(DASK_CLAIM, "--", "sh", "-c", program)
    assert process.stdout.readline() == "ready\n"
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    first = wait_for(lambda: children.read_text().split(), "first process of the container")
    subprocess.run(["kill", f"-{signum}", first[0]], check=True)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 5, err


@pytest.mark.slow
@pytest.mark.parametrize(
    ("trap", "warned"), [("", 1), ("trap true TERM; ", 0)], ids=["deaf", "handles SIGTERM"]
)
def test_shell_that_keeps_sigterm_to_itself(trap: str, warned: int) -> None:
    # Two commands: a shell does not replace itself by the first of them.
    line = f"{trap}{shlex.quote(DASK_CLAIM)} -- true; exit $?"
    process = in_container("sh", "-c", line)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert err.count("has no handler for SIGTERM") == warned, err
