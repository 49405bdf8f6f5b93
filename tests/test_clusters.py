"""`dask-claim clusters`: what it lists, what it stops, what it refuses.

And clusters that a program makes itself on a gateway (`create: false`): gone with its run.
"""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from dask_claim.providers.gateway.reports import MARK, Mark
from tests.support.faulty import faulty
from tests.support.gateway import GatewayServer
from tests.support.here import Answer, dask_claim
from tests.support.launcher import DASK_CLAIM, PYTHON, Launcher, wait_for
from tests.support.scenes import clusters_command, kill, let_go, until_gone, until_ready, waiting

NOTHING = Answer(0, "nothing to stop\n", "")


def by_hand(gateway: GatewayServer, **options: object) -> str:
    """A cluster that was made without dask-claim, and left."""
    from dask_gateway import BasicAuth, Gateway

    async def submit() -> str:
        auth = BasicAuth(username="tester")
        async with Gateway(gateway.url, auth=auth, asynchronous=True) as made:
            return str(await made.submit(**options))

    return asyncio.run(submit())


def clusters(gateway: GatewayServer, *arguments: str) -> Answer:
    return dask_claim("clusters", "--gateway-url", gateway.url, *arguments)


def rows(gateway: GatewayServer) -> dict[str, dict[str, Any]]:
    return {row["name"]: row for row in json.loads(clusters(gateway, "--json").out)}


def test_list_and_stop(launcher: Launcher, gateway: GatewayServer) -> None:
    """Of the orphaned is neither what a live lease holds, nor what a person has made, without."""
    assert clusters(gateway).out == "no clusters\n"
    assert rows(gateway) == {}
    assert clusters(gateway, "stop", "--all") == NOTHING
    run = waiting(launcher, gateway)
    name = run.until(r"Cluster (\w+) is requested").group(1)
    row = rows(gateway)[name]
    assert 0 < row.pop("age") < 120
    assert row == {"name": name, "status": "running", "workers": 0, "lease": "live"}
    header, line = clusters(gateway).out.splitlines()
    assert header.split() == ["NAME", "STATUS", "AGE", "WORKERS", "LEASE"]
    assert line.startswith(f"{name}  running  ") and line.endswith("  live")
    made = by_hand(gateway)
    wait_for(lambda: rows(gateway)[made]["lease"] == "none", "start of the cluster")
    assert clusters(gateway, "stop", "--orphaned", "--pending-after", "0", "--yes") == NOTHING
    stopped = clusters_command(gateway, "stop", made)
    assert (stopped.returncode, stopped.stdout) == (0, f"{made} is gone\n"), stopped.stderr
    assert [row["lease"] for row in rows(gateway).values()] == ["live"]
    let_go(run)


def test_stop_the_orphaned_among_the_pending(
    launcher: Launcher, stuck_gateway: GatewayServer
) -> None:
    """Nobody holds a lease on a pending cluster; the mark on its request and its age decide."""
    gateway = stuck_gateway
    person, run = by_hand(gateway), by_hand(gateway, environment={MARK: "1:lease:feed"})
    wait_for(lambda: rows(gateway)[run]["age"] > 1, "a cluster older than 1 s")
    assert clusters(gateway, "stop", "--orphaned", "--yes") == NOTHING
    command = ("stop", "--orphaned", "--pending-after", "1")
    refused = clusters(gateway, *command)
    assert refused.status == 64
    assert f"{run}  pending" in refused.err and "Give --yes" in refused.err
    assert f"stop {run}" in refused.err and person not in refused.err
    assert set(gateway.clusters()) == {person, run}
    assert clusters(gateway, *command, "--yes") == Answer(0, f"{run} is gone\n", "")
    # All of them, where a terminal can be asked on.
    for answer, status in (("n", 130), ("y", 0)):
        terminal = launcher.terminal(
            DASK_CLAIM, "clusters", "--gateway-url", gateway.url, "stop", "--all"
        )
        terminal.expect(person)
        terminal.expect("Stop 1")
        assert gateway.clusters() == [person]
        terminal.sendline(answer)
        terminal.wait()
        assert terminal.exitstatus == status
    assert gateway.clusters() == []


