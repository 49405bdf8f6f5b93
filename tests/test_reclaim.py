"""Reclaim survives everything, and is the same for launchers and tickets of another release."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dask.config
import pytest
from dask_gateway_server.options import Mapping, Options
from distributed import Scheduler
from distributed.comm import connect
from distributed.core import send_recv

from dask_claim.claim.model import Claim
from dask_claim.errors import AuthenticationError, DaskClaimError, TemporaryError
from dask_claim.launch.events import Events
from dask_claim.launch.receipt import Receipt
from dask_claim.launch.session import Session
from dask_claim.lifetime.lease_plugin import NAME, LeasePlugin
from dask_claim.lifetime.reclaim import reclaim, reclaim_all
from dask_claim.lifetime.usage import Usage
from dask_claim.providers.base import import_quietly
from dask_claim.providers.gateway import connection
from dask_claim.providers.gateway.api import GatewayApi
from dask_claim.providers.gateway.mark import MARK
from dask_claim.providers.gateway.provider import GatewayProvider
from dask_claim.providers.values import Outcome, Request, Ticket
from tests.support.faulty import CLUSTER, USAGE, Faulty, faulty

BAD = "bad"
ERRORS: list[BaseException] = [
    DaskClaimError("of ours"),
    AuthenticationError("refused"),
    TemporaryError("not now"),
    OSError(5, "Input/output error"),
    ssl.SSLError("TLS"),
    KeyError("token"),
    RuntimeError("Event loop is closed"),
    AssertionError(),
    MemoryError(),
    asyncio.TimeoutError(),
    RecursionError("too deep"),
]


@pytest.fixture(autouse=True)
def somebody(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LOGNAME", "USER"):
        monkeypatch.setenv(name, "tester")


def session(
    gateway: Faulty, stop_timeout: float, *tickets: dict[str, Any]
) -> tuple[Session, Receipt, list[str | None]]:
    """A session of a run that holds these tickets, its receipt, and names for its guard."""
    claim = Claim.model_validate(gateway.claim())
    request = Request(claim, claim.plan(), {}, stop_timeout=stop_timeout)
    receipt = Receipt(["true"])
    made = Session(request, Events([receipt]))
    for known in tickets:
        made.tickets.write(Ticket(**{"provider": "gateway", **gateway.claim(), **known}))
    close = made.tickets.close

    left: list[str | None] = []

    def close_at_once() -> None:
        # It would be busy with them for longer than this test.
        for ticket in made.tickets.open:
            left.append(ticket.cluster_name)
            made.tickets.settle(ticket)
        close()

    made.tickets.close = close_at_once  # type: ignore[method-assign]
    return made, receipt, left


def release(gateway: Faulty, *tickets: dict[str, Any], timeout: float = 1.0) -> Any:
    """Release them; what the receipt says of the end. What could not be ended is left alone."""

    async def run() -> Any:
        made, receipt, left = session(gateway, timeout, *tickets)
        await made.release()
        assert CLUSTER not in left or CLUSTER not in gateway.ended
        return receipt.to_dict()["gone"]

    return asyncio.run(run())


def failing(error: BaseException, original: Any, of: Callable[..., bool]) -> Any:
    def fail(*arguments: Any, **more: Any) -> Any:
        if of(*arguments):
            raise error
        return original(*arguments, **more)

    return fail


def always(error: BaseException, original: Any) -> Any:
    async def fail(*arguments: Any) -> Any:
        await original(*arguments)
        raise error

    return fail


def of_bad(*arguments: Any) -> bool:
    return any(getattr(each, "cluster_name", each) == BAD for each in arguments)


@pytest.mark.parametrize(
    ("where", "step"),
    [(GatewayApi, "__init__"), (GatewayApi, "delete"), (GatewayApi, "report"),
     (GatewayProvider, "reclaim")],
)  # fmt: skip
def test_one_ticket_that_fails(where: Any, step: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """In any of its steps and with anything: the other one is ended, the receipt tells."""
    original = getattr(where, step)
    for error in ERRORS:
        monkeypatch.setattr(where, step, failing(error, original, of_bad))
        with faulty("refused") as gateway:
            gone = release(gateway, {"cluster_name": BAD}, {"cluster_name": CLUSTER})
            assert (gone, CLUSTER in gateway.ended) == (False, True), error


@pytest.mark.parametrize("step", ["close", "clusters", "prepared"])
def test_step_that_always_fails(step: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is not needed changes nothing; what is needed is told as not confirmed."""
    where = connection if step == "prepared" else GatewayApi
    fail = getattr(where, step)
    for error in (AuthenticationError("refused"), OSError(5, "no"), MemoryError()):
        with faulty("refused") as gateway, monkeypatch.context() as patch:
            patch.setattr(where, step, always(error, fail))
            needed: dict[str, Any] = {"cluster_name": CLUSTER}
            if step == "clusters":
                needed = {"requested": {"mark": "1:lease:feed"}}
            assert release(gateway, needed) is (step == "close"), error


