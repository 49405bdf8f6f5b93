"""Cloud-optimised GeoTIFFs, written block by block; and files that appear whole or not at all."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import rasterio.shutil
from rasterio.windows import Window

from bai_example.grid import Grid

#: Tile of the files written, in pixels: COG's usual one, a divisor of a block.
TILE = 512

#: GDAL's COG driver, for every file.
_COG = {
    "COMPRESS": "DEFLATE",  # every reader has it
    "LEVEL": 6,
    "BLOCKSIZE": TILE,
    "NUM_THREADS": "ALL_CPUS",  # compression is nearly all of the work
    "BIGTIFF": "IF_SAFER",  # a map of more than 4 GB is written too
}


@contextmanager
def staging(folder: Path) -> Iterator[Path]:
    """A hidden folder inside ``folder``, whose files move into ``folder`` at the end.

    They move only if the block ends without an error, each by one rename, replacing what is
    there; the hidden folder goes in any case.
    """
    stage = folder / f".bai-{uuid.uuid4().hex[:12]}"
    try:
        stage.mkdir()  # in here, for a signal may end the program right after it
        yield stage
        for path in sorted(stage.iterdir()):
            os.replace(path, folder / path.name)
    finally:
        shutil.rmtree(stage, ignore_errors=True)


def write_cog(
    path: Path,
    grid: Grid,
    dtype: str,
    nodata: float,
    parts: Iterable[tuple[int, int, np.ndarray]],
    overviews: str,
    tags: Mapping[str, str],
    band_tags: Mapping[str, str],
) -> None:
    """Write a single-band COG from its parts.

    The parts go into an uncompressed tiled GeoTIFF, in whatever order they come, and GDAL copies
    it into the COG, tile by tile. So the memory it takes does not grow with the map.

    Args:
        path: the file to make. Beside it, the temporary file is made and removed.
        grid: the map's grid.
        dtype: its data type.
        nodata: the value of pixels without a value.
        parts: first row, first column and values of each part; together they cover the grid.
        overviews: how GDAL makes the overviews, such as ``AVERAGE``.
        tags: metadata of the file. Read after the last part, so it may be filled meanwhile.
        band_tags: metadata of the band, likewise. ``DESCRIPTION`` is the band's name.
    """
    raw = path.with_name(f".{path.name}.raw.tif")
    rows, columns = grid.shape
    profile: dict[str, Any] = {
        "driver": "GTiff", "height": rows, "width": columns, "count": 1, "dtype": dtype,
        "crs": grid.crs, "transform": grid.transform, "nodata": nodata,
        "tiled": True, "blockxsize": TILE, "blockysize": TILE, "BIGTIFF": "IF_SAFER",
    }  # fmt: skip
    # GDAL's cache of tiles, by default 5 % of the host's memory: enough for a row of blocks.
    with rasterio.Env(GDAL_CACHEMAX=128):
        try:
            with rasterio.open(raw, "w", **profile) as file:
                for row, column, values in parts:
                    height, width = values.shape
                    file.write(values, 1, window=Window(column, row, width, height))
                file.update_tags(**tags)
                file.update_tags(1, **{k: v for k, v in band_tags.items() if k != "DESCRIPTION"})
                if name := band_tags.get("DESCRIPTION"):
                    file.set_band_description(1, name)
            # Neighbouring values are alike: their differences compress better (3 is for floats).
            predictor = "FLOATING_POINT" if np.dtype(dtype).kind == "f" else "STANDARD"
            rasterio.shutil.copy(
                raw, path, driver="COG", PREDICTOR=predictor, OVERVIEW_RESAMPLING=overviews, **_COG
            )
        finally:
            raw.unlink(missing_ok=True)
