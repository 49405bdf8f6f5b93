"""The map block by block: each is one task on a worker, from the files to the values.

One task for all of it, because its steps pass on more than they take in: what goes through memory
between them is strips of a few kilobytes, and what goes to the client is the result. A worker needs
this package, in the client's version.
"""

from __future__ import annotations

import json
import math
import operator
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from distributed import Client, as_completed
from loguru import logger
from rasterio.features import geometry_mask
from rasterio.windows import Window

from bai_example.access import InputError
from bai_example.index import (
    DARK,
    INDICES,
    KEPT,
    NO_DATA,
    REASONS,
    SEVERITIES,
    classify,
    nbr,
    rounded,
)
from bai_example.pair import Counts, Pair
from bai_example.rasters import pack, part_of, pixel_area, unpacked, windows_of

#: Pixels along a side of a block, and of its parts for which the area of a pixel is computed.
BLOCK, CELL = 2048, 256
#: Rows computed at once. Arrays of 64 kB stay in the processor's cache, and in memory that malloc
#: has: those of 128 kB or more are mapped anew, each page cleared by the kernel, three times the
#: time of a block. (Dask's nanny sets MALLOC_TRIM_THRESHOLD_, which fixes that limit.)
STRIP = 4
#: Blocks under way at once: enough work in sight that an adaptive cluster grows, and at most
#: 16 x 20 MB of results that wait in the workers' memory.
UNDER_WAY = 16
#: Blocks between two lines of progress.
EVERY = 12


@dataclass
class Statistics:
    """The map or a part of it in numbers; pixels outside of the polygon of the map do not count.

    Where an event is an argument or an axis: 0 is before, 1 is after.
    """

    pixels: int = 0
    minimum: float = math.inf
    maximum: float = -math.inf
    total: float = 0.0  #: Sum of the index.
    squares: float = 0.0  #: Sum of its squares; in float64 it keeps all the digits that are shown.
    #: By severity class, the first of which is that of pixels without one: pixels, square metres.
    classes: np.ndarray = field(default_factory=lambda: np.zeros(len(SEVERITIES) + 1))
    square_metres: np.ndarray = field(default_factory=lambda: np.zeros(len(SEVERITIES) + 1))
    #: Pixels by event and code of `index.REASONS`.
    reasons: np.ndarray = field(default_factory=lambda: np.zeros((2, len(REASONS))))
    #: By event, pixels of scenes with a negative reflectance, and all that have data.
    negative: np.ndarray = field(default_factory=lambda: np.zeros((2, 2)))

    def add(self, values: np.ndarray) -> None:
        """Take some values of the index into account."""
        valid = values[~np.isnan(values)].astype(np.float64)
        self.minimum = float(valid.min(initial=self.minimum))
        self.maximum = float(valid.max(initial=self.maximum))
        self.total += float(valid.sum())
        self.squares += float(valid @ valid)

    def merge(self, other: Statistics) -> None:
        """Take another part into account."""
        for name, value in vars(self).items():
            combine = {"minimum": min, "maximum": max}.get(name, operator.add)
            setattr(self, name, combine(value, getattr(other, name)))

    @property
    def valid(self) -> int:
        """Pixels with a value."""
        return int(self.classes[1:].sum())

    @property
    def valid_percent(self) -> float:
        """Pixels with a value, in percent of all."""
        return 100 * self.valid / max(self.pixels, 1)

    @property
    def mean(self) -> float:
        """Mean of the index."""
        return self.total / max(self.valid, 1)

    @property
    def deviation(self) -> float:
        """Standard deviation of the population."""
        return math.sqrt(max(0.0, self.squares / max(self.valid, 1) - self.mean**2))

    @property
    def hectares(self) -> list[float]:
        """Area of each severity class, in the order of `index.SEVERITIES`."""
        return [float(area) / 1e4 for area in self.square_metres[1:]]

    def without_value(self, event: int) -> dict[str, int]:
        """How many pixels have no value, by reason."""
        return dict(zip(REASONS[1:], map(int, self.reasons[event][1:]), strict=True))

    def shares(self, event: int) -> str:
        """The same in percent of all pixels, to be read; empty where every pixel has a value."""
        counts = self.without_value(event).items()
        return ", ".join(f"{name} {100 * n / self.pixels:.1f} %" for name, n in counts if n)


class Block(NamedTuple):
    """A computed block."""

    window: Window  #: Which pixels of the map.
    values: Any  #: The index, float32, NaN where there is no value.
    classes: Any  #: The severity class, uint8, 0 where there is none.
    statistics: Statistics