def test_credentials_that_cannot_be_read_for_a_moment(tmp_path: Path) -> None:
    """As by the guard, which has nothing that the gateway has accepted before."""
    token, told = tmp_path / "token", list[str]()
    configured = {
        "gateway.auth.type": "dask_claim.providers.gateway.auth.BearerAuth",
        "gateway.auth.kwargs": {"token_file": str(token)},
    }

    def warn(text: str) -> None:
        told.append(text)
        token.write_text("back-again-1")

    import_quietly("dask_gateway")
    with faulty("refused") as gateway, dask.config.set(configured):
        ticket = Ticket("gateway", cluster_name=CLUSTER, **gateway.claim())
        assert asyncio.run(reclaim(ticket, 20.0, warn)) is Outcome.GONE
        assert gateway.ended == [CLUSTER]
    [text] = told
    assert str(token) in text and "read again" in text


def test_ticket_of_a_provider_that_is_not_there() -> None:
    with faulty("refused") as gateway:
        assert release(gateway, {"provider": "none-such"}, {"cluster_name": CLUSTER}) is False
        assert gateway.ended == [CLUSTER]


def test_release_that_is_cancelled() -> None:
    async def run(gateway: Faulty) -> Any:
        made, receipt, _ = session(gateway, 30.0, {"cluster_name": CLUSTER})
        releasing = asyncio.ensure_future(made.release())
        while not gateway.ended:
            await asyncio.sleep(0.01)
        releasing.cancel()
        await asyncio.wait({releasing})
        return receipt.to_dict()["gone"]

    with faulty("refused") as gateway:
        gateway.together = 2  # never
        assert asyncio.run(run(gateway)) is False


def test_tickets_are_reclaimed_together() -> None:
    """None of these gets an answer before all are asked for."""
    with faulty("refused") as gateway:
        gateway.together = 3
        names = [CLUSTER, "second", "third"]
        assert release(gateway, *({"cluster_name": name} for name in names)) is True
        assert sorted(gateway.ended) == sorted(names)


