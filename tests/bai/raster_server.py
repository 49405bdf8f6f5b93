"""A web server of rasters that serves ranges, as object stores do, and can be in trouble."""

from __future__ import annotations

import contextlib
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

#: What a request meets: a status to answer with, ``stall`` in the middle of the body, or nothing.
Trouble = Callable[[str, int], "int | str | None"]


class RasterServer:
    """Serves a folder, and remembers what was asked for and sent."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.trouble: Trouble = lambda name, number: None
        """Called with a file's name and how often it was asked for (1, 2, …), HEAD included."""
        self.asked: Counter[str] = Counter()
        self.targets: list[str] = []
        """What was asked for, with query."""
        self.sent: Counter[str] = Counter()
        """Bytes of bodies, by file."""
        self.over = threading.Event()
        self._lock = threading.Lock()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                outer._answer(self)

            do_HEAD = do_GET

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def _answer(self, request: BaseHTTPRequestHandler) -> None:
        name = urlsplit(request.path).path.lstrip("/")
        with self._lock:
            self.asked[name] += 1
            number = self.asked[name]
            self.targets.append(request.path)
        path = self.folder / name
        trouble = self.trouble(name, number)
        if not path.is_file():
            trouble = 404
        if isinstance(trouble, int):
            request.send_response(trouble)
            request.send_header("Content-Length", "0")
            request.end_headers()
            return
        whole = path.read_bytes()
        first, last = 0, len(whole) - 1
        if wanted := request.headers.get("Range"):
            first, last = (int(n or last) for n in wanted.removeprefix("bytes=").split("-"))
        part = whole[first : last + 1]
        request.send_response(206 if wanted else 200)
        request.send_header("Accept-Ranges", "bytes")
        request.send_header("Content-Length", str(len(part)))
        if wanted:
            end = first + len(part) - 1
            request.send_header("Content-Range", f"bytes {first}-{end}/{len(whole)}")
        request.end_headers()
        if request.command == "HEAD":
            return
        with contextlib.suppress(ConnectionError):
            if trouble == "stall":
                request.wfile.write(part[: len(part) // 2])
                request.wfile.flush()
                self.over.wait(60)
                request.close_connection = True
                return
            request.wfile.write(part)
            with self._lock:
                self.sent[name] += len(part)


@contextlib.contextmanager
def rasters_over_http(folder: Path) -> Iterator[RasterServer]:
    """Serve a folder until the block ends."""
    serving = RasterServer(folder)
    thread = threading.Thread(target=serving.server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield serving
    finally:
        serving.over.set()
        serving.server.shutdown()
        thread.join()
        serving.server.server_close()
