"""A gateway and a scheduler that fail in every way one can be asked in vain.

The scheduler is a real one behind TLS, at the port where the gateway's proxy would be, or a socket
that behaves badly there. Both run in a thread, so that a test may ask them as a command does.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import asdict
from typing import Any

from aiohttp import web
from distributed import Client, Scheduler, Security
from distributed.comm.registry import backends  # noqa: F401  # before dask_gateway adds its own

from dask_claim.claim.addresses import GatewayAddress
from dask_claim.lifetime.lease import Lease
from dask_claim.lifetime.lease_plugin import NAME, LeasePlugin
from dask_claim.providers.values import Ticket
from tests.support.serving import fail, http, in_thread, raw

SECURITY = Security.temporary()
STRANGER = Security.temporary()

CLUSTER = "c0ffee"
HTTP_FAULTS = ("reset", "hang", "404", "401", "403", "429", "500", "502", "garbage", "list")
SCHEDULER_FAULTS = (
    "refused", "reset", "hang", "garbage", "closed", "tls", "busy", "blocked", "odd", "no holders",
)  # fmt: skip
"""`busy`: a scheduler whose loop stands still; `blocked`: it refuses the call; `odd`, `no holders`:
it answers what no lease says."""


class SilentLease(LeasePlugin):
    """A lease whose launchers are gone, on a scheduler that cannot end itself."""

    async def _end(self, reason: str) -> None:
        await asyncio.sleep(3600)


class Faulty:
    """One gateway that lists one cluster, which is an hour old; it knows every other name, too."""

    def __init__(self, **options: Any) -> None:
        self.options = options
        self.age = 3600.0
        self.faults: dict[str, str] = {}
        """Of `list` and `report`: which fault their answers have."""

        self.late = 0.0
        """Seconds that a report takes, as where a gateway waits for a cluster to start."""

        self.offered: list[dict[str, Any]] = []
        """The specification of its options."""

        self.requested: dict[str, Any] | None = None
        """The options of the last request for a cluster."""

        self.together = 1
        """How many clusters have to be ended before any answer to that comes."""

        self.ended: list[str] = []
        self.ended_at = 0.0
        """By the monotonic clock."""

        self.scheduler_port = 0

    def claim(self) -> dict[str, Any]:
        return {"gateway_url": self.url, "proxy_url": f"gateway://127.0.0.1:{self.scheduler_port}"}

    def address(self) -> GatewayAddress:
        claim = self.claim()
        return GatewayAddress(claim["gateway_url"], claim["proxy_url"], trusted=True)

    def ticket(self, provider: str = "gateway", **known: Any) -> Ticket:
        """A ticket for something here: its cluster's name, else facts."""
        name = known.pop("cluster_name", None)
        return Ticket(provider, {"gateway": asdict(self.address()), **known}, cluster_name=name)

    def report(self, name: str, *, full: bool) -> dict[str, Any]:
        keys = {"tls_cert": SECURITY.tls_client_cert, "tls_key": SECURITY.tls_client_key}
        return {
            "name": name,
            "dashboard_route": None,
            "status": "STOPPED" if name in self.ended else "RUNNING",
            "start_time": int((time.time() - self.age) * 1000),
            "stop_time": None,
            "options": self.options,
            **(keys if full else dict.fromkeys(keys)),
        }

    async def handle(self, request: web.Request) -> web.StreamResponse:
        if request.method == "DELETE":
            self.ended.append(request.path.rsplit("/", 1)[1])
            self.ended_at = time.monotonic()
            while len(self.ended) < self.together:
                await asyncio.sleep(0.01)
            return web.Response(status=204)
        if request.method == "POST":
            self.requested = (await request.json())["cluster_options"]
            return web.json_response({"name": CLUSTER})
        if request.path.endswith("/version"):
            return web.json_response({"version": "0"})
        if request.path.endswith("/options"):
            return web.json_response({"cluster_options": self.offered})
        name = request.path.rsplit("/", 1)[1]
        fault = self.faults.get("report" if name else "list")
        if fault is not None:
            return await fail(request, fault)
        if name:
            await asyncio.sleep(self.late)
            return web.json_response(self.report(name, full=True))
        names = [] if CLUSTER in self.ended else [CLUSTER]
        return web.json_response({name: self.report(name, full=False) for name in names})


@contextmanager
def faulty(scheduler: str, **options: Any) -> Iterator[Faulty]:
    """Serve a gateway whose cluster's scheduler is `scheduler`.

    One of `SCHEDULER_FAULTS`, or `live`, `silent`, `none`, `renounced`.
    """
    made = Faulty(**options)

    @asynccontextmanager
    async def serve() -> AsyncIterator[None]:
        async with http(made.handle) as made.url, _scheduler(scheduler) as made.scheduler_port:
            yield

    with in_thread(serve()):
        yield made


@asynccontextmanager
async def _scheduler(kind: str) -> AsyncIterator[int]:
    if kind in ("refused", "reset", "hang", "garbage", "closed"):
        sent = b"SSH-2.0-OpenSSH_9.2p1 Debian\r\n" if kind == "garbage" else b""
        end = {"reset": "reset", "closed": "close"}.get(kind, "hang")
        # `closed` as a proxy that has taken a connection and finds nobody behind it.
        tls = SECURITY.get_listen_args("scheduler")["ssl_context"] if kind == "closed" else None
        async with raw(sent, end, tls) as port:
            if kind != "refused":
                yield port
        if kind == "refused":
            yield port
        return
    security = STRANGER if kind == "tls" else SECURITY
    async with Scheduler(
        protocol="tls://", host="127.0.0.1", port=0, security=security, dashboard=False,
        dashboard_address="127.0.0.1:0",
        blocked_handlers=["dask_claim_lease"] if kind == "blocked" else None,
    ) as scheduler:  # fmt: skip
        if kind in ("live", "silent", "counting", "busy", "blocked", "odd", "no holders"):
            plugin = (LeasePlugin if kind in ("live", "busy", "blocked") else SilentLease)(
                "run", 0.0 if kind == "counting" else 60.0, 3600.0, None
            )
            scheduler.add_plugin(plugin, name=NAME)
            plugin.start(scheduler)
            if kind == "silent":
                plugin._holders.clear()
        answers = {"odd": "yes", "no holders": {"workers": 0}}
        if kind in answers:
            scheduler.handlers["dask_claim_lease"] = lambda: answers[kind]
        if kind == "renounced":
            address = f"tls://127.0.0.1:{scheduler.port}"
            await Lease(address, SECURITY, 60.0, None).renounce()
            async with Client(address, security=SECURITY, asynchronous=True) as client:
                await client.restart(wait_for_workers=False)
        if kind == "busy":

            async def stand_still() -> None:
                await asyncio.sleep(3600)

            scheduler.handlers["dask_claim_lease"] = stand_still
        yield scheduler.port
