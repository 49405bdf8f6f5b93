"""The limit: the burned-area map by one process with everything in memory.

`python -m benchmarks.bai_limit PRE POST OUT` uses every core and no cluster: rasterio and numpy at
their fastest, and GDAL's COG driver.
"""

from __future__ import annotations

import functools
import os
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import rasterio.shutil
from rasterio.errors import NotGeoreferencedWarning

from bai_example.index import STEP
from bai_example.scenes import Band, Scene, read_scene

CORES = os.cpu_count() or 1
#: Rows computed at once: 64 rows of a full tile are 2.8 MB of float32, near the caches' size.
ROWS = 64
#: How the map is written: as `bai_example` does.
COG: dict[str, Any] = {
    "COMPRESS": "DEFLATE",
    "LEVEL": 1,
    "PREDICTOR": "FLOATING_POINT",
    "BLOCKSIZE": 512,
    "OVERVIEW_RESAMPLING": "AVERAGE",
    "NUM_THREADS": "ALL_CPUS",
}


def read_counts(band: Band) -> np.ndarray:
    """All counts of a band."""
    with rasterio.open(band.href) as raster:
        counts: np.ndarray = raster.read(1)
    return counts


def nbr(scene: Scene, nir: np.ndarray, swir2: np.ndarray) -> np.ndarray:
    """NBR of some rows, float32, from the counts of both bands at 10 m and 20 m.

    The offset is added in counts, where float32 is exact for Sentinel-2; so all that is rounded is
    one division.
    """
    assert scene.nir.scale == scene.swir.scale
    swir2 = swir2.repeat(2, axis=0).repeat(2, axis=1)
    unknown = (nir == 0) | (swir2 == 0)
    a = nir.astype(np.float32)
    b = swir2.astype(np.float32)
    a += np.float32(scene.nir.offset / scene.nir.scale)
    b += np.float32(scene.swir.offset / scene.swir.scale)
    np.maximum(a, 0, out=a)
    np.maximum(b, 0, out=b)
    difference = a - b
    a += b
    a[unknown] = np.nan
    difference /= a
    return difference


def dnbr(scenes: tuple[Scene, Scene], counts: list[np.ndarray], out: np.ndarray, row: int) -> None:
    """Fill `ROWS` rows of the map."""
    fine, coarse = slice(row, row + ROWS), slice(row // 2, (row + ROWS) // 2)
    before = nbr(scenes[0], counts[0][fine], counts[1][coarse])
    after = nbr(scenes[1], counts[2][fine], counts[3][coarse])
    before -= after
    before *= np.float32(1 / STEP)
    np.rint(before, out=before)
    np.multiply(before, np.float32(STEP), out=out[fine])


def write_map(pre: str, post: str, out: Path) -> None:
    """Make the map of two items at `out`."""
    scenes = read_scene(pre), read_scene(post)
    bands = [scenes[0].nir, scenes[0].swir, scenes[1].nir, scenes[1].swir]
    with rasterio.Env(GDAL_NUM_THREADS="ALL_CPUS"), ThreadPoolExecutor(CORES) as pool:
        counts = list(pool.map(read_counts, bands))
        values = np.empty(counts[0].shape, np.float32)
        fill = functools.partial(dnbr, scenes, counts, values)
        list(pool.map(fill, range(0, len(values), ROWS)))
        with rasterio.open(bands[0].href) as raster:
            crs, transform = raster.crs, raster.transform
    del counts, fill
    # GDAL reads the array where it is; `rasterio.open(…, "w")` would copy it first.
    rows, columns = values.shape
    memory = f"MEM:::DATAPOINTER={values.ctypes.data},PIXELS={columns},LINES={rows}"
    warnings.simplefilter("ignore", NotGeoreferencedWarning)  # it has no place yet
    with (
        rasterio.Env(GDAL_NUM_THREADS="ALL_CPUS", GDAL_MEM_ENABLE_OPEN="YES"),
        rasterio.open(f"{memory},DATATYPE=Float32", "r+") as raster,
    ):
        raster.crs, raster.transform, raster.nodata = crs, transform, np.nan
        rasterio.shutil.copy(raster, out, driver="COG", **COG)


if __name__ == "__main__":
    write_map(sys.argv[1], sys.argv[2], Path(sys.argv[3]))
