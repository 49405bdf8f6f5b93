"""Fixtures: a real gateway for the session, and the installed command."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from tests.support.gateway import (
    FAILING,
    IDLE,
    LIMITED,
    NO_PLUGINS,
    OTHER_SITE,
    REFERENCE,
    STUCK,
    VARIABLES,
    GatewayServer,
)
from tests.support.launcher import Launcher, processes_with, wait_for
from tests.support.start import as_after_a_login

pytest_plugins = [
    "tests.support.bai",
    "tests.support.claims",
    "tests.support.missing",
    "tests.support.slurm",
]

as_after_a_login()

# A loaded machine draws examples slowly; that is no fault of the code.
settings.register_profile("here", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("here")


# First: pytest-xdist reads the groups in a hook of its own.
@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Say which tests are slow, which go to the same process of pytest-xdist, and in what order."""
    for item in items:
        fixtures = set(getattr(item, "fixturenames", ()))
        # Whatever drives a gateway or the launcher is slow; the rest runs on every Python.
        if {"launcher", *GATEWAYS} & fixtures:
            item.add_marker("slow")
        arguments = item.callspec.params.values() if hasattr(item, "callspec") else ()
        for name in SHARED:
            if name in fixtures or name in arguments:
                item.add_marker(pytest.mark.xdist_group(name))
                break
    # What waits comes first: at the end there should be no long test that all others wait for.
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)


def _gateway_fixtures(
    name: str, description: str, **settings: str
) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """A server for the session, and a fixture that finds it empty again after each test."""

    @pytest.fixture(scope="session", name=f"_{name}")
    def for_session() -> Iterator[GatewayServer]:
        server = GatewayServer(**settings)
        yield server
        server.stop()

    @pytest.fixture(name=name)
    def for_test(request: pytest.FixtureRequest) -> Iterator[GatewayServer]:
        server = request.getfixturevalue(f"_{name}")
        yield server
        left = server.clusters()
        server.clear()
        assert left == []

    for_test.__doc__ = description
    return for_session, for_test


_session, gateway = _gateway_fixtures(
    "gateway", "A gateway with options like the reference deployment's."
)
_other_session, other_gateway = _gateway_fixtures(
    "other_gateway", "Another site's: other options, types and ranges.", options=OTHER_SITE
)
_stuck_session, stuck_gateway = _gateway_fixtures(
    "stuck_gateway", "One whose clusters stay pending.", options=VARIABLES + STUCK
)
_failing_session, failing_gateway = _gateway_fixtures(
    "failing_gateway", "One whose clusters fail at once.", options=REFERENCE + FAILING
)
_closed_session, closed_gateway = _gateway_fixtures(
    "closed_gateway", "One that asks for a password.", password="right-5678"
)
_limited_session, limited_gateway = _gateway_fixtures(
    "limited_gateway", "One that allows a user one cluster at a time.", options=REFERENCE + LIMITED
)
_idle_session, idle_gateway = _gateway_fixtures(
    "idle_gateway", "One that ends a cluster after 4 idle seconds.", options=REFERENCE + IDLE
)
_variables_session, variables_gateway = _gateway_fixtures(
    "variables_gateway", "One that takes variables of the scheduler.", options=VARIABLES
)
_strict_session, strict_gateway = _gateway_fixtures(
    "strict_gateway", "One whose schedulers refuse plugins.", options=REFERENCE + NO_PLUGINS
)

GATEWAYS = {
    "gateway",
    "other_gateway",
    "stuck_gateway",
    "failing_gateway",
    "closed_gateway",
    "limited_gateway",
    "idle_gateway",
    "variables_gateway",
    "strict_gateway",
}

# What costs much to start, or is there once on a machine: all its tests run in one process, one
# after the other, beside those of other processes. Of the gateway that most tests use each process
# has its own.
SHARED = ("podman", "toil", "calrissian", *sorted(GATEWAYS - {"gateway"}))


@pytest.fixture
def launcher(tmp_path: Path) -> Iterator[Launcher]:
    """Runs the installed `dask-claim`; fails where a process of the test outlives it."""
    made = Launcher(tmp_path)
    yield made
    made.end()
    wait_for(lambda: not processes_with(made.marker), "end of every process of this test")


SCHEDULER = """
import asyncio, sys
from distributed import Scheduler
async def main():
    async with Scheduler(host="127.0.0.1", port=0, dashboard_address=":0", dashboard=False) as it:
        print(it.address, flush=True)
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
asyncio.run(main())
"""


@pytest.fixture(scope="session")
def scheduler() -> Iterator[dict[str, str]]:
    """The variables that name a scheduler which is there already."""
    with subprocess.Popen(
        [sys.executable, "-c", SCHEDULER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        yield {"DASK_SCHEDULER_ADDRESS": process.stdout.readline().strip()}
        process.stdin.close()
