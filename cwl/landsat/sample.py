"""Writes a sample quality band, named as USGS names those of Landsat 8's Collection 2.

    python sample.py FOLDER [SIZE]

SIZE is its height and width in pixels of 30 m; a real scene has about 7,700.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import rasterio
from rasterio.crs import CRS
from rasterio.transform import from_origin

NAME = "LC08_L2SP_065045_20210714_20210721_02_T1_QA_PIXEL.TIF"
FILL, CLEAR, CLOUD, SHADOW = 1, 21824, 22280, 23888
"""Values as the quality band has them: bits, not a measure."""


def write_sample(folder: Path, size: int = 2000) -> Path:
    """Write the sample into `folder`, which is made; the same one each time. Its path."""
    folder.mkdir(parents=True, exist_ok=True)
    y, x = np.mgrid[:size, :size] / size
    pixels = np.full((size, size), CLEAR, "uint16")
    for row, column, radius in np.random.default_rng(65045).uniform(0.1, 0.9, (25, 3)):
        for value, shift in ((SHADOW, 0.02), (CLOUD, 0)):
            away = (y - row - shift) ** 2 + (x - column - shift) ** 2
            pixels[away < (radius / 12) ** 2] = value
    # The satellite does not fly due south: corners of the scene are empty.
    pixels[(y + 0.2 * x < 0.15) | (y + 0.2 * x > 1.05)] = FILL
    profile = {
        "driver": "GTiff", "height": size, "width": size, "count": 1, "dtype": "uint16",
        "crs": CRS.from_epsg(32604), "transform": from_origin(500_000, 2_400_000, 30, 30),
        "compress": "deflate", "tiled": True,
    }  # fmt: skip
    with rasterio.open(folder / NAME, "w", **profile) as file:
        file.write(pixels, 1)
    return folder / NAME


if __name__ == "__main__":
    print(write_sample(Path(sys.argv[1]), *map(int, sys.argv[2:3])))
