"""Arrays -> the encoded tiles of a GeoTIFF, and the coarser levels of its overviews.

Runs on the workers, where nearly all of the time of writing goes: into compression. GDAL encodes;
the client only puts the tiles in order (see `cog`).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from affine import Affine
from rasterio.io import MemoryFile

#: Pixels along a tile's side: what COGs usually have.
TILE = 512
#: Levels of a block that are encoded where it is computed: full resolution and two overviews. So
#: a block of TILE << 2 pixels gives whole tiles of each, and its fourth level is 1/64 of it.
LEVELS = 3
#: Pixels along a block's side.
BLOCK = TILE << (LEVELS - 1)

#: How every file is compressed. DEFLATE, because every reader has it; level 1, because the values
#: carry the noise of the sensor and higher levels take two to eight times as long for 1 % of size
#: (table in docs/bai.md).
CREATION: dict[str, Any] = {"compress": "DEFLATE", "zlevel": 1}

#: Indices are rounded to multiples of this, 9.5e-7: far below what a sensor tells apart (the noise
#: of dNBR is about 0.01), and a quarter less to compress and to store.
STEP = 2.0**-20

#: rasterio warns of a file without coordinates; a block needs none.
NOWHERE = Affine(1, 0, 1, 0, -1, 1)


class Pyramid(NamedTuple):
    """A block of one file, ready to be written."""

    levels: tuple[dict[tuple[int, int], bytes], ...]
    """For each level, finest first: (row, column) of a tile within the block -> its bytes."""
    rest: np.ndarray
    """The block at the next coarser level, not encoded: its tiles need other blocks too."""


def pyramid(values: np.ndarray) -> Pyramid:
    """Encode a block at its own and the coarser resolutions.

    Args:
        values: 2-D, at most `BLOCK` pixels along a side; a block whose first row and column are
            multiples of `BLOCK` in the whole image.
    """
    levels = []
    for _ in range(LEVELS):
        levels.append(encode(values))
        values = coarser(values)
    return Pyramid(tuple(levels), values)


def encode(values: np.ndarray) -> dict[tuple[int, int], bytes]:
    """The encoded tiles of a 2-D array by row and column; those at the edges are filled up."""
    height, width = values.shape
    profile = {
        "driver": "GTiff", "height": height, "width": width, "count": 1, "dtype": values.dtype,
        "tiled": True, "blockxsize": TILE, "blockysize": TILE, "predictor": predictor(values.dtype),
        "transform": NOWHERE,
    }  # fmt: skip
    places = [(i, j) for i in range(-(-height // TILE)) for j in range(-(-width // TILE))]
    with MemoryFile() as memory:
        with memory.open(**profile, **CREATION) as file:
            file.write(values, 1)
        buffer = memoryview(memory.getbuffer())
        with memory.open() as file:

            def number(what: str, row: int, column: int) -> int:
                return int(file.get_tag_item(f"BLOCK_{what}_{column}_{row}", "TIFF", bidx=1))

            tiles = {}
            for place in places:
                first = number("OFFSET", *place)
                tiles[place] = bytes(buffer[first : first + number("SIZE", *place)])
    return tiles


def predictor(dtype: Any) -> int:
    """TIFF's predictor: neighbouring values are alike, and their differences compress better."""
    return 3 if np.dtype(dtype).kind == "f" else 2


def coarser(values: np.ndarray) -> np.ndarray:
    """The array at half the resolution, sides rounded up.

    Of floats the mean of the two by two values that are there, NaN where none is. Of class codes
    the upper left one, since codes have no mean.
    """
    if values.dtype.kind != "f":
        return np.ascontiguousarray(values[::2, ::2])
    height, width = values.shape
    if height % 2 or width % 2:
        values = np.pad(values, ((0, height % 2), (0, width % 2)), constant_values=np.nan)
    quarters = [values[down::2, across::2] for down in (0, 1) for across in (0, 1)]
    mean = quarters[0] + quarters[1]
    mean += quarters[2]
    mean += quarters[3]
    mean *= 0.25
    # Where one is missing: only those, for they are few.
    rows, columns = np.nonzero(np.isnan(mean))
    if rows.size:
        four = np.stack([quarter[rows, columns] for quarter in quarters])
        there = ~np.isnan(four)
        count = there.sum(axis=0)
        total = np.where(there, four, 0).sum(axis=0, dtype=np.float32)
        mean[rows, columns] = np.where(count, total / np.maximum(count, 1), np.nan)
    return rounded(mean)


def rounded(values: np.ndarray) -> np.ndarray:
    """Values rounded to multiples of `STEP`, in place."""
    np.multiply(values, 1 / STEP, out=values)
    np.rint(values, out=values)
    np.multiply(values, STEP, out=values)
    return values
