"""Two `Scene`\\ s -> four lazy reflectance arrays on one pixel grid.

Only the headers are read here. The pixels are read by the workers, block by block, each block
straight from its file with rioxarray; a worker needs nothing but the file's path or URL.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import dask.array as da
import numpy as np
import rasterio
import rioxarray
import xarray as xr
from rasterio.errors import RasterioError

from bai_example.errors import InputError
from bai_example.grid import Box, Grid, Placement, common_box, place
from bai_example.stac import Band, Scene

#: Pixels along a block's side. A multiple of the tiles of the catalogues' COGs (512 or 1024), so
#: that no tile is fetched twice; four bands of a block take about 60 MB while they are computed.
BLOCK = 1024

#: GDAL's settings for every read, here and on the workers. Passed with each read, because a
#: worker's environment belongs to the operator of the cluster.
GDAL_SETTINGS: dict[str, Any] = {
    # No listing of the folder beside a raster: over HTTP that is one more request per file.
    "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR",
    # A COG's header is read in one request; 16 kB (the default) is too small for a full tile's.
    "GDAL_INGESTED_BYTES_AT_OPEN": 32768,
    # Adjacent byte ranges in one request, several requests over one connection.
    "GDAL_HTTP_MERGE_CONSECUTIVE_RANGES": "YES",
    "GDAL_HTTP_MULTIPLEX": "YES",
    "GDAL_HTTP_VERSION": "2",
    # A busy server (429, 502, 503, 504) is asked again before the run fails.
    "GDAL_HTTP_MAX_RETRY": 3,
    "GDAL_HTTP_RETRY_DELAY": 1,
    # A server that stalls is an error after a minute, not a run that never ends.
    "GDAL_HTTP_CONNECTTIMEOUT": 20,
    "GDAL_HTTP_LOW_SPEED_TIME": 60,
    "GDAL_HTTP_LOW_SPEED_LIMIT": 1,
    # Neighbouring reads find the header and the last bytes again in memory (25 MB by default).
    "VSI_CACHE": "TRUE",
    # GDAL keeps decoded tiles, by default in 5 % of the host's memory, whatever the container's
    # limit. Every tile is used once here, so a little is enough.
    "GDAL_CACHEMAX": 64,
}


@dataclass(frozen=True)
class Raster:
    """One band's file, placed on the common grid."""

    band: Band
    """The file and what its numbers mean."""
    nodata: float | None
    """The count that means "no measurement": the raster's own, else the item's."""
    placement: Placement
    """Where it lies, in pixels of the reference grid."""
    box: Box
    """The part of the reference grid that the map covers."""


@dataclass(frozen=True)
class Pair:
    """Both events' bands on one grid."""

    grid: Grid
    """The map's grid."""
    pre_nir: xr.DataArray
    """Pre-event NIR reflectance, float64, dims ``(y, x)``, NaN where there is no measurement."""
    pre_swir2: xr.DataArray
    """Pre-event SWIR2 reflectance, likewise."""
    post_nir: xr.DataArray
    """Post-event NIR reflectance, likewise."""
    post_swir2: xr.DataArray
    """Post-event SWIR2 reflectance, likewise."""


def open_pair(pre: Scene, post: Scene, block: int = BLOCK) -> Pair:
    """Open both scenes' bands and bring them onto the pre-event NIR raster's grid.

    Each SWIR2 pixel stands for exactly the NIR pixels it covers. Where the extents differ, the
    pair is cropped to what all four rasters cover.

    Args:
        pre: the scene before the event.
        post: the scene after it.
        block: pixels along a block's side.

    Raises:
        InputError: a raster cannot be opened, or the four do not share one grid.
    """
    bands = {
        "pre-event NIR": pre.nir,
        "pre-event SWIR2": pre.swir2,
        "post-event NIR": post.nir,
        "post-event SWIR2": post.swir2,
    }
    headers: dict[str, tuple[Grid, float | None]] = {}
    problems: list[str] = []
    for name, band in bands.items():
        try:
            headers[name] = _header(band)
        except InputError as error:
            problems += [f"{name}: {problem}" for problem in error.problems]
    if problems:
        raise InputError(*problems)
    grids = {name: grid for name, (grid, _) in headers.items()}
    placements = _place_all(grids)
    box = common_box(grids, placements)
    grid = grids["pre-event NIR"].window(box)
    arrays = [
        _lazy(Raster(band, headers[name][1], placements[name], box), grid, block, name)
        for name, band in bands.items()
    ]
    return Pair(grid, *arrays)


