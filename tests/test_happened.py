"""A cluster that the launcher did not end: what the log and the receipt say of it."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from typing import Any

import pytest

from dask_claim import processes
from tests.support.gateway import GatewayServer
from tests.support.launcher import (
    PYTHON,
    Launcher,
    Run,
    Running,
    nothing_untrue,
    shut_down,
    wait_for,
)
from tests.support.scenes import (
    HURRY,
    children,
    command_line,
    processes_of,
    until_leased,
    until_ready,
)

pytestmark = pytest.mark.slow

# The last line of many notebooks.
SHUTDOWN = """
from distributed import Client
client = Client()
print(client.submit(sum, [20, 22]).result(), flush=True)
client.shutdown()
"""
BLOCK = """
import dask_claim
with dask_claim.connect() as client:
    print(client.submit(sum, [20, 22]).result(), flush=True)
    client.shutdown()
"""
# Waits for a line as soon as its scheduler is lost.
COMPUTES = """
import time
from distributed import Client
with Client() as client:
    future = client.submit(time.sleep, 60)
    print("ready", flush=True)
    try:
        future.result(timeout=50)
    except Exception:
        input()
        exit(7)
"""


def told(run: Run, words: str) -> None:
    """One warning, in the log and in the receipt."""
    assert len(re.findall(words, run.err)) == 1, run.err
    (warning,) = run.receipt["warnings"]
    assert re.match(words, warning)
    nothing_untrue(run)


def test_program_shuts_its_cluster_down(launcher: Launcher, gateway: GatewayServer) -> None:
    """Those of the launcher's own: `test_other_users_are_refused`."""
    claim = {"max_workers": 1, "gateway_url": gateway.url}
    run = launcher(PYTHON, "-c", SHUTDOWN, claim=claim)
    assert (run.status, run.out) == (0, b"42\n"), run.err
    shut_down(run)


@pytest.mark.deep
def test_block_shuts_its_cluster_down(launcher: Launcher) -> None:
    run = launcher.program(BLOCK, claim={"max_workers": 1}).finish()
    assert (run.status, run.out) == (0, b"42\n"), run.err
    shut_down(run)
    assert not re.search("Traceback|ERROR", run.err), run.err


@pytest.mark.parametrize(
    ("claim", "what"),
    [
        ({}, "The local cluster"),
        ({"env": {"gateway_url": "URL"}}, r"Cluster \w+"),
        pytest.param(
            {"create": False, "env": {"gateway_url": "URL"}}, "The Dask Gateway of this run",
            marks=pytest.mark.deep,
        ),
    ],
    ids=["local", "a gateway's here", "a gateway here"],
)  # fmt: skip
def test_death_of_the_process_that_holds_a_local_cluster(
    launcher: Launcher, claim: dict[str, Any], what: str
) -> None:
    """As the kernel ends it where memory runs out; the command ends at once."""
    command = COMPUTES if not claim else "print('ready'); input(); exit(7)"
    run = launcher.start(
        PYTHON, "-u", "-c", command, claim={"max_workers": 1, **claim}, stdin=subprocess.PIPE
    )
    until_ready(run)
    (host,) = (pid for pid in children(run.process.pid) if "host.py" in command_line(pid))
    os.kill(host, signal.SIGKILL)
    wait_for(lambda: processes.ended(host), "end of the process")
    run.process.stdin.write(b"\n")
    ended = run.finish()
    assert ended.status == 7
    told(ended, f"{what} has ended by itself: its process was killed by SIGKILL")


@pytest.fixture
def run(launcher: Launcher, gateway: GatewayServer) -> Running:
    """A command that computes on a gateway's cluster."""
    claim = {"gateway_url": gateway.url, "max_workers": 1}
    run = launcher.start(PYTHON, "-c", COMPUTES, claim=claim, stdin=subprocess.PIPE)
    until_ready(run)
    return run


