"""Encoded tiles, in whatever order they come -> a cloud-optimised GeoTIFF.

The tiles go into a file as they come, and in their order into the map at the end. So the memory
that it takes does not grow with the map, but for a sixty-fourth of it: the level of the overviews
that no block can encode alone.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from rasterio.io import MemoryFile

from bai_example.grid import Grid
from bai_example.output import tiff
from bai_example.tiles import CREATION, LEVELS, TILE, Pyramid, coarser, encode, predictor


@dataclass(frozen=True)
class Description:
    """What the header of a map says beside its coordinates."""

    tags: Mapping[str, str] = field(default_factory=dict)
    """Metadata of the file."""
    band: str = ""
    """Name of the band."""
    band_tags: Mapping[str, str] = field(default_factory=dict)
    """Metadata of the band."""
    colors: Mapping[int, tuple[int, int, int, int]] | None = None
    """Colour of each code, RGBA."""


class Place(NamedTuple):
    """Where a tile lies in the file of those that have come."""

    first: int
    size: int


class CogWriter:
    """One map that is being written; a context manager, for it keeps a file beside the map."""

    def __init__(self, path: Path, grid: Grid, dtype: str, nodata: float) -> None:
        """Begin the map ``path`` on ``grid``."""
        self.path = path
        self.grid, self.dtype, self.nodata = grid, np.dtype(dtype), nodata
        self._shapes = level_shapes(grid.shape)
        self._tiles: list[dict[tuple[int, int], Place]] = [{} for _ in self._shapes]
        self._rest: np.ndarray | None = None
        if len(self._shapes) > LEVELS:
            self._rest = np.full(self._shapes[LEVELS], nodata, dtype)
        self._come = path.with_name(f".{path.name}.tiles").open("w+b")

    def __enter__(self) -> CogWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self._come.close()
        Path(self._come.name).unlink(missing_ok=True)

    def add(self, row: int, column: int, block: Pyramid) -> None:
        """Take the block whose first pixel is at ``row``, ``column``."""
        for level, tiles in enumerate(block.levels[: len(self._shapes)]):
            down, across = (first // (TILE << level) for first in (row, column))
            self._take(level, tiles, down, across)
        if self._rest is not None:
            top, left = row >> LEVELS, column >> LEVELS
            height, width = block.rest.shape
            self._rest[top : top + height, left : left + width] = block.rest

    def finish(self, description: Description) -> None:
        """Write the map; all its blocks have come."""
        values = self._rest
        for level in range(LEVELS, len(self._shapes)):
            assert values is not None
            self._take(level, encode(values), 0, 0)
            values = coarser(values)
        in_order = [[level[place] for place in sorted(level)] for level in self._tiles]
        levels = [
            tiff.Level(shape, [place.size for place in places])
            for shape, places in zip(self._shapes, in_order, strict=True)
        ]
        # One buffer for all: a new one for each tile costs the kernel more than the copying.
        buffer = memoryview(bytearray(max(size for places in in_order for _, size in places)))
        with self.path.open("wb") as file:
            file.write(tiff.header(self._template(description), levels))
            for places in reversed(in_order):
                for first, size in places:
                    self._come.seek(first)
                    self._come.readinto(buffer[:size])
                    file.write(buffer[:size])

    def _take(
        self, level: int, tiles: Mapping[tuple[int, int], bytes], down: int, across: int
    ) -> None:
        for (row, column), data in tiles.items():
            self._tiles[level][down + row, across + column] = Place(self._come.tell(), len(data))
            self._come.write(data)

    def _template(self, description: Description) -> bytes:
        """The map without any tile, as GDAL writes it."""
        height, width = self.grid.shape
        profile: dict[str, Any] = {
            "driver": "GTiff", "height": height, "width": width, "count": 1, "dtype": self.dtype,
            "crs": self.grid.crs, "transform": self.grid.transform, "nodata": self.nodata,
            "tiled": True, "blockxsize": TILE, "blockysize": TILE, "SPARSE_OK": True,
            "predictor": predictor(self.dtype), "ENDIANNESS": "LITTLE", "BIGTIFF": "NO",
        }  # fmt: skip
        with MemoryFile() as memory:
            with memory.open(**profile, **CREATION) as file:
                file.update_tags(**description.tags)
                file.update_tags(1, **description.band_tags)
                if description.band:
                    file.set_band_description(1, description.band)
                if description.colors:
                    file.write_colormap(1, description.colors)
            return bytes(memory.getbuffer())


def level_shapes(shape: tuple[int, int]) -> list[tuple[int, int]]:
    """Rows and columns of the map and of its overviews, the last of which is a single tile."""
    shapes = [shape]
    while max(shapes[-1]) > TILE:
        shapes.append((math.ceil(shapes[-1][0] / 2), math.ceil(shapes[-1][1] / 2)))
    return shapes
