"""The lease on the scheduler: what it takes for death, what not, and how it keeps a cluster."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from dask_claim.claim.model import Claim
from dask_claim.providers.gateway.api import GatewayApi
from dask_claim.providers.gateway.look import Hold, Look, look_at_lease
from tests.support.gateway import GatewayServer
from tests.support.launcher import ONE_TASK, PYTHON, Launcher, wait_for
from tests.support.scenes import (
    SMALL,
    WAITING,
    clusters_command,
    end_all,
    processes_of,
    until_gone,
    until_leased,
    until_ready,
)

LEASE = 3.0

# After one line of input it computes, as a program that has worked on its own side for some time.
TASK_LATER = ("sh", "-c", f"echo ready; read line; exec {PYTHON} -c '{ONE_TASK}'")


def stays(gateway: GatewayServer, seconds: float) -> None:
    """Watch for as long as it takes to be sure: nothing ends the cluster."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        assert len(gateway.clusters()) == 1
        time.sleep(0.1)


def test_launcher_stopped_for_less_than_the_timeout(
    launcher: Launcher, gateway: GatewayServer
) -> None:
    claim = {"gateway_url": gateway.url, **SMALL, "lease_timeout": 6}
    run = launcher.start(*TASK_LATER, claim=claim, stdin=subprocess.PIPE)
    until_ready(run)
    until_leased(gateway)
    run.process.send_signal(signal.SIGSTOP)
    stays(gateway, 4)
    run.process.send_signal(signal.SIGCONT)
    stays(gateway, 6)
    run.process.stdin.write(b"\n")
    ended = run.finish()
    assert (ended.status, ended.out) == (0, b"42\n"), ended.err
    assert (ended.receipt["leased"], ended.receipt["gone"]) == (True, True)


def test_launcher_stopped_for_longer(launcher: Launcher, gateway: GatewayServer) -> None:
    claim = {"gateway_url": gateway.url, **SMALL, "lease_timeout": LEASE}
    run = launcher.start(*WAITING, claim=claim, stdin=subprocess.PIPE)
    until_ready(run)
    until_leased(gateway)
    run.process.send_signal(signal.SIGSTOP)
    until_gone(gateway, LEASE + 10)
    run.process.send_signal(signal.SIGCONT)
    run.process.communicate(b"\n", timeout=60)
    ended = run.finish()
    assert (ended.status, ended.receipt["gone"]) == (5, True), ended.err


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


@pytest.fixture
def distant_gateway() -> Iterator[tuple[GatewayServer, str]]:
    """A gateway that launchers reach at a host of its own, and its clusters at another one."""
    host = f"127.{random.randint(1, 254)}.{random.randint(1, 254)}.1"
    server = GatewayServer(host=host)
    yield server, host
    left = server.clusters()
    server.stop()
    assert left == []


needs_iptables = pytest.mark.needs("root", "iptables")


@needs_iptables
def test_partition_shorter_than_the_timeout(
    launcher: Launcher, distant_gateway: tuple[GatewayServer, str]
) -> None:
    server, host = distant_gateway
    claim = {"gateway_url": server.url, **SMALL, "lease_timeout": 10}
    run = launcher.start(*TASK_LATER, claim=claim, stdin=subprocess.PIPE)
    until_ready(run)
    until_leased(server)
    with partition(host):
        stays(server, 5)
    stays(server, 10)
    run.process.stdin.write(b"\n")
    ended = run.finish()
    assert (ended.status, ended.out) == (0, b"42\n"), ended.err
    assert ended.receipt["gone"] is True


@needs_iptables
def test_partition_longer_than_the_timeout(
    launcher: Launcher, distant_gateway: tuple[GatewayServer, str]
) -> None:
    server, host = distant_gateway
    claim = {"gateway_url": server.url, **SMALL, "lease_timeout": LEASE}
    run = launcher.start(*WAITING, claim=claim, stdin=subprocess.PIPE)
    until_ready(run)
    until_leased(server)
    with partition(host):
        until_gone(server, LEASE + 10)
    run.process.stdin.write(b"\n")
    ended = run.finish()
    assert (ended.status, ended.receipt["gone"]) == (5, True), ended.err


def test_busy_scheduler_is_no_death(launcher: Launcher, gateway: GatewayServer) -> None:
    program = (
        "import time\n"
        "from distributed import Client\n"
        "client = Client()\n"
        "print('ready', flush=True)\n"
        "input()\n"
        "client.run_on_scheduler(time.sleep, 9)\n"
        "print(client.submit(sum, [20, 22]).result())\n"
    )
    claim = {"gateway_url": gateway.url, **SMALL, "lease_timeout": LEASE}
    run = launcher.start(PYTHON, "-c", program, claim=claim, stdin=subprocess.PIPE)
    until_ready(run)
    until_leased(gateway)
    run.process.stdin.write(b"\n")
    ended = run.finish()
    assert (ended.status, ended.out) == (0, b"42\n"), ended.err
    assert ended.receipt["gone"] is True


def test_suspended_machine(launcher: Launcher, gateway: GatewayServer) -> None:
    """The scheduler has not lived through the time in which it could not have heard anybody."""
    claim = {"gateway_url": gateway.url, **SMALL, "lease_timeout": LEASE}
    run = launcher.start(*WAITING, claim=claim, stdin=subprocess.PIPE)
    until_ready(run)
    until_leased(gateway)
    [scheduler] = processes_of(gateway, "scheduler")
    run.process.send_signal(signal.SIGSTOP)
    os.kill(scheduler, signal.SIGSTOP)
    time.sleep(2 * LEASE)
    os.kill(scheduler, signal.SIGCONT)
    time.sleep(LEASE / 3)
    run.process.send_signal(signal.SIGCONT)
    stays(gateway, 2 * LEASE)
    run.process.communicate(b"\n", timeout=60)
    ended = run.finish()
    assert (ended.status, ended.receipt["gone"]) == (5, True), ended.err


