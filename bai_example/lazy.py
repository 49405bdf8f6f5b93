"""Raster files, local or remote, opened lazily: the header by the client, blocks on the workers."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
import rasterio
from rasterio.dtypes import in_dtype_range
from rasterio.errors import RasterioError
from rasterio.vrt import WarpedVRT

from bai_example.access import InputError, Unavailable, public, scheme
from bai_example.grid import Grid

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
    # A busy server (429, 502, 503, 504) is asked again; one that stalls is an error in the end.
    "GDAL_HTTP_MAX_RETRY": 3,
    "GDAL_HTTP_RETRY_DELAY": 1,
    "GDAL_HTTP_CONNECTTIMEOUT": 15,
    "GDAL_HTTP_LOW_SPEED_TIME": 15,
    "GDAL_HTTP_LOW_SPEED_LIMIT": 1,
    # Decoded tiles, MB; by default 5 % of the host's memory. Every tile is used once here.
    "GDAL_CACHEMAX": 64,
}
#: Seconds waited before each further attempt at a remote raster.
PAUSES = (1.0, 4.0)
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
    """One file, and where it lies."""

    href: str = field(
        repr=False
    )  #: Not shown, for it may be signed, and Dask logs tasks that fail.
    grid: Grid
    dtype: str
    nodata: float  #: The count that means "no measurement".

    def read(self, wanted: Grid) -> np.ndarray:
        """The counts on other pixels: each takes that of the pixel its centre lies in.

        Where there is no pixel they are `nodata`.

        Raises:
            InputError: the file cannot be read; the message names it.
        """
        if self.grid.crs != wanted.crs:
            return attempted(self.href, lambda: self._warped(wanted))
        (width, height), (across, down) = self.grid.resolution, wanted.resolution
        y = self.grid.transform.f - wanted.transform.f + down * (np.arange(wanted.shape[0]) + 0.5)
        x = wanted.transform.c - self.grid.transform.c + across * (np.arange(wanted.shape[1]) + 0.5)
        indices = (y // height).astype(int), (x // width).astype(int)
        inside = [(n >= 0) & (n < m) for n, m in zip(indices, self.grid.shape, strict=True)]
        rows, columns = (n[there] for n, there in zip(indices, inside, strict=True))
        if not (rows.size and columns.size):
            return np.full(wanted.shape, self.nodata, self.dtype)

        # Not at the top: the client, which reads headers only, does without its 50 MB.
        import rioxarray

        def counts() -> np.ndarray:
            with rioxarray.open_rasterio(self.href, cache=False, lock=False) as raster:
                part = raster[0, rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
                there: np.ndarray = part.values
            return there

        there = attempted(self.href, counts)
        if there.shape != (len(rows), len(columns)):
            there = there.take(rows - rows[0], axis=0).take(columns - columns[0], axis=1)
        if there.shape == wanted.shape:
            return there
        whole = np.full(wanted.shape, self.nodata, self.dtype)
        whole[np.ix_(*inside)] = there
        return whole

    def _warped(self, wanted: Grid) -> np.ndarray:
        with (
            rasterio.open(self.href) as file,
            # Near no tolerance: a pixel must not depend on the block that it is computed in.
            WarpedVRT(
                file, crs=wanted.crs, transform=wanted.transform, height=wanted.shape[0],
                width=wanted.shape[1], tolerance=0.01, src_nodata=self.nodata, nodata=self.nodata,
            ) as view,
        ):  # fmt: skip
            there: np.ndarray = view.read(1)
        return there


def open_raster(href: str, nodata: float | None, own: bool = True) -> Raster:
    """Read the header of a file.

    Args:
        href: path or URL.
        nodata: the count that means "no measurement" where the file does not say; None: 0.
        own: whether it is asked.

    Raises:
        InputError: it cannot be opened, or has no grid that a map could be on.
    """

    def look() -> tuple[Grid, str, float | None]:
        with rasterio.open(href) as file:
            return Grid(file.crs, file.transform, file.shape), file.dtypes[0], file.nodata

    grid, dtype, its = attempted(href, look)
    if grid.crs is None or not (grid.crs.is_projected or grid.crs.is_geographic):
        raise InputError(f"{public(href)}: needs a projected or geographic CRS")
    transform = grid.transform
    if transform.b or transform.d or transform.a <= 0 or transform.e >= 0:
        raise InputError(f"{public(href)}: is not north up (geotransform {tuple(transform)[:6]})")
    known = (n for n in (its if own else None, nodata) if n is not None)
    return Raster(href, grid, dtype, next((n for n in known if in_dtype_range(n, dtype)), 0))


def attempted(href: str, read: Callable[[], T]) -> T:
    """What ``read`` gives; for a remote raster it is called again where the trouble may be gone.

    Args:
        href: what it opens, for messages.
        read: opens a raster with GDAL, reads, and closes it.

    Raises:
        InputError: it cannot be opened or read; the message names it.
        Unavailable: and trying again later may help.
    """
    # rasterio logs URLs whole, and a worker's log may be read by others.
    logging.getLogger("rasterio").setLevel(logging.CRITICAL)
    remote = bool(scheme(href)) or href.startswith("/vsi")
    problem, temporary, settings = "", False, SETTINGS
    for pause in (*(PAUSES if remote else ()), None):
        try:
            with rasterio.Env(**settings):
                return read()
        except (RasterioError, OSError) as error:
            # rasterio's own message is vaguer than its cause.
            said, cause = [], error
            while cause is not None:
                said.append(re.sub(r"\?[^\s'\"]*", "", " ".join(str(cause).split())))
                cause = cause.__cause__
            problem = public(said[min(1, len(said) - 1)])
            temporary = remote and any(map(_TEMPORARY.search, said))
        if pause is None or not temporary:
            break
        time.sleep(pause)
        # What GDAL remembers of the file is the failure.
        settings = {**SETTINGS, "CPL_VSIL_CURL_NON_CACHED": "/vsicurl/:/vsis3/"}
    kind = Unavailable if temporary else InputError
    raise kind(f"{public(href)}: cannot be read ({problem})")
