"""The map's blocks -> ``bai.tif``, ``bai.json`` and ``bai.png``: all three or none."""

from __future__ import annotations

import importlib
import os
import tempfile
from collections.abc import Generator, Iterator
from contextlib import closing
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import numpy as np

from bai_example import item
from bai_example.blocks import Block
from bai_example.cog import staging, write_cog
from bai_example.errors import InputError
from bai_example.grid import Grid
from bai_example.stac import Scene
from bai_example.stats import Statistics


class Result(NamedTuple):
    """What was written."""

    map: Path
    """``bai.tif``: dNBR, a COG, float32, NaN where there is no value."""
    item: Path
    """``bai.json``: the STAC item, with the statistics."""
    quicklook: Path
    """``bai.png``: the map by severity class, to look at."""
    statistics: Statistics
    """The statistics of the map."""


def prepare(folder: Path) -> None:
    """Make the output folder and see that it can be written to.

    Raises:
        InputError: it cannot.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with staging(folder):
            pass
    except OSError as error:
        raise InputError(f"{folder}: cannot be written to ({error.strerror})") from None


def write_result(
    folder: Path, grid: Grid, blocks: Generator[Block, None, None], pre: Scene, post: Scene
) -> Result:
    """Write the three files, replacing older ones.

    Args:
        folder: an existing folder.
        grid: the map's grid.
        blocks: the map's blocks; closed at the end, also after an error.
        pre: the scene before the event.
        post: the scene after it.

    Raises:
        InputError: the map has no value at all. As with any error, no file is left or replaced.
    """
    width, height = grid.resolution
    metres = grid.crs.linear_units_factor[1]
    statistics = Statistics(pixel_area=width * height * metres**2)
    band_tags = {"DESCRIPTION": "dNBR"}

    def parts() -> Iterator[tuple[int, int, np.ndarray]]:
        for block in blocks:
            statistics.add(block.values)
            yield block.row, block.column, block.values
        if not statistics.valid:
            raise InputError("the map is empty: no pixel has a value in all four bands")
        # Under the names GDAL keeps them, so that a viewer need not read the map to stretch it.
        band_tags.update(
            STATISTICS_MINIMUM=f"{statistics.minimum:.9g}",
            STATISTICS_MAXIMUM=f"{statistics.maximum:.9g}",
            STATISTICS_MEAN=f"{statistics.mean:.9g}",
            STATISTICS_STDDEV=f"{statistics.deviation:.9g}",
            STATISTICS_VALID_PERCENT=f"{statistics.valid_percent:.4g}",
        )

    tags = {"PRE_EVENT": pre.id, "POST_EVENT": post.id, "TIFFTAG_IMAGEDESCRIPTION": item.TITLE}
    with closing(blocks), staging(folder) as stage:
        files = Result(stage / "bai.tif", stage / "bai.json", stage / "bai.png", statistics)
        # Overviews show the mean of what they stand for; pixels without a value do not count.
        write_cog(files.map, grid, "float32", np.nan, parts(), "AVERAGE", tags, band_tags)
        _quicklook().draw(files.map, files.quicklook, statistics, pre, post)
        item.write(files.item, grid, statistics, pre, post, folder)
    return Result(folder / "bai.tif", folder / "bai.json", folder / "bai.png", statistics)


def _quicklook() -> ModuleType:
    """The module that draws, with a matplotlib that leaves nothing in HOME.

    It keeps its list of fonts there. HOME may be read-only, or be the output folder, as in CWL;
    and making the list anew takes a tenth of a second.
    """
    name = "MPLCONFIGDIR"
    if name in os.environ:
        return importlib.import_module("bai_example.quicklook")
    with tempfile.TemporaryDirectory() as folder:
        os.environ[name] = folder
        try:
            return importlib.import_module("bai_example.quicklook")
        finally:
            del os.environ[name]
