"""`dask-claim clusters`: what it lists, what it stops, what it refuses."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator

import pexpect
import pytest

from dask_claim.providers.gateway.mark import MARK
from tests.support.gateway import GatewayServer, clean_environment
from tests.support.launcher import DASK_CLAIM, PYTHON, Launcher, Running, wait_for
from tests.support.scenes import (
    SMALL,
    WAITING,
    clusters_command,
    leases,
    until_leased,
    until_ready,
)


def by_hand(gateway: GatewayServer, **options: object) -> str:
    """A cluster that was made without dask-claim, and left."""
    program = (
        f"from dask_gateway import Gateway; print(Gateway({gateway.url!r}).submit(**{options!r}))"
    )
    made = subprocess.run(
        [PYTHON, "-c", program], env=clean_environment(), capture_output=True, text=True, check=True
    )
    return made.stdout.strip()


def ages(gateway: GatewayServer) -> dict[str, float]:
    rows = json.loads(clusters_command(gateway, "--json").stdout)
    return {row["name"]: row["age"] for row in rows}


@pytest.fixture
def claimed(launcher: Launcher, gateway: GatewayServer) -> Iterator[Running]:
    """A run that holds a cluster with a lease."""
    claim = {"gateway_url": gateway.url, **SMALL}
    run = launcher.start(*WAITING, claim=claim, stdin=subprocess.PIPE)
    until_ready(run)
    until_leased(gateway)
    yield run
    run.process.communicate(b"\n", timeout=60)
    assert run.finish().status == 5


def test_nothing_to_list(launcher: Launcher, gateway: GatewayServer) -> None:
    assert clusters_command(gateway).stdout == "no clusters\n"
    assert json.loads(clusters_command(gateway, "--json").stdout) == []
    stopped = clusters_command(gateway, "stop", "--all")
    assert (stopped.returncode, stopped.stdout) == (0, "nothing to stop\n")


def test_list(claimed: Running, gateway: GatewayServer) -> None:
    [row] = json.loads(clusters_command(gateway, "--json").stdout)
    name = claimed.until(r"Cluster (\w+) is requested").group(1)
    assert 0 < row.pop("age") < 120
    assert row == {"name": name, "status": "running", "workers": 0, "lease": "live"}
    header, line = clusters_command(gateway).stdout.splitlines()
    assert header.split() == ["NAME", "STATUS", "AGE", "WORKERS", "LEASE"]
    assert line.startswith(f"{name}  running  ") and line.endswith("  live")


def test_stop_the_orphaned(claimed: Running, gateway: GatewayServer) -> None:
    """What a live lease holds stays, and what a person has made, with no lease at all."""
    made = by_hand(gateway)
    wait_for(lambda: leases(gateway)[made] == "none", "start of the cluster", 40)
    stopped = clusters_command(gateway, "stop", "--orphaned", "--pending-after", "0", "--yes")
    assert (stopped.returncode, stopped.stdout) == (0, "nothing to stop\n"), stopped.stderr
    assert clusters_command(gateway, "stop", made).returncode == 0
    assert list(leases(gateway).values()) == ["live"]


def test_stop_the_orphaned_among_the_pending(
    launcher: Launcher, stuck_gateway: GatewayServer
) -> None:
    """Nobody holds a lease on a pending cluster; the mark on its request and its age decide."""
    gateway = stuck_gateway
    person, run = by_hand(gateway), by_hand(gateway, environment={MARK: "1:lease:feed"})
    wait_for(lambda: ages(gateway)[run] > 1, "a cluster older than 1 s", 20)
    young = clusters_command(gateway, "stop", "--orphaned", "--yes")
    assert (young.returncode, young.stdout) == (0, "nothing to stop\n"), young.stderr
    command = ("stop", "--orphaned", "--pending-after", "1")
    refused = clusters_command(gateway, *command)
    assert refused.returncode == 64
    assert f"{run}  pending" in refused.stderr and "Give --yes" in refused.stderr
    assert f"stop {run}" in refused.stderr and person not in refused.stderr
    assert set(gateway.clusters()) == {person, run}
    stopped = clusters_command(gateway, *command, "--yes")
    assert (stopped.returncode, stopped.stdout) == (0, f"{run} is gone\n"), stopped.stderr
    assert clusters_command(gateway, "stop", person).returncode == 0


def test_stop_by_name(launcher: Launcher, gateway: GatewayServer) -> None:
    first, second = by_hand(gateway), by_hand(gateway)
    stopped = clusters_command(gateway, "stop", first)
    assert (stopped.returncode, stopped.stdout) == (0, f"{first} is gone\n"), stopped.stderr
    assert gateway.clusters() == [second]
    assert clusters_command(gateway, "stop", second).returncode == 0


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["stop"], "say which"),
        (["stop", "--all", "--orphaned"], "say which"),
        (["stop", "some", "--all"], "say which"),
        (["stop", "no-such-cluster"], "no cluster of yours: no-such-cluster"),
        (["stop", "--nonsense"], "--nonsense"),
        (["start"], "start"),
    ],
)
def test_wrong_usage(
    launcher: Launcher, gateway: GatewayServer, arguments: list[str], reason: str
) -> None:
    refused = clusters_command(gateway, *arguments)
    assert refused.returncode == 64
    assert reason in refused.stderr
    assert refused.stdout == ""


def test_stop_all_asks_on_a_terminal(launcher: Launcher, gateway: GatewayServer) -> None:
    name = by_hand(gateway)
    for answer, status in (("n", 130), ("y", 0)):
        terminal = pexpect.spawn(
            DASK_CLAIM, ["clusters", "--gateway-url", gateway.url, "stop", "--all"],
            env=clean_environment(), encoding="utf-8", timeout=60,
        )  # fmt: skip
        terminal.expect(name)
        terminal.expect("Stop 1")
        terminal.sendline(answer)
        terminal.expect(pexpect.EOF)
        terminal.close()
        assert terminal.exitstatus == status
        assert gateway.clusters() == ([name] if answer == "n" else [])


def test_without_a_gateway(launcher: Launcher) -> None:
    answer = subprocess.run(
        [sys.executable, "-m", "dask_claim", "clusters"],
        env=clean_environment(), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert answer.returncode == 78
    assert "no gateway" in answer.stderr


def test_gateway_that_is_not_there(launcher: Launcher, gateway: GatewayServer) -> None:
    command = [DASK_CLAIM, "clusters", "--gateway-url", "http://127.0.0.1:9"]
    answer = subprocess.run(
        command, env=clean_environment(), capture_output=True, text=True, check=False
    )
    assert answer.returncode == 75
    assert "cannot be reached" in answer.stderr
