"""Unknown is not no: whatever cannot be asked is left alone by everything that ends clusters."""

from __future__ import annotations

import asyncio
import gc
import json
import warnings
from collections.abc import Iterator
from itertools import product
from typing import Any

import pytest
from click.testing import CliRunner

from dask_claim.cli.clusters import clusters_command
from dask_claim.lifetime import clusters
from dask_claim.lifetime.reclaim import reclaim
from dask_claim.providers.gateway import connection, reclaiming, reports
from dask_claim.providers.gateway.reports import MARK, Mark
from dask_claim.providers.values import Outcome
from tests.support.faulty import CLUSTER, HTTP_FAULTS, SCHEDULER_FAULTS, Faulty, faulty

ASKED = {MARK: str(Mark("feed", leased=True))}
BY_HAND = {"OF_A_PERSON": "1"}


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(reclaiming, "LEASE_EXPECTED_WITHIN", 0.3)
    for name in ("LOGNAME", "USER"):
        monkeypatch.setenv(name, "tester")
    yield
    # Dask leaves the socket of a connection that is given up half-way to the collector, which
    # would find it in the middle of another test.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


def command(gateway: Faulty, *arguments: str) -> Any:
    """`dask-claim clusters` in this process."""
    claim = gateway.claim()
    return CliRunner().invoke(
        clusters_command,
        ["--gateway-url", claim["gateway_url"], *arguments],
        env={"DASK_CLAIM_PROXY_URL": claim["proxy_url"]},
        standalone_mode=False,
    )


def lease(gateway: Faulty) -> str:
    [row] = json.loads(command(gateway, "--json").stdout)
    assert isinstance(row["lease"], str)
    return row["lease"]


def stop_orphaned(gateway: Faulty) -> list[str]:
    """End what is orphaned; return what the gateway was asked to end."""
    command(gateway, "stop", "--orphaned", "--yes", "--pending-after", "0", "--stop-timeout", "5")
    return gateway.ended


def some_deep(faults: tuple[str, ...], *alike: str) -> list[Any]:
    """Those that come about in the same way as another one are for `make test-deep`."""
    return [
        pytest.param(fault, marks=[pytest.mark.deep] if fault in alike else ()) for fault in faults
    ]


# The gateway's client does not close what its TLS could not be set up on.
@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.parametrize(
    "fault", some_deep(SCHEDULER_FAULTS, "reset", "garbage", "closed", "no holders")
)
def test_scheduler_that_cannot_be_asked(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reports, "LOOK_TIMEOUT", 0.5)
    with faulty(fault, environment=ASKED) as gateway:
        assert lease(gateway) == "unreachable"
        assert stop_orphaned(gateway) == []
        outcome, told = end_guessed(gateway)
        assert outcome is Outcome.NOT_CONFIRMED and f"clusters stop {CLUSTER}" in told[0]
        assert gateway.ended == []
        stopped = command(gateway, "stop", CLUSTER)
        assert (stopped.stdout, gateway.ended) == (f"{CLUSTER} is gone\n", [CLUSTER])


@pytest.mark.parametrize(
    ("scheduler", "cases"),
    [
        ("live", [(ASKED, "live", False)]),
        ("counting", [(BY_HAND, "live", False)]),
        # The last ones are of runs with `lease_timeout: 0`, and marks of a time to come.
        ("silent", [(ASKED, "silent", True), (BY_HAND, "silent", True),
                    ({MARK: "2:shared:feed"}, "silent", False)]),
        ("none", [(ASKED, "none", True), (BY_HAND, "none", False),
                  ({MARK: str(Mark("feed", leased=False))}, "none", False),
                  ({MARK: "4f1d"}, "none", False)]),
        # Its scheduler takes no plugins, and its launcher has said so.
        ("renounced", [(ASKED, "none", False)]),
    ],
)  # fmt: skip
def test_scheduler_that_answers(scheduler: str, cases: list[tuple[Any, str, bool]]) -> None:
    with faulty(scheduler) as gateway:
        for variables, shown, orphaned in cases:
            gateway.options, gateway.ended = {"environment": variables}, []
            assert lease(gateway) == shown
            assert stop_orphaned(gateway) == [CLUSTER] * orphaned
        # A lost one is guessed by its lack of a lease: one that is new, with the same options.
        gateway.options, gateway.ended = {"environment": BY_HAND}, []
        for more in ({"before": [CLUSTER]}, {"options": {"environment": ASKED}}):
            outcome, told = end(gateway, requested={**guess(gateway), **more})
            assert (outcome, told) == (Outcome.NOTHING, [])
        ours = scheduler == "none"
        outcome, told = end_guessed(gateway)
        assert outcome is (Outcome.GONE if ours else Outcome.NOTHING)
        assert (bool(told), gateway.ended) == (ours, [CLUSTER] * ours)


