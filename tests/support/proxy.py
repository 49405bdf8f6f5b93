"""A reverse proxy before a real gateway that can fail in the ways real ones do.

Only the gateway's HTTP requests go through it. A claim reaches the clusters beside it, with
`gateway_url` the proxy's address and `proxy_url` the gateway's own: see `Proxy.claim`.
"""

from __future__ import annotations

import asyncio
import random
import re
import time
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass
from email.utils import formatdate
from typing import Any

import aiohttp
from aiohttp import web

from tests.support.gateway import GatewayServer
from tests.support.serving import fail, http, in_thread

# Requests by the phase of a run that they belong to.
CREATION = ("POST", r"/clusters/$")
OFFERING = ("GET", r"/options$")
WAITING = ("GET", r"/clusters/\w+")
GIVING_BACK = ("DELETE", r"/clusters/\w+")
LISTING = ("GET", r"/clusters/$")
SCALING = ("POST", r"/clusters/\w+/(scale|adapt)$")

SLOW = 3.0


@dataclass
class Fault:
    """What happens to the requests of one kind."""

    kind: str
    """`502`, `401`: that answer. `reset`, `hang`: the gateway is not even asked. `swallow`,
    `withhold`: it is asked, and its answer is lost by a reset, or never comes. `slow`: its answer
    comes three seconds later. `gone`: the cluster is ended before the gateway is asked."""

    method: str
    path: str
    times: int

    def strikes(self, request: web.Request) -> bool:
        # The client asks without credentials first, and again with them after a 401.
        return bool(
            self.times
            and request.method == self.method
            and re.search(self.path, request.path)
            and "Authorization" in request.headers
        )


class Proxy:
    """Runs in a thread; use it as a context manager."""

    def __init__(self, gateway: GatewayServer, delay: float = 0.0, ahead: float = 0.0) -> None:
        """`delay`: every answer comes a random time of up to so many seconds later; `ahead`:
        seconds that the gateway's clock seems to be ahead of this machine's."""
        self._delay = delay
        self._gateway = gateway
        self._ahead = ahead
        self._faults: list[Fault] = []
        self.seen: list[tuple[str, str, str | None]] = []
        """Method, path and fault of every request so far."""

        self.shown: set[str] = set()
        """Whatever was sent to be let in."""

    def claim(self, **more: Any) -> dict[str, Any]:
        """A small cluster through this proxy."""
        direct = self._gateway.url.replace("http://", "gateway://")
        return {
            "gateway_url": self.url, "proxy_url": direct, "min_workers": 0, "max_workers": 1, **more
        }  # fmt: skip

    def fault(self, kind: str, phase: tuple[str, str], times: int = 10**9) -> None:
        """From now on, `times` times."""
        self._faults.append(Fault(kind, *phase, times))

    def heal(self) -> None:
        self._faults.clear()

    def left(self) -> list[Fault]:
        """What has not happened so often yet."""
        return [fault for fault in self._faults if fault.times]

    def struck(self, kind: str) -> int:
        return sum(fault == kind for _, _, fault in list(self.seen))

    def __enter__(self) -> Proxy:
        self._serving = ExitStack()
        self._serving.enter_context(in_thread(self._serve()))
        return self

    def __exit__(self, *_: object) -> None:
        self._serving.close()

    @asynccontextmanager
    async def _serve(self) -> AsyncIterator[None]:
        async with (
            aiohttp.ClientSession(auto_decompress=False) as self._session,
            http(self._handle) as self.url,
        ):
            yield

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        method, path = request.method, request.path
        self.shown.add(request.headers.get("Authorization", ""))
        fault = next((each for each in self._faults if each.strikes(request)), None)
        kind = fault.kind if fault else None
        if fault:
            fault.times -= 1
        if kind == "gone":
            await self._end_cluster(request)
        if kind in (None, "swallow", "withhold", "slow", "gone"):
            answer = await self._forward(request)
        self.seen.append((method, path, kind))
        if kind == "slow":
            await asyncio.sleep(SLOW)
        if kind in (None, "slow", "gone"):
            return answer
        return await fail(request, {"swallow": "reset", "withhold": "hang"}.get(kind, kind))

    async def _end_cluster(self, request: web.Request) -> None:
        found = re.search(r"(.*/clusters/\w+)", request.raw_path)
        assert found
        headers = {"Authorization": request.headers["Authorization"]}
        url = self._gateway.url + found[1]
        await (await self._session.delete(url, headers=headers)).read()
        while True:
            async with self._session.get(url, headers=headers) as reply:
                if reply.status == 404 or (await reply.json())["status"] in ("STOPPED", "FAILED"):
                    return
            await asyncio.sleep(0.1)

    async def _forward(self, request: web.Request) -> web.Response:
        url = self._gateway.url + request.raw_path
        kept = {k: v for k, v in request.headers.items() if k.lower() != "host"}
        body = await request.read()
        async with self._session.request(
            request.method, url, headers=kept, data=body or None
        ) as reply:
            content = await reply.read()
            headers = {
                name: value
                for name, value in reply.headers.items()
                if name.lower() in ("content-type", "content-encoding", "www-authenticate")
            }
            await asyncio.sleep(random.uniform(0, self._delay))
            if self._ahead:
                headers["Date"] = formatdate(time.time() + self._ahead, usegmt=True)
                content = re.sub(
                    rb'"start_time": (\d+)',
                    lambda found: b'"start_time": %d' % (int(found[1]) + self._ahead * 1000),
                    content,
                )
            return web.Response(status=reply.status, body=content, headers=headers)
