"""What the scheduler of a shared cluster decides: who may join, how many workers, when it ends."""

from __future__ import annotations

import asyncio
from datetime import datetime
from types import SimpleNamespace
from typing import Any

import pytest
from distributed import Scheduler
from distributed.core import rpc

from dask_claim.lifetime.lease import Lease
from dask_claim.lifetime.lease_connection import JoinRefused, LeaseConnection
from dask_claim.lifetime.lease_plugin import NAME, RENEW
from dask_claim.lifetime.sharing import adapt_workers
from dask_claim.providers.gateway import reclaiming
from dask_claim.providers.gateway.reclaiming import Ending
from dask_claim.providers.gateway.reports import MARK, Mark
from dask_claim.providers.gateway.shared import SharedClusters
from dask_claim.providers.share import Share
from dask_claim.providers.usage import LOOK, Usage
from dask_claim.providers.values import Outcome
from dask_claim.threads import in_time
from tests.support.here import scheduled

TERMS = {"key": "k", "digest": "d", "minimum": 1, "maximum": 2, "keep": 60.0, "joined": False}


class Runs:
    """Runs on one scheduler."""

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler
        self.usages: dict[str, Usage] = {}

    async def join(self, name: str, **terms: Any) -> Lease:
        share = {"most": None, "longest": None, **TERMS, **terms}
        lease = Lease(self._scheduler.address, None, 60.0, None, 1.0, name, share)

        async def is_over() -> bool:
            return False

        await lease.place(lambda usage: self.usages.update({name: usage}), print, is_over)
        return lease

    async def look(self) -> Any:
        async with rpc(self._scheduler.address) as calls:
            return await getattr(calls, LOOK)()

    def bounds(self, name: str) -> list[int]:
        shared = self.usages[name].shared
        assert shared
        return list(shared["bounds"])


class OneCluster:
    """A gateway's answers about one running cluster, and about this run's own, which is younger."""

    clock_ahead = 0.0

    def __init__(self, address: str, mark: str = "") -> None:
        self.address, self.mark, self.running = address, mark, True

    async def clusters(self) -> list[Any]:
        own = {"name": "own", "start_time": datetime.fromtimestamp(2), "options": {}}
        return [
            await self.report("c1"),
            SimpleNamespace(status=SimpleNamespace(name="PENDING"), **own),
        ]

    async def report(self, name: str) -> Any:
        return SimpleNamespace(
            name=name,
            start_time=datetime.fromtimestamp(1),
            options={"environment": {MARK: self.mark}},
            status=SimpleNamespace(name="RUNNING" if self.running else "STOPPED"),
            scheduler_address=self.address,
            security=None,
        )

    async def delete(self, name: str) -> None:
        self.running = False


async def refusal(joining: Any) -> str:
    with pytest.raises(JoinRefused) as refused:
        await joining
    return str(refused.value)


async def test_join_leave_and_end() -> None:
    async with scheduled() as scheduler:
        runs = Runs(scheduler)
        one = await runs.join("one")
        two = await runs.join("two", minimum=3, maximum=4, joined=True)
        assert runs.bounds("two") == [3, 6]
        three = await runs.join("three", maximum=9, most=7, joined=True)
        assert runs.bounds("three") == [3, 9]  # what one has been allowed, it has
        assert "another request" in await refusal(runs.join("four", digest="other"))
        await three.release()
        assert (await runs.look())["holders"] == 2
        await two.release()
        assert runs.usages["two"].shared["others"] == 1
        await one.release()
        answer = await runs.look()
        assert answer["holders"] == 0 and 50 < answer["shared"]["ends_in"] <= 60
        plugin = scheduler.plugins[NAME]
        # A gateway's idle timeout does not count meanwhile: it looks at this time.
        scheduler.time_started = 0
        await plugin.check(0.0)
        assert scheduler.time_started or scheduler.transition_log
        # The minimum of workers stays for a moment longer than the last run.
        assert plugin.bounds() == (1, 2)
        plugin._warm_until = 0.0
        assert plugin.bounds() == (0, 2)
        # A run that joins stops the clock.
        five = await runs.join("five", keep=0.0)
        assert (await runs.look())["shared"]["ends_in"] is None
        # What ends takes nobody any more.
        scheduler.plugins[NAME]._ending = True
        assert "ending" in await refusal(runs.join("six"))
        scheduler.plugins[NAME]._ending = False
        # Whatever another release of dask-gateway lacks, the lease ends its cluster.
        scheduler.services["gateway"] = SimpleNamespace(adapt=None, stop=list)
        await five.release()
        await in_time(scheduler.finished(), 20)


