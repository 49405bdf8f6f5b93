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
    ONE_WORKER,
    OTHER_SITE,
    REFERENCE,
    STUCK,
    VARIABLES,
    GatewayServer,
    clean_environment,
    real_dask,
)

# How each is configured. Without `dask` its schedulers and workers are forked, with Dask imported.
KINDS = {
    "gateway": {"options": REFERENCE},
    # Another site's: other options, types and ranges.
    "other_gateway": {"options": OTHER_SITE, "dask": real_dask},
    # Its clusters stay pending.
    "stuck_gateway": {"options": VARIABLES + STUCK},
    # They fail at once.
    "failing_gateway": {"options": REFERENCE + FAILING},
    # It wants a password, and gives a cluster one worker.
    "closed_gateway": {"options": REFERENCE + ONE_WORKER, "password": "right-5678"},
    # It allows a user one cluster at a time.
    "limited_gateway": {"options": REFERENCE + LIMITED},
    # It ends a cluster after 4 idle seconds.
    "idle_gateway": {"options": REFERENCE + IDLE},
    # It takes variables of the scheduler.
    "variables_gateway": {"options": VARIABLES},
    # Its schedulers refuse plugins.
    "strict_gateway": {"options": REFERENCE + NO_PLUGINS, "dask": real_dask},
}
GATEWAYS = {*KINDS}


@pytest.fixture(scope="session")
def forked_dask() -> Iterator[ForkedDask]:
    """Starts schedulers and workers without their import of Dask, for a `GatewayServer`."""
    with tempfile.TemporaryDirectory() as folder:
        made = ForkedDask(Path(folder), clean_environment())
        yield made
        made.stop()


def _fixtures(name: str) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """A server for the session, and a fixture that finds it empty again after each test."""

    @pytest.fixture(scope="session", name=f"_{name}")
    def for_session(request: pytest.FixtureRequest) -> Iterator[GatewayServer]:
        settings: dict[str, Any] = KINDS[name]
        dask = settings.get("dask") or request.getfixturevalue("forked_dask")
        server = GatewayServer(**{**settings, "dask": dask})
        yield server
        server.stop()

    @pytest.fixture(name=name)
    def for_test(request: pytest.FixtureRequest) -> Iterator[GatewayServer]:
        server = request.getfixturevalue(f"_{name}")
        yield server
        left = server.clusters()
        server.clear()
        assert left == []

    return for_session, for_test


for name in KINDS:
    globals()[f"_{name}"], globals()[name] = _fixtures(name)
