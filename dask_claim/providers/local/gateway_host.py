"""The process that hosts a Dask Gateway of this run. The launcher runs it; no module imports it.

As with a local cluster, the pipe from the launcher ends it, with everything that the gateway has
started, in whatever way the launcher ends. It reads one JSON request from standard input and then
waits for that input to close; its one event, where the gateway is, goes to standard output.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import signal
import socket
import sys
import urllib.request
from pathlib import Path
from typing import Any

# Modules lying beside this file must not shadow anybody's.
sys.path[0:1] = []
sys.path.append(str(Path(__file__).resolve().parents[3]))

from dask_claim.files import remove_private_folder  # noqa: E402
from dask_claim.processes import members  # noqa: E402
from dask_claim.providers.host_process import launcher_left, serve, tell  # noqa: E402
from dask_claim.threads import in_time  # noqa: E402

HOST = "127.0.0.1"
# Below the ports that systems give to outgoing connections, from 32768 on.
PORTS = range(20_000, 32_000)
# The server ends its clusters in order, usually within a second; then SIGKILL for all.
PATIENCE, KILLED_WITHIN = 4.0, 2.0
POLL = 0.02


async def hold(request: dict[str, Any], events: Any) -> None:
    """Start the gateway and keep it until standard input closes."""
    left = launcher_left()
    # The server handles the others: what it starts has signals as usual, not ignored ones.
    signal.signal(signal.SIGHUP, lambda *_: None)
    os.chdir(request["folder"])
    port = free_port()

    from dask_claim.providers.local.gateway_server import make_server

    server = make_server(request, f"{HOST}:{port}", f"{HOST}:{free_port()}")

    async def start() -> None:
        await server.setup()
        while not await asyncio.to_thread(answers, port):
            await asyncio.sleep(POLL)
        tell(events, gateway_url=f"http://{HOST}:{port}", proxy_url=f"gateway://{HOST}:{port}")

    starting = asyncio.ensure_future(start())
    leaving = asyncio.ensure_future(left.wait())
    try:
        await asyncio.wait({starting, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if starting.done():
            starting.result()
        await leaving
    finally:
        starting.cancel()
        await end(server)
        remove_private_folder(request["folder"])


def free_port() -> int:
    while True:
        port = secrets.choice(PORTS)
        with socket.socket() as listener, contextlib.suppress(OSError):
            listener.bind((HOST, port))
            return port


def answers(port: int) -> bool:
    """Whether the gateway answers through its proxy."""
    # Programs show their password to whichever process listens there.
    if not own_child_listens(port):
        return False
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with (
        contextlib.suppress(OSError),
        direct.open(f"http://{HOST}:{port}/api/health", timeout=5) as answer,
    ):
        return bool(answer.status == 200)
    return False


def own_child_listens(port: int) -> bool:
    import psutil

    for child in psutil.Process().children():
        with contextlib.suppress(psutil.Error):
            # Its name before psutil 6.
            connections = getattr(child, "net_connections", None) or child.connections
            if any(each.laddr[1:] == (port,) and not each.raddr for each in connections("tcp")):
                return True
    return False


async def end(server: Any) -> None:
    """End the gateway with its clusters, and then every other process of this session's group.

    The gateway's proxy has a session of its own; it ends when this process does.
    """

    from dask_claim.providers.local.gateway_server import stop_clusters

    async def in_order() -> None:
        with contextlib.suppress(Exception):  # a server that was not up yet
            await stop_clusters(server.backend)
        await server.cleanup()

    with contextlib.suppress(Exception):
        await in_time(in_order(), PATIENCE)
    for pid in members(os.getpgrp()):
        with contextlib.suppress(OSError):
            os.kill(pid, signal.SIGKILL)
    for _ in range(int(KILLED_WITHIN / POLL)):
        if not members(os.getpgrp()):
            return
        await asyncio.sleep(POLL)


if __name__ == "__main__":
    serve(hold)
