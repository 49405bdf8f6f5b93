"""Lease holders on a real scheduler: what ends one, what does not, and what it tells."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import select
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from distributed.comm import connect
from distributed.core import send_recv

from dask_claim.claim.model import Claim
from dask_claim.launch.events import Event, Events
from dask_claim.launch.leasing import Leasing
from dask_claim.lifetime import lease_plugin
from dask_claim.lifetime.usage import Usage
from dask_claim.providers.base import Provider
from dask_claim.providers.values import Cluster, Ended, Request
from tests.support.gateway import clean_environment, free_port
from tests.support.launcher import wait_for

RECONNECT = 2.0
LONG = 60.0

# Holds a lease until it is told to release it; prints what it hears.
HOLDER = """
import asyncio, json, sys
from dask_claim.lifetime import lease as module
from dask_claim.lifetime.lease import Lease

# As a minute after the start: renewed every few seconds only.
module.SOON_FOR = 0

async def hold(address, **terms):
    lease = Lease(address, None, lifetime=None, **terms)
    say = lambda text: print(text, flush=True)
    await lease.place(0, lambda usage: say(f"workers {usage.workers}"), say)
    say("placed")
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)
    await lease.release()
    say(json.dumps(lease.usage.__dict__))

asyncio.run(hold(**json.loads(sys.argv[1])))
"""


class Holder:
    def __init__(self, address: str, timeout: float = LONG, **terms: Any) -> None:
        terms = {"reconnect_timeout": RECONNECT, **terms, "address": address, "timeout": timeout}
        self.process = subprocess.Popen(
            [sys.executable, "-c", HOLDER, json.dumps(terms)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=clean_environment(),
        )  # fmt: skip
        self.said = ""
        try:
            self.until("placed", 60)  # distributed is imported
        except BaseException:
            self.kill()
            raise

    def until(self, pattern: str, timeout: float = 20) -> None:
        def heard() -> bool:
            out = self.process.stdout
            while select.select([out], [], [], 0)[0] and (some := os.read(out.fileno(), 4096)):
                self.said += some.decode()
            return bool(re.search(pattern, self.said))

        wait_for(heard, repr(pattern), timeout, lambda: self.said)

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()

    def release(self) -> dict[str, Any]:
        out, _ = self.process.communicate(b"\n", timeout=20)
        usage: dict[str, Any] = json.loads(out.decode().splitlines()[-1])
        return usage


class Scheduler:
    def __init__(self, folder: Path) -> None:
        self.address = f"tcp://127.0.0.1:{free_port()}"
        with (folder / "scheduler.log").open("w") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "dask", "scheduler", "--no-dashboard", "--no-jupyter",
                 "--host", self.address],
                env=clean_environment(), cwd=folder, stdout=log, stderr=log,
            )  # fmt: skip
        host, port = self.address.removeprefix("tcp://").split(":")
        wait_for(lambda: _listens(host, int(port)), "scheduler")

    def ended_after(self, timeout: float) -> float:
        began = time.monotonic()
        wait_for(lambda: self.process.poll() is not None, "end of the scheduler", timeout)
        return time.monotonic() - began

    def stays(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            assert self.process.poll() is None
            time.sleep(0.05)


def _listens(host: str, port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection((host, port)):
        return True
    return False


@pytest.fixture
def scheduler(tmp_path: Path) -> Iterator[Scheduler]:
    made = Scheduler(tmp_path)
    yield made
    made.process.kill()
    made.process.wait()


@pytest.fixture
def holders() -> Iterator[list[Holder]]:
    made: list[Holder] = []
    yield made
    for holder in made:
        holder.kill()


class Relay:
    """A TCP relay before a scheduler whose connections can be cut, each end seeing a close.

    With `cut_with_answer` the next answer is followed by the close, so that both arrive at once.
    """

    def __init__(self, scheduler: Scheduler) -> None:
        self._target = int(scheduler.address.rpartition(":")[2])
        self._ends: list[socket.socket] = []
        self.cut_with_answer = False
        self.away = False
        """Whether it takes no connection."""

        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"tcp://127.0.0.1:{self._listener.getsockname()[1]}"
        self.accepted = 0
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                here, _ = self._listener.accept()
                if self.away:
                    here.close()
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
        for end in (a, b):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def cut(self) -> None:
        for end in self._ends:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()
        for end in self._ends:
            end.close()


def test_killed_holder_is_seen_by_its_connection(
    scheduler: Scheduler, holders: list[Holder]
) -> None:
    holders.append(holder := Holder(scheduler.address))
    scheduler.stays(2 * RECONNECT)
    holder.kill()
    assert scheduler.ended_after(RECONNECT + 5) > RECONNECT * 0.7


def test_stopped_holder_is_silent_and_not_closed(
    scheduler: Scheduler, holders: list[Holder]
) -> None:
    holders.append(holder := Holder(scheduler.address, timeout=6))
    holder.process.send_signal(signal.SIGSTOP)
    scheduler.stays(RECONNECT + 2)
    scheduler.ended_after(8)


@pytest.fixture
def relay(scheduler: Scheduler) -> Iterator[Relay]:
    with contextlib.closing(Relay(scheduler)) as made:
        yield made


def test_connection_that_is_back_in_time_changes_nothing(
    scheduler: Scheduler, holders: list[Holder], relay: Relay
) -> None:
    holders.append(holder := Holder(relay.address))
    for connections in (2, 3):
        relay.cut()
        wait_for(lambda n=connections: relay.accepted >= n, "another connection", RECONNECT)
    scheduler.stays(2.5 * RECONNECT)
    usage = holder.release()
    assert "scheduler" not in holder.said
    assert usage["workers"] == 0


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
    leasing = Leasing(provider.request, Events([seen.append]))

    async def until(condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 20
        while not condition():
            assert time.monotonic() < deadline, seen
            await asyncio.sleep(0.02)

    async def run() -> None:
        await leasing.begin(provider)
        leasing.minimum = 1
        waiting = asyncio.ensure_future(leasing.wait_for_workers()) if waits else None
        await until(lambda: leasing.leased)
        before, relay.away = relay.accepted, away
        relay.cut()
        if away:
            await until(lambda: leasing.ended is not None)
            relay.away = False
        await until(lambda: relay.accepted > before)
        await until(lambda: leasing.ended is None)
        if waiting is not None:
            assert away or not waiting.done()
            waiting.cancel()
            await asyncio.wait({waiting})
        await leasing.end()

    asyncio.run(run())
    assert (provider.asked, leasing.ended) == (int(away), None)
    assert ("has not ended" in str(seen)) is away


def test_close_that_comes_with_an_answer_is_seen(
    scheduler: Scheduler, holders: list[Holder], relay: Relay
) -> None:
    holders.append(Holder(relay.address))
    relay.cut_with_answer = True  # the next answer is due in 5 s
    wait_for(lambda: relay.accepted > 1, "another connection")
    scheduler.stays(2.5 * RECONNECT)


def test_cluster_ends_with_its_last_holder(scheduler: Scheduler, holders: list[Holder]) -> None:
    first, second, counting = (Holder(scheduler.address, timeout) for timeout in (LONG, LONG, 0))
    holders += [first, second, counting]
    first.kill()
    scheduler.stays(RECONNECT + 2)
    second.kill()
    # Who only counts holds nothing.
    scheduler.ended_after(RECONNECT + 5)


def test_release_leaves_the_end_to_the_launcher_for_a_while(
    scheduler: Scheduler, holders: list[Holder]
) -> None:
    first, second = Holder(scheduler.address), Holder(scheduler.address)
    holders += [first, second]
    first.release()
    scheduler.stays(RECONNECT + 2)
    second.release()
    assert scheduler.ended_after(RECONNECT + 5) > RECONNECT * 0.7


def test_without_a_timeout_nothing_ends(scheduler: Scheduler, holders: list[Holder]) -> None:
    holders.append(holder := Holder(scheduler.address, timeout=0))
    holder.kill()
    scheduler.stays(RECONNECT + 3)


def test_scheduler_that_is_gone_is_told_once(scheduler: Scheduler, holders: list[Holder]) -> None:
    holders.append(holder := Holder(scheduler.address))
    scheduler.process.kill()
    holder.until("is gone: it has taken no connection", 20)
    time.sleep(6)  # it goes on asking, twice at least, and says no more
    holder.until("")
    told = [line for line in holder.said.splitlines() if "scheduler" in line]
    assert len(told) == 2, told
    assert "does not answer" in told[0]


def test_busy_scheduler_is_told_and_its_recovery_too(
    scheduler: Scheduler, holders: list[Holder]
) -> None:
    holders.append(holder := Holder(scheduler.address, timeout=9))
    scheduler.process.send_signal(signal.SIGSTOP)
    holder.until("does not answer", 20)
    scheduler.process.send_signal(signal.SIGCONT)
    holder.until("answers again", 20)
    assert "gone" not in holder.said
    scheduler.stays(RECONNECT + 1)


def test_tasks_from_before_the_lease_count(scheduler: Scheduler, holders: list[Holder]) -> None:
    program = (
        "import sys\n"
        "from distributed import Client, LocalCluster\n"
        "from distributed import Worker\n"
        "import asyncio\n"
        "async def work():\n"
        "    async with Client(sys.argv[1], asynchronous=True) as client:\n"
        "        async with Worker(sys.argv[1], dashboard_address=None):\n"
        "            await client.gather(client.map(abs, range(5)))\n"
        "            try:\n"
        "                await client.submit(int, 'x')\n"
        "            except ValueError:\n"
        "                pass\n"
        "asyncio.run(work())\n"
    )
    subprocess.run(
        [sys.executable, "-c", program, scheduler.address],
        env=clean_environment(), check=True, timeout=60,
    )  # fmt: skip
    holders.append(holder := Holder(scheduler.address))
    usage = holder.release()
    assert (usage["tasks_done"], usage["tasks_failed"]) == (5, 1)


# The figures of a lease's first form; a launcher of that time refuses any other one.
FIRST_FORM = {
    "workers", "peak", "cores", "memory", "worker_seconds", "core_seconds", "tasks_done",
    "tasks_failed", "unread",
}  # fmt: skip
MORE = {"waiting", "out_of_memory", "gave_up", "no_workers_timeout"}


def test_older_launcher_reads_only_what_it_knows(
    scheduler: Scheduler, holders: list[Holder]
) -> None:
    holders.append(Holder(scheduler.address))

    async def renewed(message: str) -> set[str]:
        comm = await connect(scheduler.address)
        terms = {"holder": message, "timeout": LONG, "reconnect_timeout": LONG, "lifetime": None}
        await send_recv(comm, reply=False, op=lease_plugin.HOLD, **terms)
        await comm.write(message)
        reply = await comm.read()
        comm.abort()
        return set(reply)

    assert asyncio.run(renewed("renew")) == FIRST_FORM
    assert asyncio.run(renewed(lease_plugin.MORE)) == FIRST_FORM | MORE
    # And the other way round: from an older scheduler, and from a newer one.
    first = dict.fromkeys(FIRST_FORM, 0)
    assert Usage.of(first).waiting == 0
    assert Usage.of({**first, "waiting": 2, "of_tomorrow": 3}).waiting == 2


@pytest.mark.parametrize("address", ["gateway://127.0.0.1:1/name", "tcp://127.0.0.1:1"])
def test_scheduler_that_is_not_reached_is_told_with_its_address(
    monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    """Once, while it is tried again: through a proxy that is not the gateway's, for example."""
    import dask_gateway  # noqa: F401  registers gateway://

    from dask_claim.lifetime.lease import Lease

    monkeypatch.setattr("dask_claim.lifetime.lease.PLACE_TIMEOUT", 0.1)
    tries, told = [], []

    async def is_over() -> bool:
        tries.append(1)
        return len(tries) == 3

    class Keys:
        def get_connection_args(self, role: str) -> dict[str, Any]:
            return {"ssl_context": ssl.create_default_context()}

    keys = Keys() if address.startswith("gateway") else None
    lease = Lease(address, keys, timeout=0.3, lifetime=None, reconnect_timeout=1.0)
    asyncio.run(lease.place(0, lambda usage: None, told.append, is_over))
    [line] = told
    assert f"does not answer at {address}" in line
    assert ("proxy_url" in line) is address.startswith("gateway")