def test_request_carries_the_mark_of_its_run() -> None:
    """And its ticket holds what is needed to find it, and no more: variables may be secrets."""
    tickets: list[Ticket] = []

    async def submit(gateway: Faulty, **more: Any) -> Request:
        claim = Claim.model_validate({**gateway.claim(), **more})
        request = Request(claim, claim.plan(), {})
        provider = GatewayProvider(request, tickets.append, lambda text: None)
        await provider.submit()
        await provider.close()
        return request

    with faulty("refused") as gateway:
        gateway.offered = Options(Mapping("environment", {})).get_specification()
        request = asyncio.run(submit(gateway, environment={"TOKEN": "secret-1"}))
        variables = gateway.requested["environment"]
        assert variables["TOKEN"] == "secret-1"
        assert variables[MARK] == f"1:lease:{request.run_id}"
        assert [ticket.requested for ticket in tickets] == [{"mark": variables[MARK]}] * 2
        assert "secret-1" not in str([ticket.to_dict() for ticket in tickets])
        request = asyncio.run(submit(gateway, lease_timeout=0))
        assert gateway.requested["environment"] == {MARK: f"1:no-lease:{request.run_id}"}
        # By the gateway's own name, and the claim's own words stay.
        request = asyncio.run(submit(gateway, options={"environment": {"OF_THE_CLAIM": "1"}}))
        assert gateway.requested["environment"].keys() == {"OF_THE_CLAIM", MARK}
        # The guard ends it, but not before the gateway is done with it.
        made = tickets[-1]
        assert made.named_at is not None and made.cluster_name == CLUSTER
        asyncio.run(reclaim_all([made.to_dict()], 10.0))
        assert gateway.ended == [CLUSTER]
        assert gateway.ended_at - made.named_at >= 1.0


@pytest.mark.parametrize("named_at", [0.0, 1e12])
def test_time_of_another_boot_delays_little(named_at: float) -> None:
    with faulty("refused") as gateway:
        gone = release(gateway, {"cluster_name": CLUSTER, "named_at": named_at}, timeout=10.0)
        assert gone is True


# As the second release writes it.
OLD_TICKET = {
    "provider": "gateway", "id": "5f", "proxy_url": None, "public_url": None, "credentials": True,
    "requested": {"before": [], "sent": 1.0, "options": {}}, "made": None,
    "cluster_name": CLUSTER, "process": None, "jobs": None, "folder": None,
}  # fmt: skip


def test_tickets_of_other_releases() -> None:
    with faulty("refused") as gateway:
        newer = {**OLD_TICKET, **gateway.claim(), "version": 2}
        asyncio.run(reclaim_all([newer, {"id": "no provider"}], 1.0))
        assert gateway.ended == []
        later = {**OLD_TICKET, **gateway.claim(), "of_a_time_to_come": 1}
        asyncio.run(reclaim_all([newer, later], 10.0))
        assert gateway.ended == [CLUSTER]


def test_lease_answers_a_launcher_of_the_second_release() -> None:
    """By its own call and messages, with what it understands and nothing besides."""

    async def hold() -> list[Any]:
        async with Scheduler(
            host="127.0.0.1", port=0, dashboard=False, dashboard_address="127.0.0.1:0"
        ) as scheduler:
            plugin = LeasePlugin("first", 60.0, 10.0, None)
            scheduler.add_plugin(plugin, name=NAME)
            plugin.start(scheduler)
            comm = await connect(scheduler.address)
            terms = {"holder": "second", "timeout": 60.0, "reconnect_timeout": 10.0,
                     "lifetime": None}  # fmt: skip
            await send_recv(comm, reply=False, op="dask_claim_hold", **terms)
            answers = []
            for message in ("renew", "release"):
                await comm.write(message)
                answers.append(await comm.read())
            looker = await connect(scheduler.address)
            answers.append(await send_recv(looker, op="dask_claim_lease"))
            comm.abort()
            looker.abort()
            return answers

    renewed, released, looked = asyncio.run(hold())
    assert set(renewed) == set(released) == set(USAGE)
    assert looked["held"] is True and looked["holders"] == 2 and looked["workers"] == 0
    Usage(**dict.fromkeys(USAGE, 0))  # what such a lease answers to a launcher of this one


def test_outcomes_in_their_order() -> None:
    assert Outcome.of_all([]) is Outcome.NOTHING
    assert Outcome.of_all([Outcome.NOTHING, Outcome.GONE]) is Outcome.GONE
    assert Outcome.of_all([Outcome.GONE, Outcome.NOT_CONFIRMED]) is Outcome.NOT_CONFIRMED
