"""What the benchmark looks at in the rasters: whether they agree, are COGs, and how large."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import rasterio
from rasterio.windows import Window
from rio_cogeo import cog_validate


def thinned(path: Path) -> np.ndarray:
    """Every fourth strip of 64 rows of a map: enough to compare, little enough to keep."""
    with rasterio.open(path) as raster:
        strips = [
            raster.read(1, window=Window(0, row, raster.width, min(64, raster.height - row)))
            for row in range(0, raster.height, 256)
        ]
    return np.concatenate(strips)


def farthest(one: np.ndarray, other: np.ndarray) -> float:
    """The largest difference of two maps; infinite where only one has a value."""
    if one.shape != other.shape or not np.array_equal(np.isnan(one), np.isnan(other)):
        return float("inf")
    return float(np.nanmax(np.abs(one.astype(np.float64) - other)))


def described(path: Path) -> str:
    """A map's size in MB and what rio-cogeo says of it."""
    if not path.exists():
        return "– | –"
    valid, errors, warnings = cog_validate(str(path), quiet=True)
    verdict = "valid" if valid else f"not valid: {'; '.join(errors)}"
    return f"{path.stat().st_size / 1e6:.0f} | {'; '.join([verdict, *warnings])}"


def full_resolution_bytes(path: Path) -> int:
    """Bytes of a raster's tiles, without overviews and header."""
    with rasterio.open(path) as raster:
        height, width = raster.block_shapes[0]
        return sum(
            int(raster.get_tag_item(f"BLOCK_SIZE_{column}_{row}", "TIFF", bidx=1) or 0)
            for row in range(-(-raster.height // height))
            for column in range(-(-raster.width // width))
        )
