"""The map block by block: each is one task on a worker, from the files to compressed tiles.

One task for all of it, because its steps pass on more than they take in: what goes through memory
between them is strips of a few hundred kilobytes, and what goes to the client is compressed. The
function travels by value, and what it gives are plain arrays and bytes: a worker needs rasterio,
rioxarray and shapely, and nothing of this package.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import islice, product
from operator import methodcaller
from typing import TYPE_CHECKING, Any, NamedTuple

import cloudpickle
import numpy as np
from loguru import logger
from rasterio.features import geometry_mask
from rasterio.windows import Window
from toolz import compose

import bai_example
from bai_example.access import InputError, Unavailable
from bai_example.cog import BLOCK, Encoded, encode
from bai_example.index import (
    INDICES,
    KEPT,
    NO_DATA,
    REASONS,
    classify,
    nbr,
)  # fmt: skip
from bai_example.pair import Counts, Pair
from bai_example.statistics import Statistics

if TYPE_CHECKING:
    from distributed import Client

#: Rows computed at once: the arrays of a strip of a block stay in the processor's cache.
STRIP = 32
#: Indices are rounded to multiples of this, 9.5e-7: far below what a sensor tells apart (the noise
#: of dNBR is about 0.01), and a quarter less to compress and to store.
STEP = 2.0**-20
#: Blocks under way at once: enough work in sight that an adaptive cluster grows, and at most
#: 32 x 16 MB of results that wait in the workers' memory.
UNDER_WAY = 32
#: Seconds between two lines of progress.
EVERY = 5.0


class Block(NamedTuple):
    """A computed block."""

    window: Window  #: Which pixels of the map.
    #: The index, float32, NaN where there is no value; the severity class, uint8, 0 where none.
    encoded: tuple[Encoded, Encoded]
    statistics: Statistics


def windows(shape: tuple[int, int]) -> list[Window]:
    """The blocks of a map of so many rows and columns.

    The largest first: so the small ones at the edges fill the time in which some workers would
    have nothing left to do.
    """
    found = [
        Window(left, top, min(BLOCK, shape[1] - left), min(BLOCK, shape[0] - top))
        for top, left in product(range(0, shape[0], BLOCK), range(0, shape[1], BLOCK))
    ]
    return sorted(found, key=lambda one: -one.height * one.width)


def compute_blocks(pair: Pair, index: str, masked: bool, client: Client) -> Iterator[Block]:
    """Compute a map on the client's cluster.

    Args:
        pair: the scenes.
        index: the name of an index in `index.INDICES`.
        masked: whether saturated pixels are left out; masks are those of ``pair``.
        client: a connected, synchronous client.

    Yields:
        Every block once, in the order in which they are done.

    Raises:
        InputError: a worker could not read an input; what else fails on a worker, as it is.
    """
    from distributed import as_completed

    # From workers of this machine without the detour by the scheduler, which would copy every
    # block twice. Others may not be reachable: a gateway lets nobody but the scheduler through.
    near = client.scheduler.address.startswith(("tcp://127.", "tls://127."))
    compute = pickled_by_value(functools.partial(compute_block, pair, index, masked))
    blocks = windows(pair.grid.shape)
    waiting, begin = iter(blocks), time.monotonic()
    told, under_way = begin, {}

    def submit(window: Window) -> Any:
        call = compose(methodcaller("__call__", window), cloudpickle.loads)
        # Not pure: two runs on one scheduler must not share results.
        future = client.submit(call, compute, pure=False)
        under_way[future.key] = future
        return future

    try:
        done = as_completed([submit(window) for window in islice(waiting, UNDER_WAY)])
        for n, future in enumerate(done, 1):
            # One by one: blocks that come faster than they are written wait on the workers.
            result = client.gather(future, direct=near)
            del under_way[future.key], future  # the last reference: the worker forgets it
            for window in islice(waiting, 1):
                done.add(submit(window))
            if isinstance(result, dict):
                raise (Unavailable if result["temporary"] else InputError)(*result["problems"])
            window, encoded, gathered = result
            yield Block(window, encoded, Statistics(**gathered))
            if time.monotonic() > told + EVERY:
                told = time.monotonic()
                logger.info("{} of {} blocks after {:.0f} s", n, len(blocks), told - begin)
    finally:
        # After an error, or where the caller stops early, nothing is left running.
        client.cancel(list(under_way.values()), force=True)


def pickled_by_value(function: Callable[..., Any]) -> bytes:
    """A function of this package for workers that do not have it.

    As bytes, which only the worker that runs it unpickles: Dask's scheduler unpickles functions,
    too, and may live in this process.
    """
    cloudpickle.register_pickle_by_value(bai_example)
    try:
        return bytes(cloudpickle.dumps(function))
    finally:
        cloudpickle.unregister_pickle_by_value(bai_example)


def compute_block(pair: Pair, index: str, masked: bool, window: Window) -> Any:
    """Compute a block; runs on a worker.

    Returns:
        (window, (index, severity), fields of its `Statistics`), or, where a file cannot be read,
        {"problems", "temporary"}: for an exception of this package's own would not be known to
        whoever passes it on.
    """
    keep_freed_memory()
    grid = pair.grid.part(window)
    outside = np.zeros(grid.shape, bool)
    if pair.outline is not None:
        outside = geometry_mask([pair.outline], grid.shape, grid.transform)
    try:
        events = [[], []] if outside.all() else pair.read(grid, masked)
    except InputError as error:
        return {"problems": error.problems, "temporary": isinstance(error, Unavailable)}
    statistics = Statistics(pixels=int(np.count_nonzero(~outside)))
    areas = np.multiply(*grid.metres())
    values, classes = np.empty(grid.shape, np.float32), np.empty(grid.shape, np.uint8)
    for top in range(0, window.height, STRIP):
        rows = slice(top, top + STRIP)
        ratios = []
        for event, scenes in enumerate(events):
            ratio, codes = burn_ratio(scenes, rows, outside)
            if codes.any():
                statistics.reasons[event] += np.bincount(codes.ravel(), None, len(REASONS))
            ratios.append(ratio)
        # Classes are of the rounded values, so that both files say the same.
        change = rounded(INDICES["dnbr"].function(*ratios))
        classes[rows] = classify(change)
        values[rows] = change if index == "dnbr" else rounded(INDICES[index].function(*ratios))
        statistics.add(values[rows], classes[rows], areas[rows])
    return window, (encode(values), encode(classes)), vars(statistics)


def burn_ratio(
    scenes: Sequence[Counts], rows: slice, outside: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """NBR of one event on some rows of a block, and why pixels have none.

    Args:
        scenes: what the scenes have of the block; the first that has a value counts.
        rows: rows of the block.
        outside: which pixels of the block are not wanted; they have neither.

    Returns:
        NBR, float64, NaN where there is none; codes of `index.REASONS`, uint8.
    """
    shape = outside[rows].shape
    ratio, codes = np.full(shape, np.nan), np.full(shape, NO_DATA, np.uint8)
    for nir, swir, why, scene in scenes:
        better = (codes != KEPT) & ((why[rows] == KEPT) | (codes == NO_DATA))
        # In float64: float32 would carry its rounding, through the small sum of two dark bands,
        # into the sixth decimal of the index.
        reflectances = (
            np.multiply(counts[rows], band.scale, dtype=np.float64) + band.offset
            for counts, band in ((nir, scene.nir), (swir, scene.swir))
        )
        np.copyto(ratio, nbr(*reflectances), where=better)
        np.copyto(codes, why[rows], where=better)
    codes[outside[rows]], ratio[outside[rows]] = KEPT, np.nan
    ratio[codes != KEPT] = np.nan
    return ratio, codes


def rounded(values: np.ndarray) -> np.ndarray:
    """Values as float32, rounded to multiples of `STEP`."""
    return (np.rint(values * (1 / STEP)) * STEP).astype(np.float32)


def keep_freed_memory() -> None:
    """Have glibc keep what is freed for the next array, as far as 256 MB.

    Dask's nanny sets ``MALLOC_TRIM_THRESHOLD_`` for its workers. A side effect: glibc no longer
    adapts its other threshold, above which each array is mapped from the system and unmapped
    again, and every strip is made of pages that the kernel clears first: twice the time of a block.
    """
    trim_threshold, mmap_threshold = -1, -3  # of malloc.h
    with contextlib.suppress(OSError, AttributeError):  # another C library
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(mmap_threshold, 32 * 2**20)
        mallopt(trim_threshold, 256 * 2**20)
