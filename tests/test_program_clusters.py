"""Clusters that a program makes itself on a gateway (`create: false`): gone with its run."""

from __future__ import annotations

import pytest

from dask_claim.providers.gateway.reports import MARK, Mark
from tests.support.gateway import GatewayServer
from tests.support.launcher import PYTHON, Launcher
from tests.support.scenes import kill, until_gone, until_ready
from tests.test_clusters import by_hand

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


def claim(gateway: GatewayServer) -> dict[str, object]:
    return {"gateway_url": gateway.url, "create": False, "env": {"gateway_url": "URL"}}


def test_what_a_program_leaves_is_ended(
    launcher: Launcher, variables_gateway: GatewayServer
) -> None:
    """What the same user has made meanwhile, and another run, stays."""
    gateway = variables_gateway
    others = [by_hand(gateway, environment=own) for own in ({}, {MARK: str(Mark("feed", False))})]
    run = launcher(PYTHON, "-c", LEAVES, claim=claim(gateway), env=OPERATOR)
    assert run.status == 3, run.err
    name = run.out.decode().strip()
    assert set(gateway.clusters()) == set(others)
    assert run.receipt["gone"] is True
    assert any(name in warning for warning in run.receipt["warnings"])
    gateway.clear()


def test_killed_launcher(launcher: Launcher, variables_gateway: GatewayServer) -> None:
    gateway = variables_gateway
    run = launcher.start(
        PYTHON, "-c", LEAVES, "wait", claim=claim(gateway), env=OPERATOR, stdin=-1
    )  # fmt: skip
    assert run.process.stdout.readline()
    until_ready(run)
    assert len(gateway.clusters()) == 1
    kill(run)
    until_gone(gateway, 40)


def test_gateway_that_cannot_tell(launcher: Launcher, gateway: GatewayServer) -> None:
    """It takes no variables: what is new is named, and stays."""
    run = launcher(PYTHON, "-c", LEAVES, claim=claim(gateway))
    assert run.status == 3, run.err
    (name,) = gateway.clusters()
    assert run.out.decode().strip() == name
    assert any(name in warning for warning in run.receipt["warnings"])
    assert run.receipt["gone"] is None
    gateway.clear()


@pytest.mark.parametrize(("fallback", "timeout", "status"), [("fail", "6", 75), ("local", "60", 3)])
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
