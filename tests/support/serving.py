"""Servers in a thread of their own, so that a test may ask them as a command does."""

from __future__ import annotations

import asyncio
import socket
import struct
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from concurrent.futures import Future
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager, suppress
from http.server import ThreadingHTTPServer
from pathlib import Path
from ssl import PROTOCOL_TLS_SERVER, SSLContext
from typing import Any, TypeVar

from aiohttp import web

T = TypeVar("T")
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@contextmanager
def in_thread(serving: AbstractAsyncContextManager[T]) -> Iterator[T]:
    """Enter `serving` in a loop of its own; what still hangs at the end is cancelled with it."""
    started: Future[tuple[T, asyncio.AbstractEventLoop, asyncio.Event]] = Future()

    async def serve() -> None:
        try:
            async with serving as made:
                stop = asyncio.Event()
                started.set_result((made, asyncio.get_running_loop(), stop))
                await stop.wait()
        except Exception as error:
            if started.done():
                raise
            started.set_exception(error)

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    try:
        made, loop, stop = started.result(30)
        try:
            yield made
        finally:
            loop.call_soon_threadsafe(stop.set)
    finally:
        thread.join(30)


@contextmanager
def serving(server: ThreadingHTTPServer) -> Iterator[Any]:
    """Run a server in a thread until the block ends."""
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@asynccontextmanager
async def http(
    handle: Callable[[web.Request], Awaitable[web.StreamResponse]],
) -> AsyncIterator[str]:
    """The address of a server whose every request goes to `handle`."""
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handle)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


@asynccontextmanager
async def raw(
    sent: bytes = b"", end: str = "close", tls: SSLContext | None = None
) -> AsyncIterator[int]:
    """The port of a server that reads once, answers so, and then closes, resets or hangs."""
    met: list[asyncio.StreamWriter] = []

    async def meet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        met.append(writer)
        with suppress(OSError):
            await reader.read(65536)
            writer.write(sent)
            await writer.drain()
        if end == "reset":
            reset(writer.transport)
        elif end == "close":
            writer.close()

    server = await asyncio.start_server(meet, "127.0.0.1", 0, ssl=tls)
    yield server.sockets[0].getsockname()[1]
    server.close()
    for writer in met:
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()


def of_an_unknown_authority(folder: Path | None = None) -> SSLContext:
    """TLS of a server at 127.0.0.1; its `server.pem`, and the authority's `ca.pem`, in a folder."""
    import trustme

    authority = trustme.CA()
    server = authority.issue_cert("127.0.0.1")
    if folder is not None:
        authority.cert_pem.write_to_path(folder / "ca.pem")
        server.private_key_and_cert_chain_pem.write_to_path(folder / "server.pem")
    context = SSLContext(PROTOCOL_TLS_SERVER)
    server.configure_cert(context)
    return context


def reset(transport: Any) -> None:
    """End a connection as a host that is gone does: closed without lingering it sends RST."""
    if transport is not None:
        end: socket.socket = transport.get_extra_info("socket")
        end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        transport.abort()


async def fail(request: web.Request, kind: str) -> web.StreamResponse:
    """`reset`, `hang`, a page or a list where none is expected, or an HTTP status."""
    if kind == "reset":
        reset(request.transport)
        return web.Response()
    if kind == "hang":
        await asyncio.sleep(3600)
    if kind == "garbage":
        return web.Response(text="<html>please log in</html>", content_type="text/html")
    if kind == "list":
        return web.json_response([])
    if int(kind) < 500:
        return web.json_response({"error": "not now"}, status=int(kind))
    # Of something on the way.
    return web.Response(status=int(kind), text="<html>not now</html>", content_type="text/html")


class Answering:
    """A server that gives fixed answers over HTTP, one after the other; the last one for ever."""

    def __init__(self, answers: dict[str, list[tuple[int, Any]]]) -> None:
        self.answers = answers
        self.seen: list[tuple[str, str | None]] = []
        """Path and credentials of every request so far."""

        self.forms: list[str] = []
        """What has been posted."""

    async def handle(self, request: web.Request) -> web.Response:
        self.seen.append((request.path, request.headers.get("Authorization")))
        if form := await request.text():
            self.forms.append(form)
        ways = [way for way in self.answers if request.path.endswith(way)]
        left = self.answers[max(ways, key=len)]
        status, body = left.pop(0) if len(left) > 1 else left[0]
        if 300 <= status < 400:
            return web.Response(status=status, headers={"Location": body})
        if isinstance(body, str):
            return web.Response(status=status, text=body, content_type="text/html")
        return web.json_response(body, status=status)


@contextmanager
def answering(answers: dict[str, list[tuple[int, Any]]]) -> Iterator[tuple[str, Answering]]:
    """Serve `answers`: the end of a path → status and body, or status and where it leads."""
    server = Answering(answers)
    with in_thread(http(server.handle)) as url:
        yield url, server