@pytest.mark.parametrize(
    ("arguments", "status", "reason"),
    [
        (["stop"], 64, "say which"),
        (["stop", "--all", "--orphaned"], 64, "say which"),
        (["stop", "some", "--all"], 64, "say which"),
        (["stop", "no-such-cluster"], 64, "no cluster of yours: no-such-cluster"),
        (["stop", "--nonsense"], 64, "--nonsense"),
        (["start"], 64, "start"),
        (["--gateway-url", "http://127.0.0.1:9"], 75, "cannot be reached"),
    ],
)
def test_wrong_usage(arguments: list[str], status: int, reason: str) -> None:
    with faulty("refused") as gateway:
        refused = dask_claim("clusters", *arguments, DASK_CLAIM_GATEWAY_URL=gateway.url)
    assert (refused.status, refused.out) == (status, "")
    assert reason in refused.err


def test_without_a_gateway() -> None:
    refused = dask_claim("clusters")
    assert refused.status == 78
    assert "no gateway" in refused.err


# Leaves its cluster as a program does that crashes.
LEAVES = """
import os, sys
from dask_gateway import Gateway

gateway = Gateway(os.environ["URL"])
options = gateway.cluster_options()
if "environment" in options:
    assert options.environment["OF_THE_OPERATOR"] == "kept"
print(gateway.submit(options), flush=True)
if len(sys.argv) > 1:
    print("ready", flush=True)
    input()
os._exit(3)
"""
OPERATOR = {"DASK_GATEWAY__CLUSTER__OPTIONS__ENVIRONMENT": "{'OF_THE_OPERATOR': 'kept'}"}


def made_by_program(gateway: GatewayServer) -> dict[str, object]:
    return {"gateway_url": gateway.url, "create": False, "env": {"gateway_url": "URL"}}


def test_what_a_program_leaves_is_ended(
    launcher: Launcher, variables_gateway: GatewayServer
) -> None:
    """What the same user has made meanwhile, and another run, stays."""
    gateway = variables_gateway
    others = [by_hand(gateway, environment=own) for own in ({}, {MARK: str(Mark("feed", False))})]
    run = launcher(PYTHON, "-c", LEAVES, claim=made_by_program(gateway), env=OPERATOR)
    assert run.status == 3, run.err
    name = run.out.decode().strip()
    assert set(gateway.clusters()) == set(others)
    assert run.receipt["gone"] is True
    assert any(name in warning for warning in run.receipt["warnings"])
    gateway.clear()


def test_killed_launcher(launcher: Launcher, variables_gateway: GatewayServer) -> None:
    gateway = variables_gateway
    run = launcher.start(
        PYTHON, "-c", LEAVES, "wait", claim=made_by_program(gateway), env=OPERATOR, stdin=-1
    )  # fmt: skip
    assert run.process.stdout.readline()
    until_ready(run)
    assert len(gateway.clusters()) == 1
    kill(run)
    until_gone(gateway, 40)


def test_gateway_that_cannot_tell(launcher: Launcher, gateway: GatewayServer) -> None:
    """It takes no variables: what is new is named, and stays."""
    run = launcher(PYTHON, "-c", LEAVES, claim=made_by_program(gateway))
    assert run.status == 3, run.err
    (name,) = gateway.clusters()
    assert run.out.decode().strip() == name
    assert any(name in warning for warning in run.receipt["warnings"])
    assert run.receipt["gone"] is None
    gateway.clear()


@pytest.mark.parametrize(
    ("fallback", "timeout", "status"), [("fail", "20", 75), ("local", "60", 3)]
)
def test_gateway_that_is_away(launcher: Launcher, fallback: str, timeout: str, status: int) -> None:
    """The command would find nothing to make its cluster on, but for a gateway of the run."""
    away = {"gateway_url": "http://127.0.0.1:9", "create": False, "fallback": fallback}
    there = 'test "$DASK_GATEWAY__ADDRESS" != http://127.0.0.1:9 && exit 3'
    run = launcher("sh", "-c", there, claim=away, flags=("--start-timeout", timeout))
    assert run.status == status, run.err
    assert "cannot be reached" in run.err


def test_gateway_that_refuses_the_launcher(
    launcher: Launcher, closed_gateway: GatewayServer
) -> None:
    """The command runs all the same: it may have credentials of its own."""
    claim = {"gateway_url": closed_gateway.url, "create": False}
    run = launcher("sh", "-c", "exit 3", claim=claim)
    assert run.status == 3, run.err
    assert any("cannot track" in warning for warning in run.receipt["warnings"])
