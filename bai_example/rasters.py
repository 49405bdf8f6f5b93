"""Raster files, local or remote: the header is read by the client, pixels on the workers."""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import product
from typing import Any, TypeVar

import numpy as np
import rasterio
import requests
from affine import Affine
from odc.geo.geobox import GeoBox
from pyproj import Geod
from rasterio.dtypes import in_dtype_range
from rasterio.errors import RasterioError
from rasterio.io import MemoryFile
from rasterio.vrt import WarpedVRT
from rasterio.windows import Window

from bai_example.access import InputError, Unavailable, is_remote, public, scheme

#: GDAL's settings for every read, given with each, because a worker's environment belongs to the
#: operator of the cluster.
SETTINGS: dict[str, Any] = {
    # No listing of the folder beside a raster: over HTTP that is one more request per file.
    "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR",
    # A COG's header is read in one request; 16 kB (the default) is too small for a full tile's.
    "GDAL_INGESTED_BYTES_AT_OPEN": 32768,
    # Adjacent byte ranges in one request; several at once where the server speaks HTTP/2.
    "GDAL_HTTP_MERGE_CONSECUTIVE_RANGES": "YES",
    "GDAL_HTTP_MULTIPLEX": "YES",
    "GDAL_HTTP_VERSION": "2TLS",
    # A busy server (429, 502, 503, 504) is tried again after 1, 2, 4, 8 s; one that stalls is an
    # error.
    "GDAL_HTTP_MAX_RETRY": 4,
    "GDAL_HTTP_RETRY_DELAY": 1,
    "GDAL_HTTP_CONNECTTIMEOUT": 15,
    "GDAL_HTTP_LOW_SPEED_TIME": 15,
    "GDAL_HTTP_LOW_SPEED_LIMIT": 1,
    # Decoded tiles, MB; by default 5 % of the host's memory. Every tile is used once here.
    "GDAL_CACHEMAX": 64,
}
#: What GDAL and curl say of trouble that may be gone the next time. Of a server that fails amid a
#: tile GDAL says no more than how many bytes are missing.
_TEMPORARY = re.compile(
    r"(response[_ ]code|HTTP error code) ?[:=] ?(408|429|5\d\d)|timed? ?out|too slow"
    r"|connect to|connection (reset|refused|closed)|resolve host|Empty reply|transfer closed"
    r"|Read error .*; got \d+ bytes, expected",
    re.IGNORECASE,
)
T = TypeVar("T")


@dataclass(frozen=True)
class Raster:
    """One file, and where its pixels lie."""

    href: str = field(repr=False)  #: Hidden: it may be signed, and Dask logs tasks that fail.
    grid: GeoBox
    nodata: Any  #: The count that means "no measurement".

    def read(self, wanted: GeoBox) -> np.ndarray:
        """The counts on other pixels: each takes that of the pixel its centre lies in.

        Where there is no pixel they are `nodata`.
        """
        return attempted(self.href, lambda: self._read(wanted))

    def _read(self, wanted: GeoBox) -> np.ndarray:
        height, width = wanted.shape
        with rasterio.open(self.href) as file:
            if self.grid.crs == wanted.crs:
                own = ~self.grid.affine * wanted.affine
                rows = np.floor(own.f + own.e * (np.arange(height) + 0.5)).astype(int)
                columns = np.floor(own.c + own.a * (np.arange(width) + 0.5)).astype(int)
                (top, bottom), (left, right) = rows[[0, -1]], columns[[0, -1]]
                if top >= 0 and left >= 0 and bottom < file.height and right < file.width:
                    window = Window(left, top, right - left + 1, bottom - top + 1)
                    counts: np.ndarray = file.read(1, window=window)
                    if counts.shape == wanted.shape:
                        return counts
                    return counts.take(rows - top, axis=0).take(columns - left, axis=1)
            # Near no tolerance: a pixel must not depend on the block that it is computed in.
            with WarpedVRT(
                file, crs=str(wanted.crs), transform=wanted.affine, height=height, width=width,
                tolerance=0.01, src_nodata=self.nodata, nodata=self.nodata,
            ) as view:  # fmt: skip
                counts = view.read(1)
        return counts


