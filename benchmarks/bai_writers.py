"""Ways to write one lazy array as a COG, each a program of its own.

`python -m benchmarks.bai_writers WRITER PRE POST OUT` runs on the cluster at
DASK_SCHEDULER_ADDRESS. The array is the same for all: dNBR in chunks of a block of `bai_example`,
read and computed by one task each, at the speed of `benchmarks.bai_limit`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import odc.geo.xr  # noqa: F401  (gives arrays their `odc`)
import rasterio
import rasterio.shutil
import rioxarray  # noqa: F401  (gives arrays their `rio`)
import xarray as xr
from distributed import Client, Lock
from odc.geo.cog import save_cog_with_dask
from rasterio.windows import Window

from bai_example.blocks import BLOCK
from bai_example.index import STEP
from bai_example.scenes import Band, Scene, read_scene
from benchmarks.bai_limit import COG, nbr


def read_window(band: Band, window: Window) -> np.ndarray:
    """The counts of a band inside a window of its own pixels."""
    with rasterio.open(band.href) as raster:
        counts: np.ndarray = raster.read(1, window=window)
    return counts


def dnbr_block(scenes: tuple[Scene, Scene], block_info: dict[Any, Any]) -> np.ndarray:
    """One chunk of the map, float32, multiples of `STEP`. Runs on a worker."""
    (top, bottom), (left, right) = block_info[None]["array-location"]
    fine = Window(left, top, right - left, bottom - top)
    coarse = Window(left // 2, top // 2, (right - left) // 2, (bottom - top) // 2)
    before, after = (
        nbr(scene, read_window(scene.nir, fine), read_window(scene.swir, coarse))
        for scene in scenes
    )
    before -= after
    out: np.ndarray = np.rint(before * np.float32(1 / STEP)) * np.float32(STEP)
    return out


def lazy_map(pre: str, post: str) -> xr.DataArray:
    """The lazy dNBR map of two items."""
    scenes = read_scene(pre), read_scene(post)
    with rasterio.open(scenes[0].nir.href) as raster:
        shape, crs, transform = raster.shape, raster.crs, raster.transform
    chunks = da.core.normalize_chunks((BLOCK, BLOCK), shape=shape)
    data = da.map_blocks(
        dnbr_block, scenes, chunks=chunks, dtype=np.float32, meta=np.empty((0, 0), np.float32)
    )
    coords = {
        "y": transform.f + transform.e * (np.arange(shape[0]) + 0.5),
        "x": transform.c + transform.a * (np.arange(shape[1]) + 0.5),
    }
    array = xr.DataArray(data, dims=("y", "x"), coords=coords, name="dnbr")
    array = array.rio.write_crs(crs).rio.write_transform(transform).rio.write_nodata(np.nan)
    return array


def nothing(dnbr: xr.DataArray, out: Path, client: Client) -> None:
    """Compute every chunk and write none: what is left for a writer to add."""
    dnbr.data.map_blocks(lambda chunk: chunk[:1, :1], chunks=(1, 1)).compute()


def gathered(dnbr: xr.DataArray, out: Path, client: Client) -> None:
    """rioxarray: the whole array on the client, and GDAL's COG driver there."""
    dnbr.rio.to_raster(out, driver="COG", **COG)


def raw(dnbr: xr.DataArray, out: Path, client: Client) -> None:
    """rioxarray writes a raw GeoTIFF, chunk by chunk; GDAL's COG driver copies that."""
    step = out.with_suffix(".raw.tif")
    dnbr.rio.to_raster(step, tiled=True, blockxsize=512, blockysize=512, lock=Lock("raw"))
    rasterio.shutil.copy(step, out, driver="COG", **COG)
    step.unlink()


def odc_geo(dnbr: xr.DataArray, out: Path, client: Client) -> None:
    """odc-geo: tiles and overviews as Dask tasks, put in order by one of them."""
    save_cog_with_dask(
        dnbr,
        out,
        compression=COG["COMPRESS"],
        level=COG["LEVEL"],
        predictor=3,
        blocksize=COG["BLOCKSIZE"],
        overview_resampling="average",
    ).compute()


WRITERS: dict[str, Callable[[xr.DataArray, Path, Client], None]] = {
    "nothing": nothing,
    "gathered": gathered,
    "raw": raw,
    "odc-geo": odc_geo,
}

if __name__ == "__main__":
    with Client() as connected:
        WRITERS[sys.argv[1]](lazy_map(sys.argv[2], sys.argv[3]), Path(sys.argv[4]), connected)
