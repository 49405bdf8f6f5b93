"""A folder over HTTP, from as far away as 20 ms: each connection and each answer come that late."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import rasterio
from aiohttp import web

from tests.support.serving import http, in_thread

#: Seconds there and back.
ROUND_TRIP = 0.020


class Site:
    """A folder behind a URL, and what was fetched of its rasters."""

    def __init__(self, root: Path) -> None:
        self.url = ""
        self.requests = 0
        self.bytes = 0
        self._root = root
        self._clients: set[object] = set()

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """Send a file, or a range of its bytes."""
        client = request.get_extra_info("peername")
        is_new = client not in self._clients
        self._clients.add(client)
        # Connecting takes a round trip, too.
        await asyncio.sleep(2 * ROUND_TRIP if is_new else ROUND_TRIP)
        path = self._root / request.match_info["path"]
        if path.suffix == ".tif":
            self.requests += 1
            if request.method != "HEAD":
                self.bytes += len(range(path.stat().st_size)[request.http_range])
        return web.FileResponse(path)


@contextmanager
def served(root: Path) -> Iterator[Site]:
    """Serve a folder until the end of the block."""
    site = Site(root)
    with in_thread(http(site.answer)) as site.url:
        yield site


def full_resolution_bytes(path: Path) -> int:
    """Bytes of a raster's tiles, without overviews and header."""
    with rasterio.open(path) as raster:
        height, width = raster.block_shapes[0]
        return sum(
            int(raster.get_tag_item(f"BLOCK_SIZE_{column}_{row}", "TIFF", bidx=1) or 0)
            for row in range(-(-raster.height // height))
            for column in range(-(-raster.width // width))
        )
