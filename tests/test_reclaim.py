"""Reclaim survives everything, and is the same for launchers and tickets of another release."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path
from typing import Any

import dask.config
import pytest
from dask_gateway_server.options import Mapping, Options

from dask_claim.claim.model import Claim
from dask_claim.errors import AuthenticationError, DaskClaimError, TemporaryError
from dask_claim.imports import import_quietly
from dask_claim.launch.events import Events
from dask_claim.launch.receipt import Receipt
from dask_claim.launch.session import Session
from dask_claim.lifetime.reclaim import reclaim, reclaim_all
from dask_claim.providers.gateway import reclaiming
from dask_claim.providers.gateway.api import GatewayApi
from dask_claim.providers.gateway.filling import IDLE_TIMEOUT
from dask_claim.providers.gateway.provider import GatewayProvider
from dask_claim.providers.gateway.reports import MARK
from dask_claim.providers.values import Outcome, Request, Ticket
from tests.support.faulty import CLUSTER, Faulty, faulty

# By the name of the cluster for which it is raised.
ERRORS: dict[str, BaseException] = {
    "ours": DaskClaimError("of ours"),
    "refused": AuthenticationError("refused"),
    "temporary": TemporaryError("not now"),
    "system": OSError(5, "Input/output error"),
    "tls": ssl.SSLError("TLS"),
    "key": KeyError("token"),
    "loop": RuntimeError("Event loop is closed"),
    "assertion": AssertionError(),
    "memory": MemoryError(),
    "timeout": asyncio.TimeoutError(),
    "recursion": RecursionError("too deep"),
}


@pytest.fixture(autouse=True)
def somebody(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LOGNAME", "USER"):
        monkeypatch.setenv(name, "tester")


def session(
    gateway: Faulty, stop_timeout: float, *tickets: dict[str, Any]
) -> tuple[Session, Receipt]:
    """A session of a run that holds these tickets, and its receipt."""
    claim = Claim.model_validate(gateway.claim())
    request = Request(claim, claim.plan(), {}, stop_timeout=stop_timeout)
    receipt = Receipt(["true"])
    made = Session(request, Events([receipt]))
    for known in tickets:
        made.tickets.write(gateway.ticket(**known))
    close = made.tickets.close

    def close_at_once() -> None:
        # The guard would be busy with what is left for longer than this test.
        left = made.tickets.open
        for ticket in left:
            made.tickets.settle(ticket)
        close()
        assert not {ticket.cluster_name for ticket in left} & {*gateway.ended} - {*ERRORS}

    made.tickets.close = close_at_once  # type: ignore[method-assign]
    return made, receipt


async def released(gateway: Faulty, *tickets: dict[str, Any], timeout: float = 10.0) -> Any:
    """Release them; what the receipt says of the end. What could not be ended is left alone."""
    made, receipt = session(gateway, timeout, *tickets)
    await made.release()
    return receipt.to_dict()["gone"]


@pytest.mark.parametrize(
    ("where", "step"),
    [(reclaiming, "client_of"), (GatewayApi, "delete"), (GatewayApi, "report"),
     (GatewayProvider, "reclaim")],
)  # fmt: skip
async def test_one_ticket_that_fails(
    where: Any, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In any of its steps and with anything: the other one is ended, the receipt tells."""
    original = getattr(where, step)

    def failing(*arguments: Any, **more: Any) -> Any:
        for each in arguments:
            name = getattr(each, "cluster_name", each)
            if isinstance(name, str) and name in ERRORS:
                raise ERRORS[name]
        return original(*arguments, **more)

    monkeypatch.setattr(where, step, failing)
    runs = [({"cluster_name": name}, {"cluster_name": f"good-{name}"}) for name in ERRORS]
    with faulty("refused") as gateway:
        gone = await asyncio.gather(*(released(gateway, *run, timeout=4.0) for run in runs))
        assert dict(zip(ERRORS, gone, strict=True)) == dict.fromkeys(ERRORS, False)
        assert {f"good-{name}" for name in ERRORS} <= set(gateway.ended)