async def test_cluster_older_than_its_site_allows_takes_no_run() -> None:
    async with scheduled() as scheduler:
        runs = Runs(scheduler)
        one = await runs.join("one", longest=0.01)
        await asyncio.sleep(0.02)
        assert "older" in await refusal(runs.join("two"))
        # Nor is it tried by those who look before.
        share = Share("k", "d")
        cluster: Any = OneCluster(scheduler.address, str(Mark("one", True, share)))
        assert await SharedClusters(cluster, share, frozenset()).oldest() is None
        assert await SharedClusters(cluster, share, frozenset()).older_than("own") is None
        await one.release()
        await in_time(scheduler.finished(), 20)
    async with scheduled() as scheduler:
        # Nor does it stay for a time in which nobody could join it.
        one = await Runs(scheduler).join("one", longest=30.0)
        await one.release()
        assert 0 < (await scheduler.plugins[NAME].look())["shared"]["ends_in"] <= 30


async def test_run_that_was_silent_for_long_is_in_again_with_its_own_figures() -> None:
    async with scheduled() as scheduler:
        share = {"most": None, "longest": None, **TERMS}
        terms = {"timeout": 60.0, "reconnect_timeout": 1.0, "lifetime": None}
        one = LeaseConnection(scheduler.address, None, {"holder": "one", **terms, "share": share})
        await one.place()
        await one.exchange(RENEW)
        plugin = scheduler.plugins[NAME]
        plugin._parts["one"].done = 7
        # Its process was stopped, and its connection survived.
        plugin._holders["one"].heard -= 100
        await plugin.check(0.0)
        look = await plugin.look()
        assert look["holders"] == 0 and look["shared"]["ends_in"] > 50
        usage = Usage.of(await one.exchange(RENEW))
        look = await plugin.look()
        assert look["holders"] == 1 and look["shared"]["ends_in"] is None
        assert usage.shared and usage.shared["bounds"] == (1, 2) and usage.tasks_done == 7
        # One whose time is over stays out.
        plugin._holders["one"].lifetime = 0.0001
        await plugin.check(0.0)
        await one.exchange(RENEW)
        assert (await plugin.look())["holders"] == 0
        await one.close()


async def test_only_what_is_surely_unused_is_ended_and_only_what_is_used_is_left(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with scheduled() as scheduler:
        warnings: list[str] = []
        cluster: Any = OneCluster("tcp://127.0.0.1:9")

        async def end(seconds: float) -> Outcome:
            return await in_time(Ending(cluster, warnings.append).end_unused("c1"), seconds)

        with pytest.raises(asyncio.TimeoutError):
            await end(0.5)
        assert cluster.running and "stays; `dask-claim clusters stop c1`" in warnings.pop()
        # A scheduler that answers later.
        ending = asyncio.ensure_future(end(30))
        await asyncio.sleep(0)
        cluster.address = scheduler.address
        runs = Runs(scheduler)
        one = await runs.join("one")
        assert await ending is Outcome.KEPT and cluster.running
        await one.release()
        assert await end(30) is Outcome.KEPT and cluster.running
    async with scheduled() as scheduler:
        cluster.address = scheduler.address
        # A run joins in the second for which a new cluster is left alone.
        joined = []

        async def settled(_: float | None) -> None:
            joined.append(await Runs(scheduler).join("one"))

        with monkeypatch.context() as patched:
            patched.setattr(reclaiming, "until_settled", settled)
            assert await end(30) is Outcome.KEPT and cluster.running
        await joined[0].release()
    async with scheduled() as scheduler:
        cluster.address = scheduler.address
        assert await end(30) is Outcome.GONE and not cluster.running
        assert warnings == []


# dask-gateway's own plugin, with an old dask-gateway.
@pytest.mark.filterwarnings("ignore:The signature of:FutureWarning")
async def test_names_of_others_that_sharing_uses() -> None:
    """The handlers of Dask's scheduler, and the gateway's own part beside it."""
    from dask_gateway.scheduler_preload import GatewaySchedulerService

    async with scheduled() as scheduler:
        names = {"terminate", "restart", "retire_workers"}
        assert names <= scheduler.handlers.keys()
        service = GatewaySchedulerService(scheduler, gateway=SimpleNamespace(token="t"))
        scheduler.services["gateway"] = service
        await adapt_workers(scheduler, 2, 5)
        assert (service.minimum, service.maximum, service.count) == (2, 5, 2)
        await adapt_workers(scheduler, 0, 5)
        assert (service.minimum, service.count) == (0, 2)  # not at once
        service.stop()
