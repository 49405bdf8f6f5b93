"""A scene's pixels on a part of the map. Runs on the workers, straight from the files."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import rasterio
from rasterio.enums import Resampling
from rasterio.vrt import WarpedVRT
from rasterio.windows import Window

from bai_example import gdal, mask
from bai_example.errors import InputError
from bai_example.grid import Box, overlap
from bai_example.pair import Raster, Source
from bai_example.source import public

#: A fill value in the masks that means "no data", for where a warped one has no pixel.
MASK_FILL = {"scl": 0, "qa_pixel": 1, "qa_radsat": 0}


class Piece(NamedTuple):
    """What one scene has of a part of the map."""

    box: Box
    """Which pixels, counted from the part's corner."""
    nir: np.ndarray
    """Counts."""
    swir2: np.ndarray
    """Counts, on the pixels of NIR."""
    codes: np.ndarray | None
    """Why pixels are left out, by the masks: codes of `mask.REASONS`, uint8; None: no mask."""
    source: Source
    """The scene."""


def read_pieces(events: Iterable[Sequence[Source]], part: Box) -> list[list[Piece]]:
    """Read what each scene has of a part of the map.

    Args:
        events: the scenes of each event.
        part: pixels of the map.

    Raises:
        InputError: a file cannot be read; the message names it.
    """
    # All files at once: over a network most of the time is waiting, and decoding, which is GDAL's,
    # goes on beside the other files'.
    begun = [[_begin(source, box) for source, box in _covering(event, part)] for event in events]
    return [[finish(part) for finish in event] for event in begun]


def _covering(event: Sequence[Source], part: Box) -> list[tuple[Source, Box]]:
    return [(source, box) for source in event if (box := overlap(source.box, part))]


def _begin(source: Source, box: Box) -> Callable[[Box], Piece]:
    """Begin to read a scene; the function that waits for the end."""
    submit = _readers().submit
    nir, swir2 = (submit(read_counts, raster, box) for raster in (source.nir, source.swir2))
    masks = [submit(_read_codes, raster, box, kind) for kind, raster in source.masks]

    def finish(part: Box) -> Piece:
        codes: np.ndarray | None = None
        for others in masks:
            if codes is None:
                codes = others.result()
            else:
                mask.merge(codes, others.result())
        where = box.moved(-part.top, -part.left)
        return Piece(where, nir.result(), swir2.result(), codes, source)

    return finish


@functools.cache
def _readers() -> ThreadPoolExecutor:
    """The threads that read, for as long as the worker lives.

    GDAL keeps connections by thread: with new threads for each block, each would connect anew.
    """
    return ThreadPoolExecutor(16, thread_name_prefix="read")


def read_counts(raster: Raster, wanted: Box, fill: float = 0) -> np.ndarray:
    """The counts of a raster on pixels of the map.

    Args:
        raster: the file and its place.
        wanted: pixels of the map.
        fill: the count where it has no pixel (a mask may be smaller than the bands).
    """
    origin, (down, across) = raster.placement
    # In the raster's own pixels, outwards to whole ones (a part may begin within a coarse pixel).
    top, left = (wanted.top - origin.top) // down, (wanted.left - origin.left) // across
    bottom = -((origin.top - wanted.bottom) // down)
    right = -((origin.left - wanted.right) // across)
    own = Box(top, left, bottom, right)

    def read(file: rasterio.DatasetReader) -> np.ndarray:
        if raster.warp is None:
            return _read_box(file, own, fill)
        nodata = fill if raster.nodata is None else raster.nodata
        # Nearest: every value is one that was measured, or a code.
        with WarpedVRT(
            file, crs=raster.warp.crs, transform=raster.warp.transform,
            height=raster.warp.shape[0], width=raster.warp.shape[1],
            resampling=Resampling.nearest, src_nodata=nodata, nodata=nodata,
        ) as warped:  # fmt: skip
            return _read_box(warped, own, fill)

    counts = finer(gdal.with_raster(raster.band.href, read), down, across)
    skip_down = wanted.top - origin.top - top * down
    skip_across = wanted.left - origin.left - left * across
    rows, columns = wanted.shape
    return counts[skip_down : skip_down + rows, skip_across : skip_across + columns]


def _read_codes(raster: Raster, wanted: Box, kind: str) -> np.ndarray:
    """What a mask says of pixels of the map: codes of `mask.REASONS`, uint8."""
    counts = read_counts(raster, wanted, MASK_FILL[kind])
    try:
        return mask.reasons(counts, kind)
    except InputError as error:
        raise InputError(f"{public(raster.band.href)}: {error}") from None


def _read_box(file: rasterio.DatasetReader, box: Box, fill: float) -> np.ndarray:
    there = overlap(box, Box(0, 0, *file.shape))
    if there is None:
        return np.full(box.shape, fill, file.dtypes[0])
    counts = file.read(1, window=Window(there.left, there.top, *there.shape[::-1]))
    if there == box:
        return counts
    missing = (
        (there.top - box.top, box.bottom - there.bottom),
        (there.left - box.left, box.right - there.right),
    )
    return np.pad(counts, missing, constant_values=fill)


def finer(counts: np.ndarray, down: int, across: int) -> np.ndarray:
    """Each pixel as ``down`` by ``across`` pixels of the same value."""
    if (down, across) == (1, 1):
        return counts
    rows, columns = counts.shape
    out = np.empty((rows * down, columns * across), counts.dtype)
    for i in range(down):
        for j in range(across):
            out[i::down, j::across] = counts
    return out
