"""The lease on the scheduler: what it takes for death, what not, and how it keeps a cluster."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import pytest

from tests.support.forking import ForkedDask
from tests.support.gateway import VARIABLES, GatewayServer
from tests.support.launcher import PYTHON, Launcher
from tests.support.scenes import (
    SMALL,
    WAITING,
    end_all,
    guards,
    leases,
    let_go,
    processes_of,
    until_gone,
    until_leased,
    until_ready,
    waiting,
)

LEASE = 4.0

# Waits until the lease has lifted the idle timeout of the start, uses its cluster after one line of
# input, and ends with status 5 after another.
BUSY = f"""
import os, time
from distributed import Client

def timeouts(dask_scheduler):
    import dask
    set_ = dask.config.get("distributed.scheduler.idle-timeout")
    return f"{{set_}} {{dask_scheduler.idle_timeout}}"

client = Client()
deadline = time.monotonic() + 30
while not (timeout := client.run_on_scheduler(timeouts)).endswith("None"):
    time.sleep(0.1)
    if time.monotonic() > deadline:
        break
print(timeout, flush=True)
input()
client.run_on_scheduler(time.sleep, {2 * LEASE})
print(client.submit(sum, [20, 22]).result(), flush=True)
input()
os._exit(5)  # a client may seek its scheduler, which is gone by then, for long
"""


def stays(gateway: GatewayServer, seconds: float) -> None:
    """Wait for as long as it takes to be sure: nothing ends the cluster."""
    time.sleep(seconds)
    assert len(gateway.clusters()) == 1


@contextmanager
def stopped(pid: int) -> Iterator[None]:
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


@contextmanager
def partition(host: str) -> Iterator[None]:
    """Every packet from and to `host` is lost, as when a network or a node is gone: no reset."""
    rules = [["INPUT", "-i", "lo", way, host, "-j", "DROP"] for way in ("-s", "-d")]
    for rule in rules:
        subprocess.run(["iptables", "-w", "-I", *rule], check=True)
    try:
        yield
    finally:
        for rule in rules:
            subprocess.run(["iptables", "-w", "-D", *rule], check=True)


@pytest.fixture(scope="module")
def distant_gateway(forked_dask: ForkedDask) -> Iterator[tuple[GatewayServer, str]]:
    """A gateway that launchers reach at a host of its own, and its clusters at another one."""
    host = f"127.{random.randint(1, 254)}.{random.randint(1, 254)}.1"
    server = GatewayServer(VARIABLES, host=host, dask=forked_dask)
    yield server, host
    left = server.clusters()
    server.stop()
    assert left == []


@pytest.mark.xdist_group("distant_gateway")
def test_what_is_no_death_and_what_is(
    launcher: Launcher, distant_gateway: tuple[GatewayServer, str]
) -> None:
    server, host = distant_gateway
    claim = {"gateway_url": server.url, **SMALL, "lease_timeout": LEASE}
    run = launcher.start(PYTHON, "-c", BUSY, claim=claim, stdin=subprocess.PIPE)
    assert run.process.stdout.readline() == b"60s None\n", run.err
    until_leased(server)
    parts = os.geteuid() == 0 and shutil.which("iptables")
    # The launcher is stopped, or out of reach, for less than the timeout.
    # After packets were lost TCP waits twice as long as they were lost for, at most.
    away = partition(host) if parts else nullcontext()
    for silence, seconds in ((stopped(run.process.pid), LEASE / 2), (away, LEASE / 4)):
        with silence:
            stays(server, seconds)
        stays(server, LEASE / 2)
    # The machine is suspended: the scheduler has not lived through the time in which it could not
    # have heard anybody.
    [scheduler] = processes_of(server, "scheduler")
    with stopped(run.process.pid):
        with stopped(scheduler):
            time.sleep(2 * LEASE)
        time.sleep(0.5)
    stays(server, LEASE / 2)
    # It is busy, and hears nobody.
    run.process.stdin.write(b"\n")
    run.process.stdin.flush()
    assert run.process.stdout.readline() == b"42\n", run.err
    stays(server, LEASE + 2)
    # The launcher is stopped for longer.
    with stopped(run.process.pid):
        until_gone(server, 40)
    ended = let_go(run)
    assert (ended.receipt["leased"], ended.receipt["gone"]) == (True, True)


@pytest.mark.xdist_group("distant_gateway")
@pytest.mark.needs("root", "iptables")
def test_partition_longer_than_the_timeout(
    launcher: Launcher, distant_gateway: tuple[GatewayServer, str]
) -> None:
    server, host = distant_gateway
    run = waiting(launcher, server, lease_timeout=2)
    with partition(host):
        until_gone(server, 40)
    assert let_go(run).receipt["gone"] is True


def test_container_of_a_scheduler_that_was_busy_from_its_start(
    launcher: Launcher, gateway: GatewayServer
) -> None:
    """Its lease is placed as soon as it hears of it, and remains where the guard is killed, too."""
    claim = {"gateway_url": gateway.url, **SMALL, "reconnect_timeout": 1}
    run = launcher.start(*WAITING, claim=claim, stdin=subprocess.PIPE)
    run.until("Scheduler is up")
    [scheduler] = processes_of(gateway, "scheduler")
    with stopped(scheduler):
        until_ready(run)
        time.sleep(12)  # longer than one attempt of the launcher's
    until_leased(gateway)
    end_all(launcher)
    run.process.communicate()
    until_gone(gateway, 40)


def test_lease_counts_as_use(launcher: Launcher, idle_gateway: GatewayServer) -> None:
    """A command that works on its own side keeps its cluster beyond the gateway's idle_timeout.

    What the lease keeps alive the gateway ends when nobody renews it, also without a timeout.
    """
    run = waiting(launcher, idle_gateway, lease_timeout=0)
    stays(idle_gateway, 10)
    end_all(launcher)
    run.process.communicate()
    until_gone(idle_gateway, 40)


def test_lifetime_ends_a_wait(launcher: Launcher, stuck_gateway: GatewayServer) -> None:
    run = launcher("true", claim={"gateway_url": stuck_gateway.url, **SMALL, "max_lifetime": 20})
    assert run.status == 75, run.err
    assert "max_lifetime of 20 s" in run.err.splitlines()[-1]
    assert run.receipt["gone"] is True


def test_scheduler_that_refuses_plugins(launcher: Launcher, strict_gateway: GatewayServer) -> None:
    """Nor is there a guard any more: the launcher gives its cluster back."""
    run = waiting(launcher, strict_gateway, leased=False)
    run.until("takes no lease")
    # Whoever looks for the lease is told that there will be none.
    assert list(leases(strict_gateway).values()) == ["none"]
    for guard in guards(launcher):
        os.kill(guard, signal.SIGKILL)
    ended = let_go(run)
    assert (ended.receipt["leased"], ended.receipt["gone"]) == (False, True)
    [warning] = ended.receipt["warnings"]
    assert "would not end by itself" in warning
    assert ended.err.count("takes no lease") == 1