def open_raster(href: str, nodata: float | None, own: bool = True) -> Raster:
    """Read the header of a file, a path or URL.

    ``nodata`` is the count that means "no measurement", 0 if it is None: where the file does not
    say one, or with ``own`` false, always.

    Raises:
        InputError: it cannot be opened, or has no grid that a map could be on.
    """

    def header() -> tuple[GeoBox, str, float | None]:
        with rasterio.open(href) as file:
            crs = file.crs.to_string() if file.crs else None
            return GeoBox(file.shape, file.transform, crs), file.dtypes[0], file.nodata

    grid, dtype, its = attempted(href, header)
    if grid.crs is None or not (grid.crs.projected or grid.crs.geographic):
        raise InputError(f"{public(href)}: needs a projected or geographic CRS")
    if grid.affine.b or grid.affine.d or grid.affine.a <= 0 or grid.affine.e >= 0:
        raise InputError(f"{public(href)}: is not north up (geotransform {grid.affine[:6]})")
    declared = (n for n in (its if own else None, nodata) if n is not None)
    count = next((n for n in declared if in_dtype_range(n, dtype)), 0)
    # Of the file's own type: to compare counts with a float takes three times as long.
    return Raster(href, grid, np.dtype(dtype).type(count))


def attempted(href: str, read: Callable[[], T]) -> T:
    """What ``read`` gives, which opens ``href`` with GDAL, reads, and closes it.

    Raises:
        InputError: it cannot be opened or read; the message names it.
        Unavailable: and trying again later may help.
    """
    # rasterio logs URLs whole, and a worker's log may be read by others.
    logging.getLogger("rasterio").setLevel(logging.CRITICAL)
    remote = bool(scheme(href)) or href.startswith("/vsi")
    # Once more for a remote file, and without what GDAL remembers of it, which may be a failure.
    for settings in (SETTINGS, {**SETTINGS, "CPL_VSIL_CURL_NON_CACHED": "/vsicurl/:/vsis3/"}):
        try:
            with rasterio.Env(**settings):
                return read()
        except (RasterioError, OSError) as error:
            texts, cause = [], error
            while cause:
                texts.append(re.sub(r"\?[^\s'\"]*", "", " ".join(str(cause).split())))
                cause = cause.__cause__
        if not remote:
            break
    problem = public(texts[min(1, len(texts) - 1)])  # rasterio's own is vaguer than its cause
    temporary = remote and any(map(_TEMPORARY.search, texts))
    if "?" in href and any("403" in text for text in texts):
        problem += "; its signature may have expired, another run signs anew"
        temporary = True
    elif is_remote(href) and not temporary and is_web_page(href):
        problem = "the server sends a web page in its place, perhaps to log in"
    # Not within `except`: Dask cannot pickle GDAL's exceptions, nor what has them as context.
    raise (Unavailable if temporary else InputError)(f"{public(href)}: cannot be read ({problem})")


def is_web_page(href: str) -> bool:
    """Whether a server answers with HTML."""
    try:
        with requests.get(href, stream=True, timeout=10, headers={"Range": "bytes=0-511"}) as reply:
            return reply.ok and reply.headers.get("Content-Type", "").startswith("text/html")
    except OSError:  # requests' own, too
        return False


def pixel_area(grid: GeoBox) -> float:
    """Area of a pixel on the ellipsoid, m², in every CRS: the mean of a grid."""
    area, _ = Geod(ellps="WGS84").geometry_area_perimeter(grid.extent.to_crs("EPSG:4326").geom)
    return float(abs(area) / math.prod(grid.shape))


def part_of(grid: GeoBox, window: Window) -> GeoBox:
    """The pixels inside ``window``, which may reach beyond the grid."""
    corner = grid.affine * Affine.translation(window.col_off, window.row_off)
    return GeoBox((int(window.height), int(window.width)), corner, grid.crs)


def windows_of(shape: tuple[int, int], side: int) -> Iterator[Window]:
    """The blocks of a map, ``side`` pixels along a side; smaller at its right and lower edges."""
    for top, left in product(*(range(0, length, side) for length in shape)):
        yield Window(left, top, min(side, shape[1] - left), min(side, shape[0] - top))


def pack(array: np.ndarray) -> bytes:
    """An array as a small compressed GeoTIFF: its predictors beat a compressor's own by a third."""
    with MemoryFile() as memory:
        with memory.open(
            driver="GTiff", height=array.shape[0], width=array.shape[1], count=1,
            dtype=array.dtype, compress="DEFLATE", zlevel=1,
            predictor=3 if array.dtype.kind == "f" else 2,
            transform=Affine(1, 0, 1, 0, -1, 1),  # rasterio warns of a file without coordinates
        ) as file:  # fmt: skip
            file.write(array, 1)
        return bytes(memory.getbuffer())


def unpacked(data: bytes) -> np.ndarray:
    """The array of which `pack` made the bytes."""
    with MemoryFile(data) as memory, memory.open() as file:
        array: np.ndarray = file.read(1)
    return array
