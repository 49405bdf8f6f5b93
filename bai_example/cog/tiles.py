"""Arrays -> the encoded tiles of a GeoTIFF, and the coarser levels of its overviews.

Runs on the workers, where nearly all of the time of writing goes: into compression. GDAL encodes.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from rasterio.io import MemoryFile
from rasterio.transform import Affine

#: Pixels along a tile's side: what COGs usually have.
TILE = 512
#: Levels of a block that are encoded where it is computed: full resolution and two overviews. So
#: a block of TILE << 2 pixels gives whole tiles of each, and its fourth level is 1/64 of it.
LEVELS = 3
#: Pixels along a block's side.
BLOCK = TILE << (LEVELS - 1)
#: DEFLATE, because every reader has it; level 1, because measurements carry noise, and higher
#: levels take two to eight times as long for 1 % of size.
CREATION = {"compress": "DEFLATE", "zlevel": 1}

#: A block ready to be written: for each level, finest first, (row, column) of a tile within the
#: block -> its bytes; and the block at the next coarser level, whose tiles need other blocks too.
#: A plain tuple, so that it travels from workers that have no copy of this package.
Encoded = tuple[list[dict[tuple[int, int], bytes]], np.ndarray]


def encode(values: np.ndarray) -> Encoded:
    """Encode a block at its own and the coarser resolutions.

    Args:
        values: 2-D, at most `BLOCK` pixels along a side; a block whose first row and column are
            multiples of `BLOCK` in the whole raster. Overviews of floats are means of the values
            that are there (not NaN), those of integers, which are taken for codes, are picked.
    """
    levels = []
    for _ in range(LEVELS):
        levels.append(tiles_of(values))
        values = coarser(values)
    return levels, values


def profile(shape: tuple[int, int], dtype: Any) -> dict[str, Any]:
    """How GDAL is to encode an array."""
    predictor = 3 if np.dtype(dtype).kind == "f" else 2  # neighbours' differences compress better
    return {
        "driver": "GTiff", "height": shape[0], "width": shape[1], "count": 1, "dtype": dtype,
        "tiled": True, "blockxsize": TILE, "blockysize": TILE, "predictor": predictor, **CREATION,
    }  # fmt: skip


def tiles_of(values: np.ndarray) -> dict[tuple[int, int], bytes]:
    """The encoded tiles of a 2-D array by row and column; those at the edges are filled up."""
    somewhere = Affine(1, 0, 1, 0, -1, 1)  # rasterio warns of a file without coordinates
    tiles = {}
    with MemoryFile() as memory:
        with memory.open(**profile(values.shape, values.dtype), transform=somewhere) as file:
            file.write(values, 1)
        buffer = memoryview(memory.getbuffer())
        with memory.open() as file:
            for row, column in np.ndindex(*(-(-side // TILE) for side in values.shape)):
                first, size = (
                    int(file.get_tag_item(f"BLOCK_{what}_{column}_{row}", "TIFF", bidx=1))
                    for what in ("OFFSET", "SIZE")
                )
                tiles[row, column] = bytes(buffer[first : first + size])
    return tiles


def coarser(values: np.ndarray) -> np.ndarray:
    """The array at half the resolution, sides rounded up."""
    if values.dtype.kind != "f":
        return np.ascontiguousarray(values[::2, ::2])
    odd = [(0, side % 2) for side in values.shape]
    values = np.pad(values, odd, constant_values=np.nan) if np.any(odd) else values
    quarters = [values[down::2, across::2] for down in (0, 1) for across in (0, 1)]
    mean = quarters[0] + quarters[1]
    for quarter in quarters[2:]:
        mean += quarter
    mean *= 0.25
    # Where one is missing: only those, for they are few.
    few = np.nonzero(np.isnan(mean))
    four = np.stack([quarter[few] for quarter in quarters])
    count = np.sum(~np.isnan(four), axis=0, dtype=mean.dtype)
    mean[few] = np.nansum(four, axis=0) / np.where(count, count, np.nan)
    # Back to 20 binary digits after the point: what a mean adds is noise that compresses badly.
    return np.rint(mean * 2.0**20) * mean.dtype.type(2.0**-20)
