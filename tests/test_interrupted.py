"""`connect()` and `run()` that are interrupted at any moment leave nothing (contract §5)."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest

from tests.support.gateway import GatewayServer
from tests.support.launcher import Launcher, Running, wait_for
from tests.support.proxy import CREATION, Proxy

CONNECT = """
import dask_claim, time
with dask_claim.connect():
    print("ready", flush=True)
    time.sleep(60)
print("after", flush=True)
"""

# dash loses a SIGINT that comes between vfork and exec of what it starts: hence its own `exec`.
WAITS = ["sh", "-c", "echo ready; exec sleep 60"]

RUN = f"""
import dask_claim
dask_claim.run({WAITS})
print("after", flush=True)
"""

NOTEBOOK = """
import asyncio, dask_claim
async def cell():
    dask_claim.run(["sh", "-c", "echo ready; trap '' INT; sleep 60"], grace=1)
asyncio.run(cell())
print("after", flush=True)
"""

THREAD = """
import dask_claim, threading
def work():
    with dask_claim.connect():
        print("ready", flush=True)
        stop.wait()
    done.set()
stop, done = threading.Event(), threading.Event()
threading.Thread(target=work).start()
try:
    while not done.wait(0.2):  # a signal that goes to another thread wakes nobody here
        pass
except KeyboardInterrupt:
    stop.set()
    done.wait()
    raise
"""


@pytest.fixture
def proxy(gateway: GatewayServer) -> Iterator[Proxy]:
    with Proxy(gateway) as made:
        yield made


def at(moment: str, program: Running, proxy: Proxy) -> None:
    """Return when the program is at that moment of its run."""
    if moment == "asking":
        program.until("Claiming")
    elif moment == "waiting for the answer":
        wait_for(lambda: proxy.struck("slow"), "request for a cluster")
    elif moment == "starting":
        program.until("is requested")
    else:
        assert program.process.stdout.readline() == b"ready\n", program.err


MOMENTS = ["asking", "waiting for the answer", "starting", "in the block"]
SIGNALS = [signal.SIGTERM, signal.SIGINT, signal.SIGKILL]
ENTRIES = ["connect()", "run()", "command line"]
# Every moment with every signal, and each of them with every way in.
CASES = [
    pytest.param(
        ENTRIES[(i + j) % 3], signum, moment,
        # Before the request there is nothing to leave.
        marks=[pytest.mark.deep] if i == 0 and j else [],
    )
    for i, moment in enumerate(MOMENTS)
    for j, signum in enumerate(SIGNALS)
]  # fmt: skip


@pytest.mark.parametrize(("way", "signum", "moment"), CASES)
def test_nothing_is_left(
    way: str,
    signum: signal.Signals,
    moment: str,
    gateway: GatewayServer,
    proxy: Proxy,
    launcher: Launcher,
) -> None:
    proxy.fault("slow", CREATION)
    if way == "command line":
        program = launcher.start(*WAITS, claim=proxy.claim())
    else:
        program = launcher.program(CONNECT if way == "connect()" else RUN, claim=proxy.claim())
    at(moment, program, proxy)
    program.process.send_signal(signum)
    ended = program.finish()
    assert b"after" not in ended.out
    assert ended.status in (-signum, 128 + signum, 1), program.err
    if signum == signal.SIGINT or (way, signum) == ("command line", signal.SIGTERM):
        assert gateway.clusters() == [], program.err
    wait_for(lambda: not gateway.clusters(), "end of the cluster", 40, lambda: program.err)


@pytest.mark.parametrize(
    "code", [NOTEBOOK, THREAD], ids=["run in a notebook", "connect in a thread"]
)
def test_interrupted_from_another_thread(
    code: str, gateway: GatewayServer, proxy: Proxy, launcher: Launcher
) -> None:
    program = launcher.program(code, claim=proxy.claim())
    at("in the block", program, proxy)
    program.process.send_signal(signal.SIGINT)
    assert b"after" not in program.finish().out
    assert "KeyboardInterrupt" in program.err
    assert gateway.clusters() == []


def test_second_signal_does_not_abandon_the_stop(
    gateway: GatewayServer, proxy: Proxy, launcher: Launcher
) -> None:
    program = launcher.program(CONNECT, claim=proxy.claim())
    at("in the block", program, proxy)
    proxy.fault("slow", ("DELETE", r"/clusters/\w+"))
    program.process.send_signal(signal.SIGINT)
    wait_for(lambda: proxy.struck("slow"), "request for the end")
    for _ in range(3):
        os.kill(program.process.pid, signal.SIGINT)
    program.finish()
    assert program.process.returncode == -signal.SIGINT
    assert " stopped after " in program.err
    assert gateway.clusters() == []
