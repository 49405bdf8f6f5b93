"""Standard descriptors that are closed, or take nothing: the command's end is what counts."""

from __future__ import annotations

import json
import shlex
import subprocess
from pathlib import Path

import pytest

from tests.support.gateway import clean_environment
from tests.support.launcher import DASK_CLAIM, PYTHON

# What stands at the low numbers in the command and in a worker, told by a file: a task that
# computes is part of it.
PROGRAM = """
import json, os, sys

def low():
    found = []
    for number in range(3):
        try:
            found.append(os.readlink(f"/proc/self/fd/{number}"))
        except OSError:
            found.append(None)
    return found

own = low()
from distributed import Client
with Client() as client:
    client.wait_for_workers(1)
    worker = client.submit(low, pure=False).result()
with open(sys.argv[1], "w") as file:
    json.dump([own, worker], file)
os._exit(7)
"""


@pytest.mark.slow
@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", ">&- 2>&-", "<&- >&- 2>&-"])
def test_closed(closed: str, tmp_path: Path) -> None:
    """The command finds them closed; workers never have a connection there."""
    (tmp_path / "program.py").write_text(PROGRAM)
    command = shlex.join([DASK_CLAIM, "--receipt", "receipt", "--", PYTHON, "program.py", "told"])
    done = subprocess.run(
        ["bash", "-c", f"exec {command} {closed}"],
        cwd=tmp_path, env=clean_environment(), stdin=subprocess.DEVNULL,
        capture_output=True, text=True, timeout=90,
    )  # fmt: skip
    assert done.returncode == 7, done.stderr
    assert "Traceback" not in done.stderr
    own, worker = json.loads((tmp_path / "told").read_text())
    numbers = {"<&-": 0, ">&-": 1, "2>&-": 2}
    missing = {numbers[word] for word in closed.split()}
    assert [number for number in range(3) if own[number] is None] == sorted(missing)
    # A worker's output goes where the log goes; its stdin is the launcher's.
    assert worker[0].startswith("pipe:")
    assert worker[1] == worker[2]
    assert worker[2] == "/dev/null" if 2 in missing else worker[2].startswith("pipe:")
    assert json.loads((tmp_path / "receipt").read_text())["exit_status"] == 7


@pytest.mark.parametrize(
    ("words", "closed", "status"),
    [
        (["show"], ">&-", 0),
        (["show"], "2>&-", 0),
        (["--", "/no/such/command"], ">&- 2>&-", 127),
        (["--nonsense"], "<&- >&- 2>&-", 64),
    ],
)
def test_statuses_stay(words: list[str], closed: str, status: int) -> None:
    command = f"exec {shlex.join([DASK_CLAIM, *words])} {closed}"
    assert subprocess.run(["bash", "-c", command], env=clean_environment()).returncode == status


@pytest.mark.slow
def test_full_log() -> None:
    """A log that nobody can write changes nothing."""
    command = f"exec {shlex.join([DASK_CLAIM, '--', 'sh', '-c', 'echo out; exit 3'])} 2>/dev/full"
    done = subprocess.run(
        ["bash", "-c", command],
        env=clean_environment(), stdin=subprocess.DEVNULL, capture_output=True, timeout=90,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (3, b"out\n")
