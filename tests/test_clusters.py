"""`dask-claim clusters`: what it lists, what it stops, what it refuses."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from dask_claim.providers.gateway.reports import MARK
from tests.support.faulty import faulty
from tests.support.gateway import GatewayServer
from tests.support.here import Answer, dask_claim
from tests.support.launcher import DASK_CLAIM, Launcher, wait_for
from tests.support.scenes import clusters_command, let_go, waiting

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
    wait_for(lambda: rows(gateway)[made]["lease"] == "none", "start of the cluster", 40)
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
