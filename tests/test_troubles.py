"""Workers that are lost and tasks that fail, as a real scheduler sees them."""

from __future__ import annotations

import asyncio
import io
import json
import os
import signal
import time
from dataclasses import astuple
from pathlib import Path
from typing import Any

import dask
import pytest
from distributed import Client, LocalCluster

from dask_claim.providers.host_process import report
from dask_claim.providers.usage import Usage


def lacks_a_module() -> None:
    import no_such_module  # noqa: F401


def reads(path: str) -> str:
    return Path(path).read_text()


def fills() -> None:
    held = []
    while True:
        held.append(bytearray(b"x") * 2**22)
        time.sleep(0.005)


def dies() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def ends() -> None:
    os._exit(3)


class Unknown:
    """Cannot be had where there is no module of this name."""

    def __reduce__(self) -> Any:
        return __import__, ("no_module_of_the_scheduler",)


async def trouble(client: Client) -> None:
    """Whatever can go wrong, one thing after the other."""
    await client.gather(client.map(time.sleep, [0.1] * 5, pure=False))
    for function, *arguments in (
        (lacks_a_module,), (lacks_a_module,), (reads, "/no/such/file"), (fills,), (dies,), (ends,),
        (sum, Unknown()),
    ):  # fmt: skip
        # Of the next worker, where the last one was lost.
        await client.wait_for_workers(1)
        assert await client.submit(function, *arguments, pure=False).exception()
    # One that the program starts again, or that goes since nobody needs it, is not lost.
    await client.wait_for_workers(1)
    await client.restart(timeout=120)
    await client.wait_for_workers(1)
    await client.retire_workers()


SETTINGS = {
    "distributed.scheduler.allowed-failures": 0,
    # By then a cluster gives a worker up that happens to be lost once more.
    "distributed.deploy.lost-worker-timeout": "5 m",
}


@pytest.mark.slow
async def test_what_is_lost_fails_and_was_used() -> None:
    """By the last report of a cluster in which much went wrong."""
    lines = io.StringIO()
    with dask.config.set(SETTINGS):
        async with LocalCluster(
            n_workers=1, threads_per_worker=1, memory_limit="400 MiB", dashboard_address=":0",
            asynchronous=True,
        ) as cluster:  # fmt: skip
            reporting = asyncio.create_task(report(cluster, lines))
            async with Client(cluster, asynchronous=True) as client:
                await trouble(client)
            reporting.cancel()
            await asyncio.wait([reporting])
    usage = Usage.of(json.loads(lines.getvalue().splitlines()[-1])["usage"])
    assert sorted(map(astuple, usage.errors)) == [
        ("FileNotFoundError", 1, "No such file or directory: /no/such/file", "workers"),
        ("KilledWorker", 3, "fills", "workers"),
        ("ModuleNotFoundError", 1, "No module named 'no_module_of_the_scheduler'", "scheduler"),
        ("ModuleNotFoundError", 2, "No module named 'no_such_module'", "workers"),
    ]
    assert (usage.tasks_failed, usage.tasks_done) == (6, 5)
    lost = {loss.reason: loss for loss in usage.lost}
    assert {reason: loss.count for reason, loss in lost.items()} == {
        "memory_limit": 1, "killed": 1, "exited": 1,
    }  # fmt: skip
    assert "of 0.39 GiB" in lost["memory_limit"].text and "SIGKILL" in lost["killed"].text
    assert lost["exited"].text.endswith("ended with status 3")
    assert 0.5 <= usage.busy_seconds <= usage.core_seconds and 0 < usage.efficiency <= 1
    assert 50 * 2**20 < usage.memory_peak <= usage.cluster_memory_peak
    assert usage.tasks_total == usage.tasks_done + usage.tasks_failed and usage.processing == 0
