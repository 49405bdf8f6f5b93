"""Both events' scenes, placed on the map's grid: what the workers are told."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from bai_example.grid import Box, Grid, Placement
from bai_example.scene import Band


@dataclass(frozen=True)
class Raster:
    """One file, placed on the map's grid."""

    band: Band = field(repr=False)
    """The file and what its numbers mean. Not shown, for Dask logs the arguments of a task that
    fails, and the URL may be signed."""
    nodata: float | None
    """The count that means "no measurement": the raster's own, else the item's."""
    placement: Placement
    """The pixels of the map that it covers, and how many of them each of its pixels does."""
    warp: Grid | None = None
    """The grid that it is brought onto as it is read; None: its own fits."""


@dataclass(frozen=True)
class Source:
    """One scene, placed on the map's grid."""

    nir: Raster
    swir2: Raster
    masks: tuple[tuple[str, Raster], ...]
    """What tells clouds and the like: kind of coding and raster."""
    box: Box
    """The pixels of the map that have both bands."""


@dataclass(frozen=True)
class Pair:
    """Both events' scenes on one grid: all that a worker needs to compute a part of the map."""

    grid: Grid
    """The map's grid."""
    pre: tuple[Source, ...]
    """Scenes before the event. Where several cover a pixel, the first that has a value counts."""
    post: tuple[Source, ...]
    """Scenes after it, likewise."""
    outline: Mapping[str, Any] | None = None
    """GeoJSON polygon in the map's CRS, outside of which there is no value."""
