"""STAC items -> `Scene`: which files hold NIR, SWIR2 and masks, and what their numbers mean.

Understood are the items of Earth Search v0 and v1, Planetary Computer, Copernicus Data Space,
stactools and, by their ``common_name``, others; STAC 1.0.0-beta.1 to 1.1.
"""

from __future__ import annotations

import datetime as dt
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import pystac

from bai_example import source
from bai_example.assets import NIR, SWIR2, Wanted, band_asset, mask_assets
from bai_example.calibrate import calibrate
from bai_example.errors import InputError


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


#: Makes a URL that may be read out of one that may not; what needs no signature stays as it is.
Signer = Callable[[str], str]


def unsigned(href: str) -> str:
    """The signer for what needs none."""
    return href


def read_scene(location: str, sign: Signer = unsigned) -> Scene:
    """Read the STAC item at a URL or path.

    Args:
        location: URL or path.
        sign: see `to_scene`.

    Raises:
        InputError: it cannot be read, is no STAC item, or lacks a band or its calibration.
    """
    location = location if source.is_remote(location) else str(source.local_path(location))
    return to_scene(source.read_json(location), location, sign)


def to_scene(document: Mapping[str, Any], location: str, sign: Signer = unsigned) -> Scene:
    """Turn a STAC item's JSON into a `Scene`.

    Args:
        document: the JSON object.
        location: where it was read from; relative hrefs are resolved against it.
        sign: is given each raster's absolute path or URL and returns what to open instead.

    Raises:
        InputError: it is no STAC item, or lacks a band or its calibration.
    """
    item = _parse(document, location)
    when = item.datetime or item.common_metadata.start_datetime
    if when is None:
        raise InputError(f"{source.public(location)}: the item has no datetime")
    bands: list[Band] = []
    problems: list[str] = []
    for wanted in (NIR, SWIR2):
        try:
            bands.append(_band(item, wanted, location, sign))
        except InputError as error:
            problems += error.problems
    if problems:
        raise InputError(*problems)
    return Scene(
        id=item.id,
        href=location,
        # STAC's times are UTC; one that does not say so is taken as such.
        datetime=when if when.tzinfo else when.replace(tzinfo=dt.timezone.utc),
        nir=bands[0],
        swir2=bands[1],
        masks=_masks(item, location, sign),
    )


def _parse(document: Mapping[str, Any], location: str) -> pystac.Item:
    kind = document.get("type")
    if kind != "Feature" or "stac_version" not in document:
        what = "a FeatureCollection" if kind == "FeatureCollection" else f"type {kind!r}"
        raise InputError(f"{source.public(location)}: not a STAC item ({what})")
    try:
        with warnings.catch_warnings():
            # pystac warns about old versions and deprecated extensions; both are expected here.
            warnings.simplefilter("ignore")
            item = pystac.Item.from_dict(dict(document))
    except Exception as error:  # pystac lets KeyError, TypeError, … of malformed items through
        raise InputError(
            f"{source.public(location)}: not a STAC item ({type(error).__name__}: {error})"
        ) from error
    return item


def _band(item: pystac.Item, wanted: Wanted, location: str, sign: Signer) -> Band:
    key = band_asset(item, wanted)
    calibration = calibrate(item, key)
    return Band(sign(source.resolve(item.assets[key].href, location)), *calibration)


def _masks(item: pystac.Item, location: str, sign: Signer) -> tuple[MaskAsset, ...]:
    return tuple(
        MaskAsset(sign(source.resolve(item.assets[key].href, location)), kind)
        for kind, key in mask_assets(item).items()
    )
