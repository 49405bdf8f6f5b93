"""What the map needs of one acquisition: which files, and what their numbers mean."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass


@dataclass(frozen=True)
class Band:
    """One raster file and what its numbers mean: ``reflectance = DN * scale + offset``."""

    href: str
    """Absolute path or URL, signed where the source wants that."""
    scale: float
    """Reflectance per count."""
    offset: float
    """Reflectance of the count 0."""
    nodata: float | None
    """Count that means "no measurement" where the raster itself does not say; None: none does."""
    saturated: float | None = None
    """Count from which on a pixel is saturated; None: not known."""


@dataclass(frozen=True)
class MaskAsset:
    """A raster that says which pixels do not show the ground; its numbers are `mask`'s to read."""

    href: str
    """Absolute path or URL, signed where the source wants that."""
    kind: str
    """``scl`` (Sentinel-2), ``qa_pixel`` or ``qa_radsat`` (Landsat Collection 2)."""


@dataclass(frozen=True)
class Scene:
    """One acquisition: what the map needs of a STAC item."""

    id: str
    """The item's id."""
    href: str
    """Where the item was read from: a URL or an absolute path."""
    datetime: dt.datetime
    """Time of acquisition, UTC."""
    nir: Band
    """Near infrared: Sentinel-2 B08 (10 m), else B8A (20 m); Landsat band 5."""
    swir2: Band
    """Short-wave infrared at 2.2 micrometres: Sentinel-2 B12 (20 m); Landsat band 7."""
    masks: tuple[MaskAsset, ...] = ()
    """The masks beside the bands; empty where the item has none."""
