"""What all tests begin with: how they start, in what order, and the installed command."""

from __future__ import annotations

import asyncio
import inspect

import pytest
from hypothesis import HealthCheck, settings

from tests.support.start import as_after_a_login

pytest_plugins = [
    "tests.support.bai",
    "tests.support.claims",
    "tests.support.cwl",
    "tests.support.gateways",
    "tests.support.images",
    "tests.support.job_service",
    "tests.support.landsat",
    "tests.support.launching",
    "tests.support.missing",
    "tests.support.slurm",
]

as_after_a_login()

# A loaded machine draws examples slowly; that is no fault of the code. `make test` has the same
# examples each time, `make test-deep` searches for new ones.
for profile, examples in (("short", 30), ("deep", 200)):
    settings.register_profile(
        profile,
        deadline=None,
        derandomize=profile == "short",
        max_examples=examples,
        suppress_health_check=[HealthCheck.too_slow],
    )
settings.load_profile("short")


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run a coroutine function in a loop of its own."""
    if not inspect.iscoroutinefunction(test := pyfuncitem.obj):
        return None
    names = inspect.signature(test).parameters
    asyncio.run(test(**{name: pyfuncitem.funcargs[name] for name in names}))
    return True


# First: pytest-xdist reads the groups in a hook of its own.
@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Say which tests are slow, which go to the same process of pytest-xdist, and in what order."""
    from tests.support.gateways import GATEWAYS  # a plugin, which pytest itself imports first

    shared = (*SHARED, *sorted(GATEWAYS - {"gateway"}))
    for item in items:
        fixtures = set(getattr(item, "fixturenames", ()))
        # Whatever drives a gateway or the launcher is slow; the rest runs on every Python.
        if {"launcher", "scheduler", *GATEWAYS} & fixtures:
            item.add_marker("slow")
        arguments = item.callspec.params.values() if hasattr(item, "callspec") else ()
        for name in shared:
            if name in fixtures or name in arguments:
                item.add_marker(pytest.mark.xdist_group(name))
                break
    # What waits comes first: at the end there should be no long test that all others wait for.
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)


# What costs much to start, or is there once on a machine: all its tests run in one process, one
# after the other, beside those of other processes. Of the gateway that most tests use each process
# has its own.
SHARED = ("podman", "toil", "calrissian")
