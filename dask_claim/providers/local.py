"""A LocalCluster in this container, held by the launcher through a process of its own."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from dask_claim.errors import ClusterFailed
from dask_claim.guard_process import lives
from dask_claim.handoff import DASK_CONFIG, NOWHERE, Handoff
from dask_claim.providers.base import Order
from dask_claim.providers.local_size import Wish

HOST = Path(__file__).with_name("local_host.py")


class LocalProvider:
    """Starts and ends the process that holds the cluster (see `local_host`)."""

    name = "local"
    description = "this machine (LocalCluster)"
    obstacle: str | None = None
    needs_lease = False
    owns_cluster = True

    def __init__(self, order: Order) -> None:
        self._order = order
        self._host: asyncio.subprocess.Process | None = None
        self.handoff = Handoff()

    async def submit(self) -> None:
        # The child's start is not to be interrupted half-way: `stop` needs to know the process.
        start = asyncio.ensure_future(self._start())
        try:
            await asyncio.shield(start)
        except asyncio.CancelledError:
            await start
            raise
        await self._learn()

    async def _start(self) -> None:
        self._host = await asyncio.create_subprocess_exec(
            sys.executable,
            str(HOST),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            env={DASK_CONFIG: NOWHERE, **self._order.environ},
            # Neither Ctrl-C nor a signal to the launcher's group may reach the cluster.
            start_new_session=True,
        )
        self._order.note(local_host=self._host.pid)

    async def _learn(self) -> None:
        """Wait for the host's word on where the scheduler is."""
        host = self._host
        assert host is not None and host.stdin is not None and host.stdout is not None
        host.stdin.write(json.dumps(asdict(self._wish())).encode() + b"\n")
        line = await host.stdout.readline()
        if not line:
            raise ClusterFailed(
                f"the local cluster did not start (exit status {await host.wait()}); its own words "
                "stand above"
            )
        event = json.loads(line)
        self.handoff = Handoff(
            scheduler_address=event["scheduler_address"], dashboard_url=event["dashboard_url"]
        )
        self._workers = (event["min_workers"], event["max_workers"])
        if event["shortfall"]:
            self._order.warn(event["shortfall"])

    def _wish(self) -> Wish:
        claim, plan = self._order.claim, self._order.plan
        return Wish(
            plan.min_workers,
            plan.max_workers,
            claim.worker_cores,
            claim.worker_cores_limit,
            claim.worker_memory.bytes if claim.worker_memory else None,
        )

    async def wait_until_running(self) -> None: ...

    async def size(self) -> tuple[int, int]:
        return self._workers

    def security(self) -> Any:
        return None

    async def stop(self) -> bool | None:
        host = self._host
        if host is None:
            return None
        assert host.stdin is not None
        host.stdin.close()
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(host.wait(), self._order.stop_timeout)
        # Whoever is left of the session: a host that hangs, or workers that outlived it.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(host.pid, signal.SIGKILL)
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(host.wait(), 5.0)
        return await _group_is_gone(host.pid)


async def _group_is_gone(group: int) -> bool:
    for _ in range(100):
        if not lives(group):
            return True
        await asyncio.sleep(0.02)
    return False
