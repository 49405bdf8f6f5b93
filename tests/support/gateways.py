"""Fixtures: real gateways for the session, each of another kind, that every test finds empty."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.forking import ForkedDask
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
    clean_environment,
)

GATEWAYS: set[str] = set()


@pytest.fixture(scope="session")
def forked_dask() -> Iterator[ForkedDask]:
    """Starts schedulers and workers without their import of Dask, for a `GatewayServer`."""
    with tempfile.TemporaryDirectory() as folder:
        made = ForkedDask(Path(folder), clean_environment())
        yield made
        made.stop()


def _fixtures(
    name: str, description: str, forked: bool = True, **settings: str
) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """A server for the session, and a fixture that finds it empty again after each test."""
    GATEWAYS.add(name)

    @pytest.fixture(scope="session", name=f"_{name}")
    def for_session(request: pytest.FixtureRequest) -> Iterator[GatewayServer]:
        dask = {"dask": request.getfixturevalue("forked_dask")} if forked else {}
        server = GatewayServer(**settings, **dask)
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


_session, gateway = _fixtures("gateway", "A gateway with options like the reference deployment's.")
_other_session, other_gateway = _fixtures(
    "other_gateway",
    "Another site's: other options, types and ranges; Dask starts as it does everywhere.",
    forked=False,
    options=OTHER_SITE,
)
_stuck_session, stuck_gateway = _fixtures(
    "stuck_gateway", "One whose clusters stay pending.", options=VARIABLES + STUCK
)
_failing_session, failing_gateway = _fixtures(
    "failing_gateway", "One whose clusters fail at once.", options=REFERENCE + FAILING
)
_closed_session, closed_gateway = _fixtures(
    "closed_gateway", "One that asks for a password.", password="right-5678"
)
_limited_session, limited_gateway = _fixtures(
    "limited_gateway", "One that allows a user one cluster at a time.", options=REFERENCE + LIMITED
)
_idle_session, idle_gateway = _fixtures(
    "idle_gateway", "One that ends a cluster after 4 idle seconds.", options=REFERENCE + IDLE
)
_variables_session, variables_gateway = _fixtures(
    "variables_gateway", "One that takes variables of the scheduler.", options=VARIABLES
)
_strict_session, strict_gateway = _fixtures(
    "strict_gateway",
    "One whose schedulers refuse plugins; Dask starts as it does everywhere.",
    forked=False,
    options=REFERENCE + NO_PLUGINS,
)
