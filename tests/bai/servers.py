"""Web servers on loopback, and what can go wrong between them and a client.

Rasters come from a server that serves ranges, as object stores do. The STAC API is rustac's, with
its items in memory, behind a small proxy that can fail as real servers do.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import shutil
import socket
import struct
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tests.support.gateway import free_port
from tests.support.launcher import wait_for
from tests.support.serving import serving

RUSTAC = shutil.which("rustac", path=str(Path(sys.executable).parent))

#: What a request meets: a status to answer with, ``stall`` in the middle of the body, or nothing.
Trouble = Callable[[str, int], "int | str | None"]


class Server(ThreadingHTTPServer):
    """A server with its URL; its handlers find what they need on it."""

    daemon_threads = True

    def __init__(self, handler: Any) -> None:
        super().__init__(("127.0.0.1", 0), handler)
        self.url = f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, *_: Any) -> None:
        """Say nothing of connections that were cut."""


class Handler(BaseHTTPRequestHandler):
    """Says nothing."""

    server: Any

    def log_message(self, *_: object) -> None: ...

    def answer(
        self, status: int, content: bytes, length: int | None = None, **headers: str
    ) -> None:
        """Send an answer; the client may have given up."""
        self.send_response(status)
        self.send_header("Content-Length", str(len(content) if length is None else length))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.write(content)

    def ask(self, server: tuple[str, int], body: bytes) -> tuple[int, bytes, dict[str, str]]:
        """What another server answers to the request; headers that we send ourselves left out."""
        headers = {k: v for k, v in self.headers.items() if k.lower() != "expect"}
        with contextlib.closing(http.client.HTTPConnection(*server)) as connection:
            connection.request(self.command, self.path, body, headers)
            reply = connection.getresponse()
            content = reply.read()
        own = ("content-length", "transfer-encoding", "connection", "date", "server")
        kept = {k: v for k, v in reply.getheaders() if k.lower() not in own}
        return reply.status, content, kept

    def write(self, content: bytes) -> bool:
        with contextlib.suppress(OSError):
            self.wfile.write(content)
            return True
        return False


# Rasters


class RasterServer(Server):
    """Serves a folder, and remembers what was asked for and sent."""

    def __init__(self, folder: Path) -> None:
        super().__init__(_Ranges)
        self.folder = folder
        self.trouble: Trouble = lambda name, number: None
        """Called with a file's name and how often it was asked for (1, 2, …), HEAD included."""
        self.asked: Counter[str] = Counter()
        self.targets: list[str] = []
        """What was asked for, with query."""
        self.sent: Counter[str] = Counter()
        """Bytes of bodies, by file."""
        self.over = threading.Event()
        self.lock = threading.Lock()