def test_scheduler_that_is_busy_from_its_start(launcher: Launcher, gateway: GatewayServer) -> None:
    """The lease is placed as soon as the scheduler hears of it."""
    claim = {"gateway_url": gateway.url, **SMALL, "lease_timeout": LEASE}
    run = launcher.start(*WAITING, claim=claim, stdin=subprocess.PIPE)
    run.until("Scheduler is up")
    [scheduler] = processes_of(gateway, "scheduler")
    os.kill(scheduler, signal.SIGSTOP)
    until_ready(run)
    time.sleep(12)  # longer than one attempt of the launcher's
    os.kill(scheduler, signal.SIGCONT)
    until_leased(gateway)
    end_all(launcher)
    run.process.communicate()
    until_gone(gateway, LEASE + 10)


def test_lease_counts_as_use(launcher: Launcher, idle_gateway: GatewayServer) -> None:
    """A command that works on its own side keeps its cluster beyond the gateway's idle_timeout."""
    claim = {"gateway_url": idle_gateway.url, **SMALL}
    run = launcher.start(*TASK_LATER, claim=claim, stdin=subprocess.PIPE)
    until_ready(run)
    stays(idle_gateway, 12)
    run.process.stdin.write(b"\n")
    ended = run.finish()
    assert (ended.status, ended.out) == (0, b"42\n"), ended.err


def test_idle_cluster_without_a_launcher_ends(
    launcher: Launcher, idle_gateway: GatewayServer
) -> None:
    """What the lease keeps alive the gateway ends when nobody renews it, also without a lease."""
    claim = {"gateway_url": idle_gateway.url, **SMALL, "lease_timeout": 0}
    run = launcher.start(*WAITING, claim=claim, stdin=subprocess.PIPE)
    until_ready(run)
    until_leased(idle_gateway)
    end_all(launcher)
    run.process.communicate()
    until_gone(idle_gateway, 20)


LIFTED = """
import time
from distributed import Client

def timeouts(dask_scheduler):
    import dask
    set_ = dask.config.get("distributed.scheduler.idle-timeout")
    return f"{set_} {dask_scheduler.idle_timeout}"

with Client() as client:
    until = time.monotonic() + 60
    while not (found := client.run_on_scheduler(timeouts)).endswith("None"):
        if time.monotonic() > until:
            break
        time.sleep(0.1)
    print(found)
"""


def test_lease_lifts_the_timeout_of_the_start(
    launcher: Launcher, variables_gateway: GatewayServer
) -> None:
    claim = {"gateway_url": variables_gateway.url, **SMALL}
    run = launcher(PYTHON, "-c", LIFTED, claim=claim)
    assert (run.status, run.out) == (0, b"60s None\n"), run.err


def test_lifetime_ends_a_run(launcher: Launcher, gateway: GatewayServer) -> None:
    claim = {"gateway_url": gateway.url, **SMALL, "max_lifetime": 6}
    began = time.monotonic()
    run = launcher("sleep", "300", claim=claim)
    assert run.status == 143, run.err
    assert time.monotonic() - began < 30
    assert any("max_lifetime of 6 s" in warning for warning in run.receipt["warnings"])
    assert run.receipt["gone"] is True


def test_lifetime_ends_a_wait(launcher: Launcher, stuck_gateway: GatewayServer) -> None:
    run = launcher("true", claim={"gateway_url": stuck_gateway.url, **SMALL, "max_lifetime": 8})
    assert run.status == 75, run.err
    assert "max_lifetime of 8 s" in run.err.splitlines()[-1]
    assert run.receipt["gone"] is True


def looked_at(gateway: GatewayServer) -> Look:
    async def look() -> Look:
        api = GatewayApi(Claim(gateway_url=gateway.url))
        [listed] = await api.clusters()
        report = await api.report(listed.name)
        await api.close()
        assert report is not None
        return await look_at_lease(report)

    os.environ.setdefault("USER", "tester")
    return asyncio.run(look())


def test_scheduler_that_refuses_plugins(launcher: Launcher, strict_gateway: GatewayServer) -> None:
    run = launcher.start(*WAITING, claim={"gateway_url": strict_gateway.url, **SMALL},
                         stdin=subprocess.PIPE)  # fmt: skip
    until_ready(run)
    run.until("takes no lease")
    # Whoever looks for the lease is told that there will be none, and takes it for no orphan.
    assert looked_at(strict_gateway) == Look(Hold.NONE, None, False)
    run.process.stdin.write(b"\n")
    ended = run.finish()
    assert (ended.status, ended.receipt["gone"]) == (5, True), ended.err
    assert ended.receipt["leased"] is False
    [warning] = ended.receipt["warnings"]
    assert "would not end by itself" in warning
    assert ended.err.count("takes no lease") == 1


def test_no_lease_on_demand(launcher: Launcher, gateway: GatewayServer) -> None:
    claim = {"gateway_url": gateway.url, **SMALL, "lease_timeout": 0}
    run = launcher.start(*WAITING, claim=claim, stdin=subprocess.PIPE)
    until_ready(run)
    until_leased(gateway)  # it is held as long as somebody renews, and ends nothing
    end_all(launcher)
    run.process.communicate()
    stays(gateway, 6)
    [name] = gateway.clusters()
    assert clusters_command(gateway, "stop", name).returncode == 0
    wait_for(lambda: not gateway.clusters(), "end of the cluster")
