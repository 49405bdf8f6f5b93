"""One block of the map, from the files to its encoded tiles. Runs on a worker, as one task.

One task for all of it, because its steps pass on more than they take in: what goes through memory
between them is strips of a few hundred kilobytes, and what goes to the client is compressed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from rasterio.features import geometry_mask

from bai_example import mask, memory
from bai_example.bai import INDICES, classify, dnbr, nbr
from bai_example.grid import Box
from bai_example.pair import Pair, Raster
from bai_example.read import Piece, read_pieces
from bai_example.stats import EVENTS, Statistics
from bai_example.tiles import Pyramid, pyramid, rounded

#: Rows computed at once: the arrays of a strip of a block stay in the processor's cache.
STRIP = 32


class Block(NamedTuple):
    """A computed block."""

    box: Box
    """Which pixels of the map."""
    index: Pyramid
    """The index, float32, NaN where there is no value."""
    severity: Pyramid
    """The severity class, uint8, 0 where there is none."""
    statistics: Statistics


def compute_block(pair: Pair, box: Box, index: str, masked: bool) -> Block:
    """Compute a block.

    Args:
        pair: the scenes.
        box: the block's pixels of the map.
        index: the name of an index in `bai.INDICES`.
        masked: whether saturated pixels are left out; masks are those of ``pair``.

    Raises:
        InputError: a file cannot be read; the message names it.
    """
    memory.keep_freed()
    values = np.empty(box.shape, dtype=np.float32)
    classes = np.empty(box.shape, dtype=np.uint8)
    grid = pair.grid.window(box)
    statistics = Statistics(pair.grid.pixel_area)
    outside = None
    if pair.outline is not None:
        outside = geometry_mask([pair.outline], box.shape, grid.transform)
    beside = outside is not None and outside.all()
    events = read_pieces(((), ()) if beside else (pair.pre, pair.post), box)
    function = INDICES[index].function
    for top in range(0, box.shape[0], STRIP):
        strip = Box(top, 0, min(top + STRIP, box.shape[0]), box.shape[1])
        rows = slice(strip.top, strip.bottom)
        ratios = []
        for event, pieces in zip(EVENTS, events, strict=True):
            ratio, codes = burn_ratio(pieces, strip, masked)
            if outside is not None:
                ratio[outside[rows]] = np.nan
                codes = codes[~outside[rows]]
            statistics.add_reasons(event, codes)
            ratios.append(ratio)
        before, after = ratios
        change = rounded(dnbr(before, after)).astype(np.float32)
        classes[rows] = classify(change)
        values[rows] = change if index == "dnbr" else rounded(function(before, after))
        inside = slice(None) if outside is None else ~outside[rows]
        statistics.add(values[rows][inside], classes[rows][inside])
    return Block(box, pyramid(values), pyramid(classes), statistics)


def burn_ratio(pieces: Sequence[Piece], strip: Box, masked: bool) -> tuple[np.ndarray, np.ndarray]:
    """NBR of one event on a strip of a block, and why pixels have none.

    Args:
        pieces: what the scenes have of the block; the first that has a value counts.
        strip: pixels of the block.
        masked: whether saturated pixels are left out.

    Returns:
        NBR, float64, NaN where there is none; codes of `mask.REASONS`, uint8.
    """
    ratio = np.full(strip.shape, np.nan)
    codes = np.full(strip.shape, mask.NO_DATA, np.uint8)
    for piece in pieces:
        top, bottom = max(strip.top, piece.box.top), min(strip.bottom, piece.box.bottom)
        if top >= bottom:
            continue
        own = slice(top - piece.box.top, bottom - piece.box.top)
        of_strip = (
            slice(top - strip.top, bottom - strip.top),
            slice(piece.box.left, piece.box.right),
        )
        values, reasons = _of_piece(piece, own, masked)
        if piece is pieces[0] and values.shape == strip.shape:
            ratio, codes = values, reasons
            continue
        better = (codes[of_strip] != mask.KEPT) & (
            (reasons == mask.KEPT) | (codes[of_strip] == mask.NO_DATA)
        )
        np.copyto(ratio[of_strip], values, where=better)
        np.copyto(codes[of_strip], reasons, where=better)
    return ratio, codes


def _of_piece(piece: Piece, rows: slice, masked: bool) -> tuple[np.ndarray, np.ndarray]:
    """NBR of some rows of a scene, and why pixels have none."""
    nir, swir2 = piece.nir[rows], piece.swir2[rows]
    codes = np.zeros(nir.shape, np.uint8) if piece.codes is None else piece.codes[rows].copy()
    for counts, raster in ((nir, piece.source.nir), (swir2, piece.source.swir2)):
        if masked and raster.band.saturated is not None:
            over = counts >= raster.band.saturated
            if over.any():
                mask.merge(codes, over.view(np.uint8) * np.uint8(mask.SATURATED))
        missing = _missing(counts, raster)
        if missing is not None:
            codes[missing] = mask.NO_DATA
    ratio = nbr(
        _reflectance(nir, piece.source.nir), _reflectance(swir2, piece.source.swir2), overwrite=True
    )
    ratio[codes != mask.KEPT] = np.nan
    return ratio, codes


def _missing(counts: np.ndarray, raster: Raster) -> np.ndarray | None:
    """Where there is no measurement; None: everywhere is one."""
    # A warped raster has gaps even where it knows no nodata value; `read` fills them with 0.
    nodata = 0 if raster.nodata is None and raster.warp else raster.nodata
    if nodata is None or np.isnan(nodata):
        return np.isnan(counts) if counts.dtype.kind == "f" else None
    return counts == nodata


def _reflectance(counts: np.ndarray, raster: Raster) -> np.ndarray:
    """Reflectance in float64.

    float32 would carry its rounding, through the small sum of two dark bands, into the sixth
    decimal of the index.
    """
    reflectance = np.multiply(counts, raster.band.scale, dtype=np.float64)
    reflectance += raster.band.offset
    return reflectance
