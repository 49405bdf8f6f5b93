"""The map's blocks -> its files: two COGs, the names of the classes, and a picture."""

from __future__ import annotations

import importlib
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np

from bai_example.access import InputError
from bai_example.blocks import Block
from bai_example.cog import Cog, Encoded, write_cogs
from bai_example.grid import Grid
from bai_example.index import INDICES, SEVERITIES
from bai_example.scenes import Scene
from bai_example.statistics import Statistics

#: Names of the files, all in one folder; NAMES are those of the classes, where GDAL looks for them.
MAP, SEVERITY, QUICKLOOK = "bai.tif", "bai-severity.tif", "bai.png"
NAMES = f"{SEVERITY}.aux.xml"


def write_maps(
    stage: Path,
    grid: Grid,
    index: str,
    blocks: Iterable[Block],
    pre: Sequence[Scene],
    post: Sequence[Scene],
) -> Statistics:
    """Write the map, the severity classes and the picture.

    Args:
        stage: the folder to write into.
        grid: the map's grid.
        index: the name of the map's index.
        blocks: the map's blocks.
        pre: the scenes before the event, for the titles.
        post: the scenes after it.

    Returns:
        The statistics of the whole map.

    Raises:
        InputError: the map has no value at all.
    """
    shown, statistics = INDICES[index], Statistics()

    def describe(file: Any, name: str, description: str) -> None:
        pair = {"PRE_EVENT": pre, "POST_EVENT": post}
        file.update_tags(**{key: ", ".join(s.id for s in scenes) for key, scenes in pair.items()})
        file.update_tags(TIFFTAG_IMAGEDESCRIPTION=description)
        file.set_band_description(1, name)

    def describe_values(file: Any) -> None:
        describe(file, shown.title, shown.description)
        # Under GDAL's own names, so that a viewer need not read the map to stretch it.
        file.update_tags(
            1, STATISTICS_MINIMUM=f"{statistics.minimum:.9g}",
            STATISTICS_MAXIMUM=f"{statistics.maximum:.9g}",
            STATISTICS_MEAN=f"{statistics.mean:.9g}",
            STATISTICS_STDDEV=f"{statistics.deviation:.9g}",
            STATISTICS_VALID_PERCENT=f"{statistics.valid_percent:.4g}",
        )  # fmt: skip

    def describe_classes(file: Any) -> None:
        describe(file, "Burn severity", "Burn severity classes of dNBR")
        file.update_tags(1, **{f"CLASS_{n}": one.name for n, one in enumerate(SEVERITIES, 1)})
        colors = enumerate([(0, 0, 0, 0), *(severity.rgba for severity in SEVERITIES)])
        file.write_colormap(1, dict(colors))

    def encoded() -> Iterator[tuple[int, int, Sequence[Encoded]]]:
        for block in blocks:
            statistics.merge(block.statistics)
            yield block.window.row_off, block.window.col_off, block.encoded
        if not statistics.valid:
            shares = (f"{event}: {share}" for event, share in statistics.shares().items() if share)
            raise InputError(
                "the map is empty: no pixel has a value in both events "
                f"({'; '.join(shares) or 'all are dark'}); choose other scenes, or use --no-mask"
            )

    values = {**grid.profile, "dtype": "float32", "nodata": np.nan}
    classes = {**grid.profile, "dtype": "uint8", "nodata": 0}
    files = [
        Cog(stage / MAP, values, describe_values),
        Cog(stage / SEVERITY, classes, describe_classes),
    ]
    with ThreadPoolExecutor(1) as pool:
        draw = pool.submit(_draw)  # half a second of imports, which the workers' time hides
        write_cogs(encoded(), files)
    _write_names(stage / NAMES)
    draw.result()(stage / SEVERITY, stage / QUICKLOOK, shown, statistics, pre, post)
    return statistics


def _write_names(path: Path) -> None:
    """The classes' names, for a GeoTIFF has no place of its own."""
    root = ElementTree.Element("PAMDataset")
    band = ElementTree.SubElement(root, "PAMRasterBand", band="1")
    names = ElementTree.SubElement(band, "CategoryNames")
    for name in ("No data", *(severity.name for severity in SEVERITIES)):
        ElementTree.SubElement(names, "Category").text = name
    ElementTree.ElementTree(root).write(path, encoding="unicode")


def _draw() -> Callable[..., Any]:
    """The function that draws, with a matplotlib that leaves nothing in HOME.

    It keeps its list of fonts there. HOME may be read-only, or be the output folder, as in CWL.
    """
    with tempfile.TemporaryDirectory() as folder:
        given = os.environ.setdefault("MPLCONFIGDIR", folder)
        try:
            draw: Callable[..., Any] = importlib.import_module("bai_example.quicklook").draw
        finally:
            if given == folder:
                del os.environ["MPLCONFIGDIR"]
    return draw
