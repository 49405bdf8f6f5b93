"""STAC items -> `Scene`: which files hold NIR, SWIR2 and masks, and what their numbers mean.

Understood are the items of Earth Search v0 and v1, Planetary Computer, Copernicus Data Space,
stactools and, by their ``common_name``, others; STAC 1.0.0-beta.1 to 1.1.
"""

from __future__ import annotations

import datetime as dt
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import pystac

from bai_example import source
from bai_example.assets import NIR, SWIR2, Wanted, band_asset, mask_assets
from bai_example.calibrate import calibrate
from bai_example.errors import InputError
from bai_example.scene import Band, MaskAsset, Scene

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
