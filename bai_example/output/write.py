"""The map's blocks -> its files: two COGs and a picture."""

from __future__ import annotations

import importlib
import os
import tempfile
from collections.abc import Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from pathlib import Path
from types import ModuleType
from xml.etree import ElementTree

import numpy as np

from bai_example.bai import INDICES, SEVERITIES
from bai_example.block import Block
from bai_example.errors import InputError
from bai_example.output.cog import CogWriter, Description
from bai_example.output.item import FILES
from bai_example.pair import Pair
from bai_example.scene import Scene
from bai_example.stats import Statistics

#: The names of the severity classes, beside their map.
NAMES = f"{FILES.severity}.aux.xml"
#: All files of a result.
ALL = (*FILES, NAMES)


def write_maps(
    stage: Path,
    pair: Pair,
    index: str,
    blocks: Generator[Block, None, None],
    pre: Sequence[Scene],
    post: Sequence[Scene],
) -> Statistics:
    """Write the map, the severity classes and the picture.

    Args:
        stage: the folder to write into.
        pair: the scenes on the map's grid.
        index: the name of the map's index.
        blocks: the map's blocks; closed at the end, also after an error.
        pre: the scenes before the event, for the titles.
        post: the scenes after it.

    Returns:
        The statistics of the whole map.

    Raises:
        InputError: the map has no value at all.
    """
    statistics = Statistics(pair.grid.pixel_area)
    with ExitStack() as stack:
        stack.enter_context(closing(blocks))
        # Half a second of imports, which the workers' time hides.
        drawing = stack.enter_context(ThreadPoolExecutor(1)).submit(_quicklook)
        values = stack.enter_context(CogWriter(stage / FILES.map, pair.grid, "float32", np.nan))
        classes = stack.enter_context(CogWriter(stage / FILES.severity, pair.grid, "uint8", 0))
        for block in blocks:
            values.add(block.box.top, block.box.left, block.index)
            classes.add(block.box.top, block.box.left, block.severity)
            statistics.merge(block.statistics)
        if not statistics.valid:
            raise InputError(_empty(statistics))
        tags = {
            "PRE_EVENT": ", ".join(scene.id for scene in pre),
            "POST_EVENT": ", ".join(scene.id for scene in post),
        }
        values.finish(_of_values(index, statistics, tags))
        classes.finish(_of_classes(tags))
        _write_names(stage / NAMES)
    picture = stage / FILES.quicklook
    drawing.result().draw(stage / FILES.severity, picture, INDICES[index], statistics, pre, post)
    return statistics


def _of_values(index: str, statistics: Statistics, tags: dict[str, str]) -> Description:
    # The statistics are under the names of GDAL's own, so that a viewer need not read the map to
    # stretch it.
    return Description(
        tags={**tags, "TIFFTAG_IMAGEDESCRIPTION": INDICES[index].description},
        band=INDICES[index].title,
        band_tags={
            "STATISTICS_MINIMUM": f"{statistics.minimum:.9g}",
            "STATISTICS_MAXIMUM": f"{statistics.maximum:.9g}",
            "STATISTICS_MEAN": f"{statistics.mean:.9g}",
            "STATISTICS_STDDEV": f"{statistics.deviation:.9g}",
            "STATISTICS_VALID_PERCENT": f"{statistics.valid_percent:.4g}",
        },
    )


def _of_classes(tags: dict[str, str]) -> Description:
    colors = {0: (0, 0, 0, 0)}
    for code, severity in enumerate(SEVERITIES, 1):
        red, green, blue = bytes.fromhex(severity.color.removeprefix("#"))
        colors[code] = (red, green, blue, 255)
    return Description(
        tags={**tags, "TIFFTAG_IMAGEDESCRIPTION": "Burn severity classes of dNBR"},
        band="Burn severity",
        band_tags={f"CLASS_{code}": one.name for code, one in enumerate(SEVERITIES, 1)},
        colors=colors,
    )


def _write_names(path: Path) -> None:
    """The classes' names where GDAL looks for them, for a GeoTIFF has no place of its own."""
    root = ElementTree.Element("PAMDataset")
    names = ElementTree.SubElement(
        ElementTree.SubElement(root, "PAMRasterBand", band="1"), "CategoryNames"
    )
    for name in ("No data", *(severity.name for severity in SEVERITIES)):
        ElementTree.SubElement(names, "Category").text = name
    ElementTree.indent(root)
    ElementTree.ElementTree(root).write(path, encoding="unicode")


def _empty(statistics: Statistics) -> str:
    """Why the map has no value, as far as the masks tell."""
    reasons = [
        f"{event.replace('_', '-')}: "
        + ", ".join(f"{100 * n / max(statistics.pixels, 1):.0f} % {name}" for name, n in found)
        for event, counts in statistics.masked.items()
        if (found := [(name, n) for name, n in counts.items() if n])
    ]
    return "the map is empty: no pixel has a value in both events" + (
        f" ({'; '.join(reasons)}); choose other scenes, or go without masks (--no-mask)"
        if reasons
        else ""
    )


def _quicklook() -> ModuleType:
    """The module that draws, with a matplotlib that leaves nothing in HOME.

    It keeps its list of fonts there. HOME may be read-only, or be the output folder, as in CWL;
    and making the list anew takes a tenth of a second.
    """
    name = "MPLCONFIGDIR"
    if name in os.environ:
        return importlib.import_module("bai_example.output.quicklook")
    with tempfile.TemporaryDirectory() as folder:
        os.environ[name] = folder
        try:
            return importlib.import_module("bai_example.output.quicklook")
        finally:
            del os.environ[name]
