"""The reference program's way to the burned-area map, on packages of today.

`python -m benchmarks.bai_reference PRE POST OUT` runs on the cluster at DASK_SCHEDULER_ADDRESS.

The reference program stacks both items with stackstac, which no longer runs (it looks for
`proj:epsg`); odc-stac takes its place. Kept are its steps and numbers: float64 arrays resampled to
10 m, read in chunks of 1024 pixels, the post-event ones merged to 2048; NBR and their difference as
lazy arrays; and `rio.to_raster`, which gathers the whole map on the client and compresses it there,
in tiles of 256 pixels. Added are the calibration, and 0 for a negative reflectance: without them
the map would be another one.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pystac
import rasterio
import rioxarray  # noqa: F401  (gives arrays their `rio`)
import xarray as xr
from distributed import Client
from odc.geo.geobox import GeoBox
from odc.stac import load
from rasterio.enums import Resampling

from bai_example.scenes import Scene, read_scene

#: Of the sample's items, which, like many, do not say it themselves.
COUNTS = {"*": {"assets": {"*": {"data_type": "uint16", "nodata": 0}}}}


def lazy_nbr(location: str, scene: Scene, geobox: GeoBox, chunk: int) -> xr.DataArray:
    """NBR of one event, in chunks of `chunk` x `chunk` pixels."""
    stack = load(
        [pystac.Item.from_file(location)],
        bands=["B08", "B12"],
        geobox=geobox,
        resampling="nearest",
        dtype="float64",
        chunks={"y": 1024, "x": 1024},
        stac_cfg=COUNTS,
    )
    stack = stack.squeeze("time", drop=True).chunk({"y": chunk, "x": chunk})
    nir = (stack["B08"] * scene.nir.scale + scene.nir.offset).clip(0)
    swir2 = (stack["B12"] * scene.swir.scale + scene.swir.offset).clip(0)
    return (nir - swir2) / (nir + swir2)


def write_map(pre: str, post: str, out: Path) -> None:
    """Make the map of two items at `out`."""
    pre_scene, post_scene = read_scene(pre), read_scene(post)
    with rasterio.open(pre_scene.nir.href) as raster:
        geobox = GeoBox.from_rio(raster)
    dnbr = lazy_nbr(pre, pre_scene, geobox, 1024) - lazy_nbr(post, post_scene, geobox, 2048)
    dnbr = dnbr.astype(np.float32).rio.write_crs(str(geobox.crs))
    dnbr.rio.to_raster(
        out,
        driver="COG",
        compress="deflate",
        blocksize=256,
        overview_resampling=Resampling.nearest,
    )


if __name__ == "__main__":
    with Client():
        write_map(sys.argv[1], sys.argv[2], Path(sys.argv[3]))