@pytest.mark.parametrize("fault", some_deep(HTTP_FAULTS, "403", "429", "500", "502"))
def test_gateway_that_cannot_be_asked(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """For its list, for one cluster, or for both."""
    monkeypatch.setattr(connection, "REQUEST_TIMEOUT", 0.5)
    with faulty("silent", environment=ASKED) as gateway:
        gateway.faults = {"report": fault}
        assert lease(gateway) == "unreachable"
        assert stop_orphaned(gateway) == []
        gateway.faults = {"list": fault}
        assert command(gateway).exception is not None
        assert stop_orphaned(gateway) == []
        for requested in ({"mark": ASKED[MARK]}, guess(gateway)):
            outcome, told = end(gateway, 0.4, requested=requested)
            assert outcome is Outcome.NOT_CONFIRMED and "is not certain" in told[0]
            assert gateway.ended == []
        # What has a name is ended whatever the list says, and not confirmed without a report.
        gateway.faults = {"list": fault, "report": fault}
        outcome, _ = end(gateway, 1.0, cluster_name=CLUSTER)
        assert (outcome, set(gateway.ended)) == (Outcome.NOT_CONFIRMED, {CLUSTER})


def end_guessed(gateway: Faulty) -> tuple[Outcome, list[str]]:
    """What becomes of a request with these options whose answer was lost."""
    return end(gateway, requested=guess(gateway))


def guess(gateway: Faulty) -> dict[str, Any]:
    return {"before": [], "options": gateway.options}


def end(gateway: Faulty, timeout: float = 5.0, **known: Any) -> tuple[Outcome, list[str]]:
    """Reclaim a ticket in this process; the outcome and what a person is told."""
    told: list[str] = []
    return asyncio.run(reclaim(gateway.ticket(**known), timeout, told.append)), told


@pytest.mark.parametrize("scheduler", ["live", "refused"])
def test_lost_cluster_is_found_by_its_mark(scheduler: str) -> None:
    """Whatever its scheduler says, and no other one."""
    with faulty(scheduler, environment=ASKED) as gateway:
        other = str(Mark("fee", leased=True))
        assert end(gateway, requested={"mark": other}) == (Outcome.NOTHING, [])
        assert gateway.ended == []
        outcome, told = end(gateway, requested={"mark": ASKED[MARK]})
        assert (outcome, gateway.ended) == (Outcome.GONE, [CLUSTER])
        assert CLUSTER in told[0]


def test_age_from_which_a_cluster_without_a_lease_is_orphaned() -> None:
    def orphaned(status: str, age: float, hold: str, wants_lease: bool = True) -> bool:
        return clusters.ListedCluster("c", status, age, None, hold, wants_lease).orphaned(600)

    assert not orphaned("pending", 599, "unknown") and orphaned("pending", 601, "unknown")
    assert not orphaned("running", 659, "none") and orphaned("running", 661, "none")
    assert orphaned("running", 1, "silent")
    holds = ("live", "silent", "none", "unreachable", "unknown")
    for status, hold in product(("pending", "running", "stopping"), holds):
        assert not orphaned(status, 1e6, hold, wants_lease=False)
    for status, hold in product(("running", "stopping"), ("live", "unreachable", "unknown")):
        assert not orphaned(status, 1e6, hold)