def compute_blocks(
    pair: Pair, index: str, client: Client, progress: Path | None = None
) -> Iterator[Block]:
    """Compute a map, ``index`` of `index.INDICES`, on a cluster; give each block as it is done.

    How many are done is written into the file ``progress``, as JSON: ``done``, ``total``.
    """
    # From workers of this machine without the detour by the scheduler, which would copy every
    # block twice. Others may not be reachable: a gateway lets nobody but the scheduler through,
    # and so their blocks travel compressed.
    near = client.scheduler.address.startswith(("tcp://127.", "tls://127."))
    # The small ones at the edges last: they fill the time in which some workers would be idle.
    windows = sorted(windows_of(pair.grid.shape, BLOCK), key=lambda one: -one.height * one.width)
    waiting, begin, under_way = iter(windows), time.monotonic(), set()

    def submit(window: Window) -> Any:
        # Not pure: two runs on one scheduler must not share results.
        future = client.submit(compute_block, pair, index, window, not near, pure=False)
        under_way.add(future)
        return future

    done = as_completed([submit(window) for window in islice(waiting, UNDER_WAY)])
    try:
        for n, future in enumerate(done, 1):
            # One by one: blocks that come faster than they are written wait on the workers.
            block = _gathered(client, future, near)
            under_way.remove(future)
            del future  # the last reference: the worker forgets its result
            for window in islice(waiting, 1):
                done.add(submit(window))
            if not near:
                arrays = unpacked(block.values), unpacked(block.classes)
                block = Block(block.window, *arrays, block.statistics)
            yield block
            if progress is not None:
                part = progress.with_suffix(".part")
                part.write_text(json.dumps({"done": n, "total": len(windows)}))
                part.replace(progress)
            if n % EVERY == 0:
                took = time.monotonic() - begin
                logger.info("{} of {} blocks after {:.0f} s", n, len(windows), took)
    finally:
        # After an error, or where the caller stops early, nothing is left running.
        client.cancel(list(under_way), force=True)


def _gathered(client: Client, future: Any, direct: bool) -> Block:
    """The result of a task; what fails on a worker, as it is, but for packages that it lacks."""
    try:
        return client.gather(future, direct=direct)  # type: ignore[no-any-return]
    except (ImportError, RuntimeError) as error:
        if isinstance(missing := error.__cause__ or error, ImportError):
            need = "scheduler and workers need bai_example and what it imports"
            raise InputError(f"{need} ({missing})") from None
        raise


def compute_block(pair: Pair, index: str, window: Window, compress: bool = False) -> Block:
    """Compute a block; runs on a worker."""
    grid = part_of(pair.grid, window)
    outside = np.zeros(grid.shape, bool)
    if pair.outline is not None:
        outside = geometry_mask([pair.outline], grid.shape, grid.affine)
    events = [[], []] if outside.all() else pair.read(grid)
    statistics = Statistics(pixels=int(np.count_nonzero(~outside)))
    values, classes = np.empty(grid.shape, np.float32), np.empty(grid.shape, np.uint8)
    for top in range(0, grid.shape[0], STRIP):
        rows = slice(top, top + STRIP)
        pre, post = (burn_ratio(events[n], rows, outside[rows], statistics, n) for n in (0, 1))
        # Classes are of the rounded values, so that both files say the same.
        change = rounded(INDICES["dnbr"].function(pre, post))
        classes[rows] = classify(change)
        values[rows] = change if index == "dnbr" else rounded(INDICES[index].function(pre, post))
        statistics.add(values[rows])
    for cell in windows_of(grid.shape, CELL):
        counts = np.bincount(classes[cell.toslices()].ravel(), minlength=len(SEVERITIES) + 1)
        statistics.classes += counts
        statistics.square_metres += counts * pixel_area(part_of(grid, cell))
    arrays = (pack(values), pack(classes)) if compress else (values, classes)
    return Block(window, *arrays, statistics)


def burn_ratio(
    scenes: Sequence[Counts], rows: slice, outside: np.ndarray, statistics: Statistics, event: int
) -> np.ndarray:
    """NBR of one event on some rows of a block, float64, NaN where there is none.

    The first scene that has a value counts; none does ``outside``. Why pixels have none goes into
    ``statistics``.
    """
    ratio, codes = np.full(outside.shape, np.nan), np.full(outside.shape, NO_DATA, np.uint8)
    for n, (nir, swir, reasons, scene) in enumerate(scenes):
        # In float64: float32 would carry its rounding, through the small sum of two dark bands,
        # into the sixth decimal of the index.
        near = np.multiply(nir[rows], scene.nir.scale, dtype=np.float64)
        short = np.multiply(swir[rows], scene.swir.scale, dtype=np.float64)
        near += scene.nir.offset
        short += scene.swir.offset
        why = reasons[rows]
        there = why != NO_DATA
        negative = np.count_nonzero(there & ((near < 0) | (short < 0)))
        statistics.negative[event] += negative, np.count_nonzero(there)
        own = nbr(near, short)
        own[why != KEPT] = np.nan
        dark = np.isnan(own) & (why == KEPT)
        if dark.any():
            why = np.where(dark, np.uint8(DARK), why)
        if n == 0:
            ratio, codes = own, why.copy()
        else:
            better = (codes != KEPT) & ((why == KEPT) | (codes == NO_DATA))
            np.copyto(ratio, own, where=better)
            np.copyto(codes, why, where=better)
    ratio[outside], codes[outside] = np.nan, KEPT
    if codes.any():
        statistics.reasons[event] += np.bincount(codes.ravel(), minlength=len(REASONS))
    return ratio
