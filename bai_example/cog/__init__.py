"""Blocks of a large raster, computed anywhere, in any order -> cloud-optimised GeoTIFFs.

Why it exists: the tiles of a COG are compressed where they are computed, on the workers, and only
compressed bytes travel to the client, which puts them in order. It needs no disk that workers and
client share, and the client's memory does not grow with the raster (but for a sixty-fourth of it).
One pass over the blocks writes several files. The one thing to call is `write_cogs`; what it takes
is a stream of blocks, which the workers have passed through `encode`, or a lazy array::

    write_cogs(blocks, [Cog(path, {"height": 10980, "width": 10980, "dtype": "float32", …})])
    write_cogs(array.data, [Cog(path, profile)])  # a Dask array

When to use something else: for an array that fits into memory, or workers that share a disk, GDAL's
COG driver (`rioxarray`'s ``to_raster(driver="COG")``) is simpler and knows every compression and
data type. For many bands, or a direct upload to S3 part by part, use ``odc.geo.cog``. This package
writes one band, tiles of 512 pixels and the compressions that GDAL's GTiff driver offers; it
imports nothing of the program around it and can be copied out as it stands.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from rasterio.io import MemoryFile

from bai_example.cog.header import header
from bai_example.cog.tiles import BLOCK, LEVELS, TILE, Encoded, coarser, encode, profile, tiles_of

__all__ = ["BLOCK", "Cog", "Encoded", "encode", "write_cogs"]


class Cog(NamedTuple):
    """A single-band COG that is to be written."""

    path: Path
    profile: dict[str, Any]
    """Height, width, crs, transform, dtype and nodata, as rasterio calls them."""
    describe: Callable[[Any], object] = str
    """Is given the open file at the end, to set its metadata, band name and colours."""


def write_cogs(
    blocks: Iterable[tuple[int, int, Sequence[Encoded]]] | Any, files: Sequence[Cog]
) -> None:
    """Write COGs of one shape from one pass over their blocks.

    Args:
        blocks: first row, first column, and the block of each file as `encode` gives it; in any
            order, together they cover the files. Or a 2-D Dask array: the one file's values.
        files: what is written. After an error some may be incomplete or missing.
    """
    if hasattr(blocks, "to_delayed"):
        blocks = _computed(blocks)
    with ExitStack() as stack:
        writers = [stack.enter_context(_Writer(file)) for file in files]
        for row, column, encoded in blocks:
            for writer, block in zip(writers, encoded, strict=True):
                writer.add(row, column, block)
        for writer in writers:
            writer.finish()


def _computed(array: Any) -> Iterator[tuple[int, int, list[Encoded]]]:
    """The encoded blocks of a Dask array; row by row, which bounds what waits here."""
    import dask

    encoded = dask.delayed(encode, pure=False)
    for i, row in enumerate(array.rechunk((BLOCK, BLOCK)).to_delayed()):
        for j, block in enumerate(dask.compute(*map(encoded, row))):
            yield i * BLOCK, j * BLOCK, [block]


class _Writer:
    """One COG that is being written.

    The tiles go into a temporary file as they come, and in their order into the COG at the end.
    """

    def __init__(self, cog: Cog) -> None:
        self._cog = cog
        #: Of the raster and its overviews, the last of which is a single tile.
        self._shapes = [(cog.profile["height"], cog.profile["width"])]
        while max(self._shapes[-1]) > TILE:
            self._shapes.append((-(-self._shapes[-1][0] // 2), -(-self._shapes[-1][1] // 2)))
        #: For each level, (row, column) of a tile -> its place and size in the temporary file.
        self._tiles: list[dict[tuple[int, int], tuple[int, int]]] = [{} for _ in self._shapes]
        #: The level that no block can encode alone.
        self._rest: np.ndarray | None = None
        if len(self._shapes) > LEVELS:
            self._rest = np.full(self._shapes[LEVELS], cog.profile["nodata"], cog.profile["dtype"])
        self._come = tempfile.TemporaryFile(dir=cog.path.parent)  # noqa: SIM115

    def __enter__(self) -> _Writer:
        return self

    def __exit__(self, *_: object) -> None:
        self._come.close()

    def add(self, row: int, column: int, block: Encoded) -> None:
        """Take the block whose first pixel is at ``row``, ``column``."""
        levels, rest = block
        for level, tiles in enumerate(levels[: len(self._shapes)]):
            self._take(level, tiles, row // (TILE << level), column // (TILE << level))
        if self._rest is not None:
            top, left = row >> LEVELS, column >> LEVELS
            self._rest[top : top + rest.shape[0], left : left + rest.shape[1]] = rest

    def finish(self) -> None:
        """Write the COG; all its blocks have come."""
        values = self._rest
        for level in range(LEVELS, len(self._shapes)):
            assert values is not None
            self._take(level, tiles_of(values))
            values = coarser(values)
        in_order = [[level[place] for place in sorted(level)] for level in self._tiles]
        levels = [
            (shape, [size for _, size in places])
            for shape, places in zip(self._shapes, in_order, strict=True)
        ]
        # One buffer for all: a new one for each tile costs the kernel more than the copying.
        buffer = memoryview(bytearray(max(size for _, sizes in levels for size in sizes)))
        with self._cog.path.open("wb") as file:
            file.write(header(self._template(), levels))
            for places in reversed(in_order):
                for first, size in places:
                    self._come.seek(first)
                    self._come.readinto(buffer[:size])
                    file.write(buffer[:size])

    def _take(
        self, level: int, tiles: Mapping[tuple[int, int], bytes], down: int = 0, across: int = 0
    ) -> None:
        for (row, column), data in tiles.items():
            self._tiles[level][down + row, across + column] = self._come.tell(), len(data)
            self._come.write(data)

    def _template(self) -> bytes:
        """The COG without any tile, as GDAL writes it."""
        how = profile(self._shapes[0], self._cog.profile["dtype"])
        how |= {"SPARSE_OK": True, "ENDIANNESS": "LITTLE", "BIGTIFF": "NO"}
        with MemoryFile() as memory:
            with memory.open(**self._cog.profile | how) as file:
                self._cog.describe(file)
            return bytes(memory.getbuffer())