def _place_all(grids: dict[str, Grid]) -> dict[str, Placement]:
    """Place every raster on the pre-event NIR grid; the NIR rasters must be equally fine."""
    reference_name, reference = next(iter(grids.items()))
    placements: dict[str, Placement] = {}
    problems: list[str] = []
    for name, grid in grids.items():
        try:
            placements[name] = place(grid, reference, name, reference_name)
        except InputError as error:
            problems += error.problems
            continue
        if name.endswith("NIR") and placements[name].ratio != (1, 1):
            size = "{:.6g} x {:.6g}".format
            problems.append(
                f"the pixel sizes differ: {reference_name} has {size(*reference.resolution)}, "
                f"{name} has {size(*grid.resolution)}"
            )
    if problems:
        raise InputError(*problems)
    return placements


def _header(band: Band) -> tuple[Grid, float | None]:
    """The grid and the nodata value of a band's raster."""
    with rasterio.Env(**GDAL_SETTINGS):
        try:
            with rasterio.open(band.href) as raster:
                crs, transform, shape = raster.crs, raster.transform, raster.shape
                nodata = band.nodata if raster.nodata is None else raster.nodata
        except (RasterioError, OSError) as error:
            raise InputError(f"{band.href}: cannot be opened ({_one_line(error)})") from None
    if crs is None or not crs.is_projected:
        raise InputError(
            f"{band.href}: needs a projected CRS, such as UTM, but has "
            f"{crs.to_string() if crs else 'none'}"
        )
    if transform.b or transform.d or transform.a <= 0 or transform.e >= 0:
        raise InputError(f"{band.href}: is not north up (geotransform {tuple(transform)[:6]})")
    return Grid(crs, transform, shape), nodata


def _lazy(raster: Raster, grid: Grid, block: int, name: str) -> xr.DataArray:
    chunks = da.core.normalize_chunks((block, block), shape=grid.shape)
    data = da.map_blocks(
        read_reflectance, raster, chunks=chunks, dtype=np.float64, meta=np.empty((0, 0))
    )
    array = xr.DataArray(data, dims=("y", "x"), coords=coordinates(grid), name=name)
    return array.rio.write_crs(grid.crs).rio.write_transform(grid.transform)


def coordinates(grid: Grid) -> dict[str, Any]:
    """Coordinates of the pixel centres, ``y`` from north to south."""
    rows, columns = grid.shape
    transform = grid.transform
    return {
        "y": transform.f + transform.e * (np.arange(rows) + 0.5),
        "x": transform.c + transform.a * (np.arange(columns) + 0.5),
    }


def read_reflectance(raster: Raster, block_info: dict[Any, Any]) -> np.ndarray:
    """Read one block of a band as reflectance. Runs on a worker.

    float64, because the difference NIR - SWIR2 over a small sum would carry float32's rounding
    into the sixth decimal.

    Args:
        raster: the band's file and place.
        block_info: Dask's account of which block this is.

    Returns:
        Reflectance, float64, NaN where there is no measurement.

    Raises:
        InputError: the file cannot be read; the message names it.
    """
    (top, bottom), (left, right) = block_info[None]["array-location"]
    down, across = raster.box.top, raster.box.left
    wanted = Box(top + down, left + across, bottom + down, right + across)
    counts = _read_counts(raster, wanted)
    reflectance = counts.astype(np.float64) * raster.band.scale + raster.band.offset
    if raster.nodata is not None:
        reflectance[counts == raster.nodata] = np.nan  # a NaN nodata value is NaN already
    return reflectance


def _read_counts(raster: Raster, wanted: Box) -> np.ndarray:
    """The counts on the reference pixels ``wanted``, each raster pixel repeated exactly."""
    origin, (down, across) = raster.placement
    # In the raster's own pixels, outwards to whole ones (a block may begin within a coarse pixel).
    rows = slice((wanted.top - origin.top) // down, -((origin.top - wanted.bottom) // down))
    columns = slice(
        (wanted.left - origin.left) // across, -((origin.left - wanted.right) // across)
    )
    problem = ""
    try:
        with (
            rasterio.Env(**GDAL_SETTINGS),
            # A file of its own for each read: no lock, no handle shared between threads.
            rioxarray.open_rasterio(
                raster.band.href, parse_coordinates=False, cache=False, lock=False
            ) as opened,
        ):
            counts = opened.isel(band=0, y=rows, x=columns).to_numpy()
    except (RasterioError, OSError) as error:
        problem = f"{raster.band.href}: cannot be read ({_one_line(error)})"
    if problem:
        # Not from within the handler: an exception travels to the client together with its
        # context, and GDAL's exceptions cannot be pickled.
        raise InputError(problem)
    counts = counts.repeat(down, axis=0).repeat(across, axis=1)
    top = wanted.top - origin.top - rows.start * down
    left = wanted.left - origin.left - columns.start * across
    return counts[top : top + wanted.bottom - wanted.top, left : left + wanted.right - wanted.left]


def _one_line(error: BaseException) -> str:
    """What GDAL said, which rasterio keeps as the cause of its own, vaguer message."""
    return " ".join(str(error.__cause__ or error).split())
