"""A cluster that the launcher did not end: what the log and the receipt say of it."""

from __future__ import annotations

import os
import signal

import pytest

from tests.support.launcher import PYTHON, Launcher, Run
from tests.support.scenes import children, command_line, until_ready

pytestmark = pytest.mark.slow

# The last line of many notebooks.
SHUTDOWN = """
from distributed import Client
client = Client()
print(client.submit(sum, [20, 22]).result(), flush=True)
client.shutdown()
"""

# Ends as soon as its scheduler is lost.
COMPUTES = """
import sys, time
from distributed import Client
with Client() as client:
    future = client.submit(time.sleep, 60)
    print("ready", flush=True)
    try:
        future.result(timeout=50)
    except Exception as error:
        sys.exit(7)
"""


def nothing_untrue(run: Run) -> None:
    """The launcher has confirmed the end, and does not say that it was its own doing."""
    assert run.receipt is None or run.receipt["gone"] is True
    assert "was already gone" in run.err and "stopped after" not in run.err, run.err


def told(run: Run, words: str) -> None:
    """One warning, in the log and in the receipt."""
    assert run.err.count(words) == 1, run.err
    assert [words in warning for warning in run.receipt["warnings"]] == [True]
    nothing_untrue(run)


@pytest.mark.parametrize("start", ["ready", "eager"])
def test_program_shuts_a_local_cluster_down(launcher: Launcher, start: str) -> None:
    run = launcher(PYTHON, "-c", SHUTDOWN, flags=("--start", start), claim={"max_workers": 1})
    assert (run.status, run.out) == (0, b"42\n"), run.err
    assert run.err.count("The local cluster was shut down by a client (client.shutdown())") == 1
    nothing_untrue(run)
    assert run.receipt["warnings"] == []
    # Neither a worker nor its nanny complains.
    assert "Traceback" not in run.err and "ERROR" not in run.err, run.err


def test_block_shuts_its_cluster_down(launcher: Launcher) -> None:
    program = (
        "import dask_claim\n"
        "with dask_claim.connect() as client:\n"
        "    print(client.submit(sum, [20, 22]).result(), flush=True)\n"
        "    client.shutdown()\n"
    )
    run = launcher.program(program, claim={"max_workers": 1}).finish()
    assert (run.status, run.out) == (0, b"42\n"), run.err
    assert "was shut down by a client" in run.err
    nothing_untrue(run)
    assert "Traceback" not in run.err, run.err


def test_death_of_the_process_that_holds_a_local_cluster(launcher: Launcher) -> None:
    """As the kernel ends it where memory runs out; the command ends at once."""
    run = launcher.start(PYTHON, "-c", COMPUTES, claim={"max_workers": 1})
    until_ready(run)
    (host,) = (pid for pid in children(run.process.pid) if "local/host.py" in command_line(pid))
    os.kill(host, signal.SIGKILL)
    ended = run.finish()
    assert ended.status == 7
    told(ended, "The local cluster has ended by itself: its process was killed by SIGKILL")
