"""A real STAC API server on loopback, and what can go wrong between it and a client.

The server is rustac's, with its items in memory. Requests reach it through a small proxy that can
fail as real servers do; without faults the proxy changes nothing.
"""

from __future__ import annotations

import json
import shutil
import socket
import struct
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

RUSTAC = shutil.which("rustac", path=str(Path(sys.executable).parent))


def collection(name: str) -> dict[str, Any]:
    """A collection of the whole world and all times."""
    return {
        "type": "Collection", "stac_version": "1.0.0", "id": name, "description": name,
        "license": "proprietary", "links": [],
        "extent": {
            "spatial": {"bbox": [[-180, -90, 180, 90]]}, "temporal": {"interval": [[None, None]]}
        },
    }  # fmt: skip


class Proxy:
    """Forwards to the API server; faults are taken from a queue, one for each search request."""

    def __init__(self) -> None:
        self.faults: list[str] = []
        """``503`` or another status; ``stall``: no answer; ``trickle``: a byte now and then;
        ``reset``; ``short``: half the answer; ``huge``; ``outside``: the next page is a file."""
        self.faults_of_root: list[str] = []
        """``get``: the API cannot be searched by POST; ``other``: it is no STAC API."""
        self.requests: list[tuple[str, str, bytes]] = []
        """Method, path and body of every request so far."""
        self.stop = threading.Event()
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Forward, self))
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        self.backend = ""

    def searches(self) -> list[dict[str, Any]]:
        """The bodies of the searches so far."""
        return [json.loads(body) for _, path, body in self.requests if path == "/search"]

    def heal(self) -> None:
        """Forget faults and requests."""
        self.faults.clear()
        self.faults_of_root.clear()
        self.requests.clear()


class _Forward(BaseHTTPRequestHandler):
    def __init__(self, proxy: Proxy, *arguments: Any) -> None:
        self.proxy = proxy
        super().__init__(*arguments)

    def _handle(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.proxy.requests.append((self.command, self.path, body))
        faults = self.proxy.faults if self.path == "/search" else []
        faults = self.proxy.faults_of_root if self.path == "/" else faults
        fault = faults.pop(0) if faults else ""
        if fault == "reset":
            # Closed without lingering it sends RST.
            linger = struct.pack("ii", 1, 0)
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            self.connection.close()
            self.wfile = open("/dev/null", "wb")  # noqa: SIM115  (the handler closes it)
        elif fault == "stall":
            self.proxy.stop.wait()
        elif fault == "trickle":
            self._answer(200, b"", length=10**6)
            while not self.proxy.stop.wait(0.05) and self._write(b" "):
                pass
        elif fault.isdigit():
            self._answer(int(fault), b"not now, see /search?token=s3cret")
        else:
            status, answer = self._ask(body)
            if fault == "get":
                root = json.loads(answer)
                root["links"] = [link for link in root["links"] if link.get("method") != "POST"]
                answer = json.dumps(root).encode()
            if fault == "other":
                answer = b'{"hello": "world"}'
            if fault == "huge":
                answer += b" " * 3_000_000
            if fault == "outside":
                page = json.loads(answer)
                page["links"] = [{"rel": "next", "href": "file:///etc/passwd"}]
                answer = json.dumps(page).encode()
            length = len(answer)
            self._answer(status, answer[: length // 2] if fault == "short" else answer, length)

    do_GET = do_POST = _handle

    def _ask(self, body: bytes) -> tuple[int, bytes]:
        request = urllib.request.Request(
            self.proxy.backend + self.path, data=body or None, method=self.command,
            headers={"Content-Type": self.headers.get("Content-Type", "application/json")},
        )  # fmt: skip
        try:
            with urllib.request.urlopen(request, timeout=10) as reply:
                return reply.status, reply.read()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read()

    def _answer(self, status: int, content: bytes, length: int | None = None) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content) if length is None else length))
        self.end_headers()
        self._write(content)

    def _write(self, content: bytes) -> bool:
        try:
            self.wfile.write(content)
        except OSError:  # the client has given up
            return False
        return True

    def log_message(self, *_: Any) -> None:
        pass


@contextmanager
def stac_api(folder: Path, items: Iterable[dict[str, Any]]) -> Iterator[Proxy]:
    """Serve items, each with its ``collection``, until the block ends.

    Args:
        folder: where the server's files are written.
        items: STAC items.
    """
    assert RUSTAC, "rustac is not installed"
    items = list(items)
    files = [folder / "items.json"]
    files[0].write_text(json.dumps({"type": "FeatureCollection", "features": items}))
    for name in sorted({item["collection"] for item in items}):
        files.append(folder / f"collection-{name}.json")
        files[-1].write_text(json.dumps(collection(name)))
    proxy = Proxy()
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    with (
        (folder / "log").open("wb") as log,
        # Its links are those of the proxy.
        subprocess.Popen(
            [RUSTAC, "serve", "--addr", proxy.url, "--bind", address, *map(str, files)],
            stdout=log, stderr=log,
        ) as server,
        serving(proxy.server),
    ):  # fmt: skip
        try:
            proxy.backend = f"http://{address}"
            _until_up(proxy.backend, server, folder / "log")
            yield proxy
        finally:
            proxy.stop.set()
            server.terminate()


@contextmanager
def serving(server: ThreadingHTTPServer) -> Iterator[None]:
    """Run a server in a thread until the block ends."""
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextmanager
def files_over_http(folder: Path) -> Iterator[str]:
    """Serve a folder; the value is its URL."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
    with serving(server):
        yield f"http://127.0.0.1:{server.server_port}"


def _until_up(url: str, server: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 20
    while True:
        assert server.poll() is None and time.monotonic() < deadline, log.read_text()
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except urllib.error.URLError:
            time.sleep(0.05)
