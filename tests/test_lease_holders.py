"""Lease holders on a real scheduler: what ends one, what does not, and what it tells.

Schedulers and holders are processes of their own, forked from one that has Dask imported.
"""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import os
import re
import signal
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import fields
from multiprocessing.connection import Connection
from typing import Any

import pytest
from distributed import Client, Scheduler, Worker
from distributed.comm import connect
from distributed.core import send_recv

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
from tests.support.launcher import wait_for

RECONNECT = 1.0
"""The shortest there is."""

LONG = 60.0

FORKED = multiprocessing.get_context("forkserver")
FORKED.set_forkserver_preload([__name__])


def serve(end: Connection) -> None:
    """Be a scheduler."""

    async def main() -> None:
        async with Scheduler(
            host="127.0.0.1", port=0, dashboard=False, dashboard_address="127.0.0.1:0"
        ) as scheduler:
            end.send(scheduler.address)
            await scheduler.finished()

    asyncio.run(main())


async def running() -> bool:
    return False


def hold(end: Connection, address: str, terms: dict[str, Any]) -> None:
    """Hold a lease until told to release it; tell what is heard, and what was used."""
    # As a minute after the start: renewed every few seconds only.
    module.SOON_FOR = 0

    async def main() -> None:
        lease = Lease(address, None, lifetime=None, **terms)
        seen: list[Usage] = []
        await lease.place(seen.append, end.send, running)
        end.send("placed")
        await asyncio.get_running_loop().run_in_executor(None, end.recv)
        await lease.release()
        end.send(vars(seen[-1]))

    asyncio.run(main())


def work(end: Connection, address: str) -> None:
    """Have five tasks done, and one failed."""

    async def main() -> None:
        worker = Worker(address, dashboard_address=None)
        async with Client(address, asynchronous=True) as client, worker:
            await client.gather(client.map(abs, range(5)))
            with contextlib.suppress(ValueError):
                await client.submit(int, "x")

    asyncio.run(main())
    end.send("done")


class Other:
    """A process that does `what`."""

    def __init__(self, what: Callable[..., None], *arguments: Any) -> None:
        self.end, theirs = FORKED.Pipe()
        self.process = FORKED.Process(target=what, args=(theirs, *arguments), daemon=True)
        self.process.start()
        theirs.close()
        self.said = ""

    def hear(self) -> Any:
        assert self.end.poll(60)
        return self.end.recv()

    def until(self, pattern: str) -> None:
        def heard() -> bool:
            while self.end.poll():
                self.said += f"{self.end.recv()}\n"
            return bool(re.search(pattern, self.said))

        wait_for(heard, repr(pattern), context=lambda: self.said)

    def signal(self, signum: int) -> None:
        os.kill(self.process.pid or 0, signum)

    def kill(self) -> None:
        self.process.kill()
        self.process.join()

    def release(self) -> Any:
        """What was used."""
        self.end.send("release")
        return self.hear()

    def ends(self) -> None:
        self.process.join(20)
        assert not self.process.is_alive()

    def stays(self, seconds: float) -> None:
        self.process.join(seconds)
        assert self.process.is_alive()


Forks = Callable[..., Other]


@pytest.fixture
def fork() -> Iterator[Forks]:
    made: list[Other] = []

    def start(*arguments: Any) -> Other:
        made.append(Other(*arguments))
        return made[-1]

    yield start
    for other in made:
        other.kill()
        other.end.close()


@pytest.fixture
def served(fork: Forks) -> Other:
    return fork(serve)


@pytest.fixture
def address(served: Other) -> str:
    return str(served.hear())


@pytest.fixture
def holder(fork: Forks, address: str) -> Forks:
    def start(timeout: float = LONG, at: str = address, reconnect: float = RECONNECT) -> Other:
        made = fork(hold, at, {"timeout": timeout, "reconnect_timeout": reconnect})
        made.until("placed")
        return made

    return start


def look(address: str) -> Any:
    """What a scheduler answers to a look at its lease."""

    async def exchange() -> Any:
        comm = await connect(address)
        try:
            return await send_recv(comm, op=LOOK)
        finally:
            comm.abort()

    return asyncio.run(exchange())


class Relay:
    """A TCP relay before a scheduler whose connections can be cut, each end seeing a close."""

    def __init__(self, address: str) -> None:
        self._target = int(address.rpartition(":")[2])
        self._ends: list[socket.socket] = []
        self.cut_with_answer = False
        """Whether the next answer is followed by the close, so that both arrive at once."""

        self.away = False
        """Whether it takes no connection."""

        self.accepted = self.refused = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"tcp://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                here, _ = self._listener.accept()
                if self.away:
                    here.close()
                    self.refused += 1
                    continue
                there = socket.create_connection(("127.0.0.1", self._target))
                self._ends += [here, there]
                self.accepted += 1
                for way in ((here, there, False), (there, here, True)):
                    threading.Thread(target=self._pump, args=way, daemon=True).start()

    def _pump(self, a: socket.socket, b: socket.socket, answers: bool) -> None:
        with contextlib.suppress(OSError):
            while data := a.recv(65536):
                b.sendall(data)
                if answers and self.cut_with_answer:
                    self.cut_with_answer = False
                    break
        self.cut(a, b)

    def cut(self, *ends: socket.socket) -> None:
        for end in ends or self._ends:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self.cut(self._listener)
        self.cut()
        for end in (self._listener, *self._ends):
            end.close()


