"""Standard descriptors that are closed, or take nothing: the command's end is what counts."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from tests.support.gateway import clean_environment
from tests.support.launcher import DASK_CLAIM, PYTHON, Launcher

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


def closing(closed: str) -> tuple[str, ...]:
    """What to start a program by, which finds these closed."""
    return ("bash", "-c", f'exec "$@" {closed}', "-")


@pytest.mark.parametrize(
    "closed", [pytest.param("<&- >&-", marks=pytest.mark.deep), "<&- >&- 2>&-"]
)
def test_closed_with_a_cluster_here(launcher: Launcher, tmp_path: Path, closed: str) -> None:
    """The command finds them closed; workers never have a connection there.

    Nor does the working directory have to be there any more.
    """
    (gone := tmp_path / "gone").mkdir()
    file = tmp_path / "told"
    run = launcher(
        PYTHON, "-c", PROGRAM, str(file), claim={"max_workers": 1}, cwd=gone,
        before=("sh", "-c", 'rmdir "$PWD"; exec "$@"', "sh", *closing(closed)),
    )  # fmt: skip
    assert (run.status, run.receipt["exit_status"]) == (7, 7), run.err
    assert "Traceback" not in run.err
    own, worker = json.loads(file.read_text())
    assert own[:2] == [None, None] and (own[2] is None) == ("2>&-" in closed)
    # A worker's output goes where the log goes; its stdin is the launcher's.
    assert worker[0].startswith("pipe:")
    assert worker[1] == worker[2]
    assert worker[2] == "/dev/null" if "2>&-" in closed else worker[2].endswith(".log")


# Which of them are open, told by a file: none is opened before they are looked at.
OPEN = "for n in 0 1 2; do [ -e /proc/$$/fd/$n ] && open=$open$n; done; echo $open >told; exit 7"


def test_closed(attached: Launcher, tmp_path: Path) -> None:
    runs = {}
    for closed, left in {"<&-": "12", ">&-": "02", "2>&-": "01"}.items():
        (tmp_path / left).mkdir()
        command = ("sh", "-c", OPEN)
        runs[left] = attached.start(*command, before=closing(closed), cwd=tmp_path / left)
    for left, run in runs.items():
        assert run.finish().status == 7, run.err
        assert (tmp_path / left / "told").read_text() == f"{left}\n"


@pytest.mark.parametrize(
    ("words", "closed", "status"),
    [
        (["show"], ">&-", 0),
        (["show"], "2>&-", 0),
        (["--", "/no/such/command"], ">&- 2>&-", 127),
        (["--nonsense"], "<&- >&- 2>&-", 64),
    ],
)
def test_statuses_stay(
    scheduler: dict[str, str], words: list[str], closed: str, status: int
) -> None:
    command = [*closing(closed), DASK_CLAIM, *words]
    assert subprocess.run(command, env=clean_environment(**scheduler)).returncode == status


def test_full_log(attached: Launcher) -> None:
    """A log that nobody can write changes nothing."""
    run = attached("sh", "-c", "echo out; exit 3", before=closing("2>/dev/full"))
    assert (run.status, run.out) == (3, b"out\n")
