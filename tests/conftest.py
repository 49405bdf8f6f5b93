"""Fixtures: a real gateway for the session, and the installed command."""

from __future__ import annotations

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
    GatewayServer,
)
from tests.support.launcher import Launcher, processes_with, wait_for

# A loaded machine draws examples slowly; that is no fault of the code.
settings.register_profile("here", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("here")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whatever drives a gateway or the launcher is slow; the rest runs on every Python."""
    for item in items:
        if {"launcher", *GATEWAYS} & set(getattr(item, "fixturenames", ())):
            item.add_marker("slow")


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
    "stuck_gateway", "One whose clusters stay pending.", options=REFERENCE + STUCK
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
    "strict_gateway",
}


@pytest.fixture
def launcher(tmp_path: Path) -> Iterator[Launcher]:
    """Runs the installed `dask-claim`; fails where a process of the test outlives it."""
    made = Launcher(tmp_path)
    yield made
    made.end()
    wait_for(lambda: not processes_with(made.marker), "end of every process of this test")