@pytest.fixture
def relay(address: str) -> Iterator[Relay]:
    with contextlib.closing(Relay(address)) as made:
        yield made


@pytest.mark.parametrize(("first", "last"), [("release", "kill"), ("kill", "release")])
def test_cluster_ends_with_its_last_holder(
    served: Other, holder: Forks, first: str, last: str
) -> None:
    """It is killed, or leaves the end to its launcher for a while; who only counts is none."""
    holder(timeout=0).kill()
    counting = holder(timeout=0)
    served.stays(RECONNECT + 1)
    one, other = holder(), holder()
    getattr(one, first)()
    served.stays(RECONNECT + 1)
    leaves = time.monotonic()
    getattr(other, last)()
    served.ends()
    assert time.monotonic() - leaves > RECONNECT
    assert counting.process.is_alive()


def test_stopped_holder_is_silent_and_not_closed(served: Other, holder: Forks) -> None:
    holder(timeout=4).signal(signal.SIGSTOP)
    served.stays(RECONNECT + 1)
    served.ends()


def test_connection_that_is_back_in_time_changes_nothing(
    address: str, holder: Forks, relay: Relay
) -> None:
    """Also where the close comes with an answer."""
    with contextlib.closing(Relay(address)) as other:
        held = holder(at=relay.address, reconnect=2)
        holder(timeout=6, at=other.address, reconnect=2)
        other.cut_with_answer = True  # the next answer is due in a second
        for connections in (2, 3):
            relay.cut()
            wait_for(lambda n=connections: relay.accepted >= n, "another connection")
        wait_for(lambda: other.accepted > 1, "another connection")
        time.sleep(4)
        assert look(address)["holders"] == 2
    held.until("")
    assert held.release()["workers"] == 0
    assert "scheduler" not in held.said


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
@pytest.mark.parametrize("waits", [False, True], ids=["", "workers are waited for"])
def test_scheduler_is_believed_before_a_gateway_that_has_forgotten_it(
    relay: Relay, away: bool, waits: bool
) -> None:
    """Its connection is closed: the lease of a cluster that runs is renewed whatever is said."""
    provider, seen = Forgetful(relay.address), list[Event]()
    emit = Events([seen.append])
    watch = ClusterWatch(provider.request.claim, emit)
    keeper = LeaseKeeper(provider.request, emit, watch)

    async def until(condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 20
        while not condition():
            assert time.monotonic() < deadline, seen
            await asyncio.sleep(0.02)

    async def run() -> None:
        watch.begin(provider)
        await keeper.begin(provider)
        waiting = asyncio.ensure_future(keeper.wait_for_workers(1)) if waits else None
        await until(lambda: keeper.leased)
        before, relay.away = relay.accepted, away
        relay.cut()
        if away:
            await until(lambda: watch.ended is not None)
            relay.away = False
        await until(lambda: relay.accepted > before)
        await until(lambda: watch.ended is None)
        if waiting is not None:
            assert away or not waiting.done()
            waiting.cancel()
            await asyncio.wait({waiting})
        await keeper.end()

    asyncio.run(run())
    assert (provider.asked, watch.ended) == (int(away), None)
    assert ("has not ended" in str(seen)) is away


def test_scheduler_that_takes_no_connection_is_told_once(holder: Forks, relay: Relay) -> None:
    held = holder(at=relay.address)
    relay.away = True
    relay.cut()
    held.until("does not answer")
    asked = relay.refused
    wait_for(lambda: relay.refused > asked + 4, "more attempts")
    held.until("")
    assert held.said.count("scheduler") == 1, held.said


def test_busy_scheduler_is_told_and_its_recovery_too(served: Other, holder: Forks) -> None:
    held = holder(timeout=3)
    served.signal(signal.SIGSTOP)
    held.until("does not answer")
    served.signal(signal.SIGCONT)
    held.until("answers again")
    served.stays(RECONNECT + 1)


def test_tasks_from_before_the_lease_count(address: str, fork: Forks, holder: Forks) -> None:
    assert fork(work, address).hear() == "done"
    usage = holder().release()
    assert (usage["tasks_done"], usage["tasks_failed"]) == (5, 1)


def test_a_look_and_a_report(address: str, holder: Forks) -> None:
    """Of a report each release reads what it understands."""
    holder()
    reported = holder().release()
    assert set(reported) == {field.name for field in fields(Usage)}
    answer = look(address)
    assert (answer["holders"], answer["workers"], answer["ends_cluster"]) == (2, 0, True)
    oldest = {name: 0 for name in list(reported)[:8]}
    assert Usage.of(oldest).waiting == 0
    assert Usage.of({**oldest, "waiting": 2, "of_tomorrow": 3}).waiting == 2


@pytest.mark.parametrize("address", ["gateway://127.0.0.1:1/name", "tcp://127.0.0.1:1"])
def test_scheduler_that_is_not_reached_is_told_with_its_address(
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
    asyncio.run(lease.place(lambda usage: None, told.append, is_over))
    [line] = told
    assert f"does not answer at {address}" in line
    assert ("proxy_url" in line) is address.startswith("gateway")
