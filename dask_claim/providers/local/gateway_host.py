"""The process that holds a Dask Gateway of this run. The launcher runs it; nobody imports it.

As with a local cluster, the pipe from the launcher ends it, with everything that the gateway has
started, in whatever way the launcher ends. It reads one JSON request from standard input and then
waits for that input to close; its one event, where the gateway is, goes to standard output.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
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

SERVER = Path(__file__).with_name("gateway_server.py")
HOST = "127.0.0.1"
LOWEST = 20_000
# The server ends its clusters in order, usually within a second; then SIGKILL for all.
PATIENCE, KILLED_WITHIN = 4.0, 2.0
POLL = 0.02


async def hold(request: dict[str, Any], events: Any) -> None:
    """Start the gateway and keep it until standard input closes."""
    # Whatever is started from here on has signals as usual, unlike where they are ignored.
    for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(signum, lambda *_: None)
    left = launcher_left()
    port, api_port = free_port(), free_port()
    waiting = asyncio.ensure_future(left.wait())
    server = await asyncio.create_subprocess_exec(
        sys.executable, str(SERVER), stdin=asyncio.subprocess.PIPE, cwd=request["folder"]
    )
    assert server.stdin is not None
    server.stdin.write(json.dumps({**request, "port": port, "api_port": api_port}).encode() + b"\n")
    ready = asyncio.ensure_future(until_ready(port))
    ended = asyncio.ensure_future(server.wait())
    try:
        await asyncio.wait({ready, ended, waiting}, return_when=asyncio.FIRST_COMPLETED)
        if ready.done() and not ended.done():
            tell(events, gateway_url=f"http://{HOST}:{port}", proxy_url=f"gateway://{HOST}:{port}")
            await waiting
    finally:
        ready.cancel()
        await end(server)
        remove_private_folder(request["folder"])


def free_port() -> int:
    """A port to listen at: none that the kernel gives to anybody's next connection."""
    try:
        first = Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0]
    except OSError:
        first = "32768"
    lowest = min(LOWEST, int(first) // 2)
    while True:
        port = lowest + secrets.randbelow(int(first) - lowest)
        with socket.socket() as listener, contextlib.suppress(OSError):
            listener.bind((HOST, port))
            return port


async def until_ready(port: int) -> None:
    """Return when the gateway answers through its proxy, and the proxy is of this user."""
    while not await asyncio.to_thread(answers, port):
        await asyncio.sleep(POLL)


def answers(port: int) -> bool:
    # Programs show their password to whoever listens there.
    if listener(port) not in (os.getuid(), None):
        return False
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with (
        contextlib.suppress(OSError),
        direct.open(f"http://{HOST}:{port}/api/health", timeout=5) as answer,
    ):
        return bool(answer.status == 200)
    return False


def listener(port: int) -> int | None:
    """The user who listens at `port`; None where this system does not tell. -1: nobody."""
    try:
        rows = Path("/proc/net/tcp").read_text().splitlines()[1:]
    except OSError:
        return None
    address = f"{int.from_bytes(socket.inet_aton(HOST), 'little'):08X}:{port:04X}"
    for row in rows:
        _, local, _, state, _, _, _, uid, *_ = row.split()
        if local == address and state == "0A":
            return int(uid)
    return -1


async def end(server: asyncio.subprocess.Process) -> None:
    """End every other process of this session's group: server, schedulers, workers.

    The server's proxy has a session of its own; it ends when the server does.
    """
    with contextlib.suppress(ProcessLookupError):
        server.terminate()
    if not await alone(PATIENCE):
        for pid in members(os.getpgrp()):
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        await alone(KILLED_WITHIN)


async def alone(patience: float) -> bool:
    """Whether all others have ended within so many seconds."""
    now = asyncio.get_running_loop().time
    deadline = now() + patience
    while members(os.getpgrp()):
        if now() > deadline:
            return False
        await asyncio.sleep(POLL)
    return True


if __name__ == "__main__":
    serve(hold)
