"""The sample's rasters, written as catalogues write theirs: by GDAL's own COG driver."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import rasterio.shutil
from rasterio.windows import Window

from bai_example.grid import Grid

#: Tile of the files written, in pixels.
TILE = 512


def write_counts(
    path: Path,
    grid: Grid,
    parts: Iterable[tuple[int, int, np.ndarray]],
    tags: Mapping[str, str],
    band: str,
) -> None:
    """Write a single-band COG of uint16 counts, 0 being "no data".

    The parts go into an uncompressed GeoTIFF, and GDAL copies it into the COG, tile by tile. So
    the memory it takes does not grow with the scene.

    Args:
        path: the file to make. Beside it, the temporary file is made and removed.
        grid: the scene's grid.
        parts: first row, first column and counts of each part; together they cover the grid.
        tags: metadata of the file.
        band: name of the band.
    """
    raw = path.with_name(f".{path.name}.raw.tif")
    rows, columns = grid.shape
    profile: dict[str, Any] = {
        "driver": "GTiff", "height": rows, "width": columns, "count": 1, "dtype": "uint16",
        "crs": grid.crs, "transform": grid.transform, "nodata": 0,
        "tiled": True, "blockxsize": TILE, "blockysize": TILE, "BIGTIFF": "IF_SAFER",
    }  # fmt: skip
    # GDAL's cache of tiles, by default 5 % of the host's memory: enough for a row of tiles.
    with rasterio.Env(GDAL_CACHEMAX=128):
        try:
            with rasterio.open(raw, "w", **profile) as file:
                for row, column, values in parts:
                    height, width = values.shape
                    file.write(values, 1, window=Window(column, row, width, height))
                file.update_tags(**tags)
                file.set_band_description(1, band)
            rasterio.shutil.copy(
                raw, path, driver="COG", COMPRESS="DEFLATE", LEVEL=6, PREDICTOR="STANDARD",
                BLOCKSIZE=TILE, OVERVIEW_RESAMPLING="NEAREST", NUM_THREADS="ALL_CPUS",
                BIGTIFF="IF_SAFER",
            )  # fmt: skip
        finally:
            raw.unlink(missing_ok=True)
