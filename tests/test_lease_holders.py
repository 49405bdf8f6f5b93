"""Lease holders on a real scheduler: what ends one, what does not, and what it tells.

The scheduler is in a thread of its own, as if it were elsewhere. What kills and stops real
launchers is tried in `test_guard` and `test_lease`.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import fields
from typing import Any

import pytest
from distributed import Client, Scheduler, Status, Worker
from distributed.core import rpc

from dask_claim.claim.model import Claim
from dask_claim.launch.cluster_watch import ClusterWatch
from dask_claim.launch.events import Event, Events
from dask_claim.launch.lease_keeper import LeaseKeeper
from dask_claim.lifetime import lease as module
from dask_claim.lifetime import lease_connection
from dask_claim.lifetime.lease import Lease
from dask_claim.providers.base import Provider
from dask_claim.providers.usage import LOOK, Usage
from dask_claim.providers.values import Cluster, Ended, Request
from dask_claim.threads import cancel
from tests.support.here import scheduled
from tests.support.serving import in_thread

RECONNECT = 1.0
"""The shortest there is."""

LONG = 60.0


class Held(Lease):
    """The lease of one launcher, with what it is told."""

    def __init__(self, address: str, timeout: float = LONG, reconnect: float = RECONNECT) -> None:
        super().__init__(address, None, timeout, None, reconnect)
        self.said, self.usages = list[str](), list[Usage]()

    async def placed_here(self) -> Held:
        async def running() -> bool:
            return False

        await self.place(self.usages.append, self.said.append, running)
        return self

    async def stop(self) -> None:
        """Say nothing any more, as a process that is stopped."""
        await cancel(self._task)

    async def kill(self) -> None:
        """Be gone without a word, as the kernel closes what a process has left open."""
        await self.stop()
        await self._connection.close()


Hold = Callable[..., Awaitable[Held]]


@contextlib.asynccontextmanager
async def holders(address: str) -> AsyncIterator[Hold]:
    """Give a function that places leases, at this address if it is given no other one."""
    made: list[Held] = []

    async def hold(at: str = address, **terms: float) -> Held:
        made.append(Held(at, **terms))
        return await made[-1].placed_here()

    try:
        yield hold
    finally:
        for each in made:
            await each.kill()


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> Iterator[Scheduler]:
    # As a minute after the start: leases are renewed every few seconds only.
    monkeypatch.setattr(module, "SOON_FOR", 0)
    with in_thread(scheduled()) as made:
        yield made


@pytest.fixture
def address(served: Scheduler) -> str:
    return str(served.address)


async def until(condition: Callable[[], object], context: object = "") -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline, context
        await asyncio.sleep(0.02)


async def ends(served: Scheduler) -> None:
    await until(lambda: served.status is Status.closed, "the scheduler stays")


async def stays(served: Scheduler, seconds: float) -> None:
    await asyncio.sleep(seconds)
    assert served.status is Status.running


async def look(address: str) -> Any:
    """Return what a scheduler answers to a look at its lease."""
    async with rpc(address) as calls:
        return await getattr(calls, LOOK)()


class Relay:
    """A TCP relay before a scheduler whose connections can be cut, each end seeing a close."""

    def __init__(self, address: str) -> None:
        self._target = int(address.rpartition(":")[2])
        self._writers: list[asyncio.StreamWriter] = []
        self.cut_with_answer = False
        """Whether the next answer is followed by the close, so that both arrive at once."""

        self.away = False
        """Whether it takes no connection."""

        self.accepted = self.refused = 0

    async def meet(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.away:
            writer.close()
            self.refused += 1
            return
        answers, there = await asyncio.open_connection("127.0.0.1", self._target)
        self._writers += [writer, there]
        self.accepted += 1
        await asyncio.gather(self._pump(reader, there), self._pump(answers, writer, True))
        writer.close()
        there.close()

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, answers: bool = False
    ) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                writer.write(data)
                if answers and self.cut_with_answer:
                    self.cut_with_answer = False
                    break
        writer.close()

    def cut(self) -> None:
        for writer in self._writers:
            writer.close()


@contextlib.asynccontextmanager
async def relayed(address: str) -> AsyncIterator[Relay]:
    relay = Relay(address)
    server = await asyncio.start_server(relay.meet, "127.0.0.1", 0)
    relay.address = f"tcp://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield relay
    finally:
        server.close()
        relay.cut()


@pytest.mark.parametrize(("first", "last"), [("release", "kill"), ("kill", "release")])
async def test_cluster_ends_with_its_last_holder(served: Scheduler, first: str, last: str) -> None:
    """It is killed, or leaves the end to its launcher for a while; who only counts is none."""
    async with holders(served.address) as hold:
        await (await hold(timeout=0)).kill()
        await hold(timeout=0)
        await stays(served, RECONNECT + 1)
        one, other = await hold(), await hold()
        await getattr(one, first)()
        await stays(served, RECONNECT + 1)
        leaves = time.monotonic()
        await getattr(other, last)()
        await ends(served)
        assert time.monotonic() - leaves > RECONNECT


async def test_stopped_holder_is_silent_and_not_closed(served: Scheduler) -> None:
    async with holders(served.address) as hold:
        await (await hold(timeout=4)).stop()
        await stays(served, RECONNECT + 1)
        await ends(served)


async def test_connection_that_is_back_in_time_changes_nothing(address: str) -> None:
    """Also where the close comes with an answer."""
    async with (
        holders(address) as hold, relayed(address) as relay, relayed(address) as other,
    ):  # fmt: skip
        held = await hold(relay.address, reconnect=2)
        await hold(other.address, timeout=6, reconnect=2)
        other.cut_with_answer = True  # the next answer is due in a second
        for connections in (2, 3):
            relay.cut()
            await until(lambda n=connections: relay.accepted >= n)
        await until(lambda: other.accepted > 1)
        await asyncio.sleep(4)
        assert (await look(address))["holders"] == 2
        await held.release()
        assert (held.usages[-1].workers, held.said) == (0, [])


class Forgetful(Provider):
    """A cluster of a gateway that has restarted, and knows none of its clusters."""

    name = "gateway"
    outlives_launcher = True
    description = "a gateway"

    def __init__(self, address: str) -> None:
        claim = Claim.model_validate({"lease_timeout": LONG, "reconnect_timeout": 30})
        super().__init__(Request(claim, claim.plan({}), {}), lambda ticket: None, print)
        self.cluster = Cluster(scheduler_address=address, cluster_name="forgotten")
        self.asked = 0

    async def submit(self) -> None: ...

    async def wait_until_running(self) -> None: ...

    async def ended(self, patience: float = 0.0) -> Ended:
        self.asked += 1
        return Ended("was ended by somebody else: it is forgotten")


@pytest.mark.parametrize("away", [False, True], ids=["takes another one", "is away meanwhile"])
async def test_scheduler_is_believed_before_a_gateway_that_has_forgotten_it(
    address: str, away: bool
) -> None:
    """Its connection is closed: the lease of a cluster that runs is renewed whatever is said.

    Its workers may be waited for meanwhile.
    """
    async with relayed(address) as relay:
        for waits in (False, True):
            provider, seen = Forgetful(relay.address), list[Event]()
            emit = Events([seen.append])
            watch = ClusterWatch(provider.request.claim, emit)
            keeper = LeaseKeeper(provider.request, emit, watch)
            watch.begin(provider)
            await keeper.begin(provider)
            waiting = asyncio.ensure_future(keeper.wait_for_workers(1)) if waits else None
            await until(lambda keeper=keeper: keeper.leased)
            before, relay.away = relay.accepted, away
            relay.cut()
            if away:
                await until(lambda watch=watch: watch.ended is not None)
                relay.away = False
            await until(lambda n=before: relay.accepted > n)
            await until(lambda watch=watch: watch.ended is None)
            if waiting is not None:
                assert away or not waiting.done()
                waiting.cancel()
                await asyncio.wait({waiting})
            await keeper.end()
            assert (provider.asked, watch.ended) == (int(away), None)
            assert ("has not ended" in str(seen)) is away


async def test_scheduler_that_takes_no_connection_is_told_once(address: str) -> None:
    async with holders(address) as hold, relayed(address) as relay:
        held = await hold(relay.address)
        relay.away = True
        relay.cut()
        await until(lambda: held.said)
        asked = relay.refused
        await until(lambda: relay.refused > asked + 4)
        [told] = held.said
        assert "does not answer" in told


async def test_busy_scheduler_is_told_and_its_recovery_too(
    served: Scheduler, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease_connection, "CALL_TIMEOUT", 0.5)
    free = threading.Event()
    async with holders(served.address) as hold:
        held = await hold(timeout=3)
        served.loop.asyncio_loop.call_soon_threadsafe(free.wait, 60)
        try:
            await until(lambda: held.said)
        finally:
            free.set()
        await until(lambda: len(held.said) > 1)
        assert "does not answer" in held.said[0] and "answers again" in held.said[1]
        await stays(served, RECONNECT + 1)


async def test_what_a_look_and_a_report_tell(address: str) -> None:
    """Tasks from before the lease count; of a report each release reads what it understands."""
    async with holders(address) as hold:
        worker = Worker(address, dashboard_address=None)
        async with Client(address, asynchronous=True) as client, worker:
            await client.gather(client.map(abs, range(5)))
            with contextlib.suppress(ValueError):
                await client.submit(int, "x")
        await hold()
        held = await hold()
        await held.release()
        reported = vars(held.usages[-1])
        assert (reported["tasks_done"], reported["tasks_failed"]) == (5, 1)
        assert set(reported) == {field.name for field in fields(Usage)}
        answer = await look(address)
        assert (answer["holders"], answer["workers"], answer["ends_cluster"]) == (2, 0, True)
        oldest = {name: 0 for name in list(reported)[:8]}
        assert Usage.of(oldest).waiting == 0
        assert Usage.of({**oldest, "waiting": 2, "of_tomorrow": 3}).waiting == 2


@pytest.mark.parametrize("address", ["gateway://127.0.0.1:1/name", "tcp://127.0.0.1:1"])
async def test_scheduler_that_is_not_reached_is_told_with_its_address(
    monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    """Once, while it is tried again: through a proxy that is not the gateway's, for example."""
    import dask_gateway  # noqa: F401  registers gateway://

    monkeypatch.setattr(lease_connection, "PLACE_TIMEOUT", 0.1)
    tries, told = [], []

    async def is_over() -> bool:
        tries.append(1)
        return len(tries) == 3

    class Keys:
        def get_connection_args(self, role: str) -> dict[str, Any]:
            return {"ssl_context": ssl.create_default_context()}

    keys = Keys() if address.startswith("gateway") else None
    lease = Lease(address, keys, timeout=0.3, lifetime=None, reconnect_timeout=1.0)
    await lease.place(lambda usage: None, told.append, is_over)
    [line] = told
    assert f"does not answer at {address}" in line
    assert ("proxy_url" in line) is address.startswith("gateway")
