"""A folder over HTTP, from as far away as 20 ms: nginx behind a delaying proxy.

The proxy stands in for `tc … netem`, which not every kernel has and which needs root. It delays
and does not throttle: bytes that arrive together leave together, half a round trip later.
"""

from __future__ import annotations

import asyncio
import os
import pwd
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

#: Seconds there and back.
ROUND_TRIP = 0.020
#: Most bytes passed on at once.
CHUNK = 2**20

CONFIG = """
{user}
daemon off;
worker_processes 1;
pid {folder}/pid;
error_log {folder}/error.log;
events {{ worker_connections 256; }}
http {{
    log_format bytes '$status $body_bytes_sent $request_uri';
    access_log {folder}/access.log bytes;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    sendfile on;
    tcp_nodelay on;
    keepalive_requests 100000;
    server {{ listen unix:{folder}/socket; root {root}; }}
}}
"""


class Fetched(NamedTuple):
    """What was asked for, by the server's log."""

    requests: int
    bytes: int


class Site:
    """A folder's address over HTTP."""

    def __init__(self, url: str, folder: Path) -> None:
        self.url = url
        self._log = folder / "access.log"
        self._socket = str(folder / "socket")

    def fetched(self) -> Fetched:
        """Requests for rasters since the last call, and the bytes of their answers."""
        # A line is written when its answer is out, which may be after the client has read it; but
        # before the one process of the server closes a later connection.
        with socket.socket(socket.AF_UNIX) as last:
            last.connect(self._socket)
            last.sendall(b"GET /item.json HTTP/1.0\r\n\r\n")
            while last.recv(65536):
                pass
        lines = [line.split() for line in self._log.read_text().splitlines()]
        os.truncate(self._log, 0)
        sizes = [int(size) for _, size, path in lines if path.endswith(".tif")]
        return Fetched(len(sizes), sum(sizes))


@contextmanager
def served(root: Path) -> Iterator[Site]:
    """Serve a folder until the end of the block.

    Raises:
        SystemExit: nginx is not installed, or does not start.
    """
    nginx = shutil.which("nginx", path=os.environ["PATH"] + ":/usr/sbin")
    if not nginx:
        raise SystemExit("nginx is not installed (apt-get install nginx-light)")
    with tempfile.TemporaryDirectory(prefix="bai-http-") as name:
        folder = Path(name)
        config = folder / "nginx.conf"
        # Started by root, nginx would change to a user who may not read the folder.
        user = f"user {pwd.getpwuid(0).pw_name};" if os.geteuid() == 0 else ""
        config.write_text(CONFIG.format(user=user, folder=folder, root=root.resolve()))
        # Its port is taken before the proxy begins, and nobody else's in between.
        with socket.create_server(("127.0.0.1", 0)) as far:
            server = subprocess.Popen([nginx, "-p", name, "-e", f"{name}/error.log", "-c", config])
            proxy = subprocess.Popen(
                [sys.executable, "-m", "benchmarks.bai_http", str(far.fileno()), f"{name}/socket"],
                pass_fds=[far.fileno()],
            )
            url = f"http://127.0.0.1:{far.getsockname()[1]}"
        try:
            _until_listening(f"{name}/socket", server)
            yield Site(url, folder)
        finally:
            for process in (proxy, server):
                process.terminate()
                process.wait()


def _until_listening(path: str, server: subprocess.Popen[bytes]) -> None:
    while True:
        with suppress(OSError), socket.socket(socket.AF_UNIX) as client:
            return client.connect(path)
        if server.poll() is not None:
            raise SystemExit(f"nginx ended with status {server.returncode}")
        time.sleep(0.02)


async def delay(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, handshake: float
) -> None:
    """Pass bytes on half a round trip after they came, the first ones after the handshake."""
    loop = asyncio.get_running_loop()
    under_way: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()
    earliest = loop.time() + handshake

    async def leave() -> None:
        while True:
            due, data = await under_way.get()
            await asyncio.sleep(max(0.0, due - loop.time()))
            if not data:
                return
            writer.write(data)
            await writer.drain()

    leaving = asyncio.create_task(leave())
    with suppress(ConnectionError):
        while data := await reader.read(CHUNK):
            under_way.put_nowait((max(loop.time(), earliest) + ROUND_TRIP / 2, data))
    under_way.put_nowait((loop.time() + ROUND_TRIP / 2, b""))
    with suppress(ConnectionError):
        await leaving
    writer.close()


async def proxy(listen: int, target: str) -> None:
    """Pass every connection to a listening descriptor on to a socket, delayed both ways."""

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server_reader, server_writer = await asyncio.open_unix_connection(target, limit=CHUNK)
        # Connecting takes a round trip before the first byte may leave.
        await asyncio.gather(
            delay(reader, server_writer, ROUND_TRIP), delay(server_reader, writer, 0)
        )

    listening = socket.socket(fileno=listen)
    async with await asyncio.start_server(connected, sock=listening, limit=CHUNK) as server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(proxy(int(sys.argv[1]), sys.argv[2]))