@pytest.mark.parametrize("step", ["close", "clusters"])
async def test_step_that_always_fails(step: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is not needed changes nothing; what is needed is told as not confirmed."""
    original, needed = getattr(GatewayApi, step), {"cluster_name": CLUSTER}
    if step == "clusters":
        needed = {"requested": {"mark": "1:lease:feed"}}
    for error in (AuthenticationError("refused"), OSError(5, "no"), MemoryError()):

        async def fail(*arguments: Any, error: BaseException = error) -> Any:
            await original(*arguments)
            raise error

        monkeypatch.setattr(GatewayApi, step, fail)
        with faulty("refused") as gateway:
            gone = await released(gateway, needed, timeout=10.0 if step == "close" else 0.5)
            assert gone is (step == "close"), error


async def test_credentials_that_cannot_be_read_for_a_moment(tmp_path: Path) -> None:
    """As by the guard, which has nothing that the gateway has accepted before."""
    token, told = tmp_path / "token", list[str]()
    configured = {
        "gateway.auth.type": "dask_claim.credentials.bearer.BearerAuth",
        "gateway.auth.kwargs": {"token_file": str(token)},
    }

    def warn(text: str) -> None:
        told.append(text)
        token.write_text("back-again-1")

    import_quietly("dask_gateway")
    with faulty("refused") as gateway, dask.config.set(configured):
        ticket = gateway.ticket(cluster_name=CLUSTER)
        assert await reclaim(ticket, 20.0, warn) is Outcome.GONE
        assert gateway.ended == [CLUSTER]
    [text] = told
    assert str(token) in text and "read again" in text


async def test_ticket_of_a_provider_that_is_not_there() -> None:
    with faulty("refused") as gateway:
        unknown, good = {"provider": "none-such"}, {"cluster_name": CLUSTER}
        assert await released(gateway, unknown, good) is False
        assert gateway.ended == [CLUSTER]


async def test_release_that_is_cancelled() -> None:
    with faulty("refused") as gateway:
        gateway.together = 2  # never
        made, receipt = session(gateway, 30.0, {"cluster_name": CLUSTER})
        releasing = asyncio.ensure_future(made.release())
        while not gateway.ended:
            await asyncio.sleep(0.01)
        releasing.cancel()
        await asyncio.wait({releasing})
        assert receipt.to_dict()["gone"] is False


async def test_tickets_are_reclaimed_together() -> None:
    """None of these gets an answer before all are asked for."""
    with faulty("refused") as gateway:
        gateway.together = 3
        names = [CLUSTER, "second", "third"]
        assert await released(gateway, *({"cluster_name": name} for name in names)) is True
        assert sorted(gateway.ended) == sorted(names)


async def test_request_carries_the_mark_of_its_run() -> None:
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
        request = await submit(gateway, environment={"TOKEN": "secret-1"})
        variables = gateway.requested["environment"]
        assert variables["TOKEN"] == "secret-1"
        assert variables[MARK] == f"1:lease:{request.run_id}"
        assert [ticket.facts["requested"] for ticket in tickets] == [{"mark": variables[MARK]}] * 2
        assert "secret-1" not in str([ticket.to_dict() for ticket in tickets])
        request = await submit(gateway, lease_timeout=0)
        assert gateway.requested["environment"] == {MARK: f"1:no-lease:{request.run_id}"}
        # By the gateway's own name, and the claim's own words stay.
        request = await submit(gateway, options={"environment": {"OF_THE_CLAIM": "1"}})
        assert gateway.requested["environment"].keys() == {"OF_THE_CLAIM", IDLE_TIMEOUT, MARK}
        # The guard ends it, but not before the gateway is done with it.
        made = tickets[-1]
        assert made.cluster_name == CLUSTER
        await reclaim_all([made.to_dict()], 10.0)
        assert gateway.ended == [CLUSTER]
        assert gateway.ended_at - made.facts["named_at"] >= 1.0


async def test_time_of_another_boot_delays_little() -> None:
    tickets = ({"cluster_name": f"{at}", "named_at": at} for at in (0.0, 1e12))
    with faulty("refused") as gateway:
        assert await released(gateway, *tickets) is True


async def test_tickets_of_other_releases() -> None:
    """What may mean something else is left alone; what a ticket has besides does not matter."""
    with faulty("refused") as gateway:
        written = gateway.ticket(cluster_name=CLUSTER).to_dict()
        other = {**written, "version": written["version"] + 1}
        older = {"provider": "gateway", "id": "5f", "cluster_name": CLUSTER}
        await reclaim_all([other, older, {"id": "no provider"}], 1.0)
        assert gateway.ended == []
        await reclaim_all([other, {**written, "of_a_time_to_come": 1}], 10.0)
        assert gateway.ended == [CLUSTER]