class _Ranges(Handler):
    protocol_version = "HTTP/1.1"
    server: RasterServer

    def do_GET(self) -> None:
        name = urlsplit(self.path).path.lstrip("/")
        with self.server.lock:
            self.server.asked[name] += 1
            number = self.server.asked[name]
            self.server.targets.append(self.path)
        path = self.server.folder / name
        trouble = self.server.trouble(name, number) if path.is_file() else 404
        if isinstance(trouble, int):
            return self.answer(trouble, b"")
        whole = path.read_bytes()
        first, last = 0, len(whole) - 1
        kind = "text/html" if whole.startswith(b"<!DOCTYPE html") else "image/tiff"
        headers = {"Accept_Ranges": "bytes", "Content_Type": kind}
        if wanted := self.headers.get("Range"):
            first, last = (int(n or last) for n in wanted.removeprefix("bytes=").split("-"))
            last = min(last, len(whole) - 1)
            headers["Content_Range"] = f"bytes {first}-{last}/{len(whole)}"
        part = whole[first : last + 1]
        half = part[: len(part) // 2] if trouble == "stall" else part
        self.answer(206 if wanted else 200, half, len(part), **headers)
        if self.command == "HEAD":
            return
        if trouble == "stall":
            self.server.over.wait(60)
            self.close_connection = True
            return
        with self.server.lock:
            self.server.sent[name] += len(part)

    do_HEAD = do_GET


@contextmanager
def rasters_over_http(folder: Path) -> Iterator[RasterServer]:
    """Serve a folder until the block ends."""
    with serving(RasterServer(folder)) as server:
        try:
            yield server
        finally:
            server.over.set()


# A STAC API


class Proxy(Server):
    """Forwards to the API server; faults are taken from a queue, one for each search request."""

    def __init__(self) -> None:
        super().__init__(_Forward)
        self.faults: list[str] = []
        """``503`` or another status; ``stall``: no answer; ``trickle``: a byte now and then;
        ``reset``; ``short``: half the answer; ``huge``; ``outside``: the next page is a file."""
        self.faults_of_root: list[str] = []
        """``other``: it is no STAC API."""
        self.requests: list[tuple[str, str, bytes]] = []
        """Method, path and body of every request so far."""
        self.stop = threading.Event()
        self.backend = ("", 0)

    def searches(self) -> list[dict[str, Any]]:
        """The bodies of the searches so far."""
        return [json.loads(body) for _, path, body in self.requests if path == "/search"]

    def heal(self) -> None:
        """Forget faults and requests."""
        for memory in (self.faults, self.faults_of_root, self.requests):
            memory.clear()


class _Forward(Handler):
    server: Proxy

    def do_GET(self) -> None:
        proxy = self.server
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        proxy.requests.append((self.command, self.path, body))
        faults = {"/search": proxy.faults, "/": proxy.faults_of_root}.get(self.path)
        fault = faults.pop(0) if faults else ""
        if fault == "reset":
            # Closed without lingering it sends RST.
            linger = struct.pack("ii", 1, 0)
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            self.connection.close()
            self.wfile = open("/dev/null", "wb")  # noqa: SIM115  (the handler closes it)
        elif fault == "stall":
            proxy.stop.wait()
        elif fault == "trickle":
            self.answer(200, b"", length=10**6)
            while not proxy.stop.wait(0.05) and self.write(b" "):
                pass
        elif fault.isdigit():
            self.answer(int(fault), b"not now, see /search?token=s3cret")
        else:
            self._forward(fault, body)

    do_POST = do_GET

    def _forward(self, fault: str, body: bytes) -> None:
        status, answer, _ = self.ask(self.server.backend, body)
        if fault == "other":
            answer = b'{"hello": "world"}'
        if fault == "huge":
            answer += b" " * 3_000_000
        if fault == "outside":
            next_page = {"links": [{"rel": "next", "href": "file:///etc/passwd"}]}
            answer = json.dumps(json.loads(answer) | next_page).encode()
        sent = answer[: len(answer) // 2] if fault == "short" else answer
        self.answer(status, sent, len(answer), Content_Type="application/json")


@contextmanager
def stac_api(folder: Path, items: Iterable[dict[str, Any]]) -> Iterator[Proxy]:
    """Serve items, each with its ``collection``, until the block ends; files go to a folder."""
    assert RUSTAC, "rustac is not installed"
    items = list(items)
    documents = {"items": {"type": "FeatureCollection", "features": items}} | {
        name: {
            "type": "Collection", "stac_version": "1.0.0", "id": name, "description": name,
            "license": "proprietary", "links": [],
            "extent": {
                "spatial": {"bbox": [[-180, -90, 180, 90]]},
                "temporal": {"interval": [[None, None]]},
            },
        }
        for name in sorted({item["collection"] for item in items})
    }  # fmt: skip
    files = [folder / f"{name}.json" for name in documents]
    for file, document in zip(files, documents.values(), strict=True):
        file.write_text(json.dumps(document))
    address = ("127.0.0.1", free_port())
    bound = "{}:{}".format(*address)
    with (
        (folder / "log").open("wb") as log,
        serving(Proxy()) as proxy,
        # Its links are those of the proxy.
        subprocess.Popen(
            [RUSTAC, "serve", "--addr", proxy.url, "--bind", bound, *map(str, files)],
            stdout=log, stderr=log,
        ) as server,
    ):  # fmt: skip
        proxy.backend = address

        def is_up() -> bool:
            assert server.poll() is None, (folder / "log").read_text()
            with contextlib.suppress(ConnectionError), socket.create_connection(address, 5):
                return True
            return False

        try:
            wait_for(is_up, "the API server")
            yield proxy
        finally:
            proxy.stop.set()
            server.terminate()