@pytest.mark.parametrize(
    "when", ["at once", pytest.param("with the command", marks=pytest.mark.deep)]
)
def test_somebody_else_ends_a_gateways_cluster(
    run: Running, gateway: GatewayServer, when: str
) -> None:
    (name,) = gateway.clusters()
    words = f"Cluster {name} was ended by somebody else"
    if when == "with the command":
        run.process.stdin.write(b"\n")
    gateway.clear()
    if when == "at once":
        run.until(words)
        run.process.stdin.write(b"\n")
    told(run.finish(), words)


def test_scheduler_of_a_gateways_cluster_dies(run: Running, gateway: GatewayServer) -> None:
    """The gateway notices it later than the end of the command: it has to be ended there."""
    (scheduler,) = processes_of(gateway, "scheduler")
    os.kill(scheduler, signal.SIGKILL)
    run.process.stdin.write(b"\n")
    ended = run.finish()
    (warning,) = ended.receipt["warnings"]
    assert "closed its connection and takes no other one" in warning
    assert (ended.err.count(warning), ended.receipt["gone"]) == (1, True)
    assert (ended.status, ended.receipt["reason"]) == (7, "cluster_lost")


# As with an image that cannot be pulled: no worker gets as far as the scheduler.
NO_WORKER = {"DASK_DISTRIBUTED__WORKER__PRELOAD": "['/nowhere.py']"}


def test_somebody_else_ends_a_cluster_whose_workers_are_waited_for(
    launcher: Launcher, variables_gateway: GatewayServer
) -> None:
    claim = {"gateway_url": variables_gateway.url, "max_workers": 1, "environment": NO_WORKER}
    run = launcher.start("true", claim=claim, flags=("--start", "workers"))
    run.until("Scaling cluster")
    until_leased(variables_gateway)
    variables_gateway.clear()
    ended = run.finish()
    assert ended.status == 75 and "was ended by somebody else" in ended.receipt["error"]
    told(ended, r"Cluster \w+ was ended by somebody else")


def test_tasks_that_wait_for_a_worker_are_told(
    launcher: Launcher, variables_gateway: GatewayServer
) -> None:
    claim = {"gateway_url": variables_gateway.url, "max_workers": 1, "environment": NO_WORKER}
    program = "from distributed import Client; tasks = Client().map(abs, range(3)); input()"
    run = launcher.start(PYTHON, "-c", program, claim=claim, before=HURRY, stdin=subprocess.PIPE)
    waits = ("--start", "workers", "--start-timeout", "20")
    never = launcher.start("true", claim=claim, flags=waits)
    words = r"Waiting for the workers of cluster \w+ since \d+ s: 3 tasks wait, and no worker is up"
    run.until(rf"(?s){words}.*{words}")
    run.process.stdin.write(b"\n")
    ended = run.finish()
    (warning,) = ended.receipt["warnings"]  # the last of them
    assert "3 tasks wait" in warning and "The gateway's operator finds the reason" in warning
    without = never.finish()
    assert (without.status, without.receipt["reason"]) == (75, "no_workers"), without.err


# Gives up as soon as the worker is lost, while its nanny starts another one.
FILLS_ITS_WORKER = """
import os, time
from distributed import Client

def fill():
    held = []
    while True:
        held.append(bytearray(b"x") * 10 * 2**20)
        time.sleep(0.01)

client = Client()
(worker,) = client.scheduler_info()["workers"]
filling = client.submit(fill)
while worker in client.scheduler_info()["workers"]:
    time.sleep(0.05)
os._exit(3)
"""


def test_worker_that_is_killed_for_its_memory(launcher: Launcher) -> None:
    claim = {"max_workers": 1, "worker_memory": "300M"}
    run = launcher(PYTHON, "-c", FILLS_ITS_WORKER, claim=claim, flags=("--start", "workers"))
    assert run.status == 3, run.err
    (warning,) = run.receipt["warnings"]
    assert "was killed at its memory limit" in warning and "worker_memory" in warning
    # The worker on its way up still finds the keys of the run.
    assert "Traceback" not in run.err, run.err
