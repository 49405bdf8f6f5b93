"""STAC items -> `Scene`: which files hold NIR and SWIR2, and what their numbers mean.

Understood are the items of Earth Search v0 and v1, Planetary Computer, Copernicus Data Space,
stactools and, by their ``common_name``, others; STAC 1.0.0-beta.1 to 1.1.
"""

from __future__ import annotations

import datetime as dt
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import pystac

from bai_example import source
from bai_example.calibrate import calibrate, entries, is_jpeg2000
from bai_example.errors import InputError


@dataclass(frozen=True)
class Band:
    """One raster file and what its numbers mean: ``reflectance = DN * scale + offset``."""

    href: str
    """Absolute path or URL, as GDAL opens it."""
    scale: float
    """Reflectance per count."""
    offset: float
    """Reflectance of the count 0."""
    nodata: float | None
    """Count that means "no measurement" where the raster itself does not say; None: none does."""


@dataclass(frozen=True)
class Scene:
    """One acquisition: what the map needs of a STAC item."""

    id: str
    """The item's id."""
    href: str
    """Where the item was read from: a URL or an absolute path."""
    datetime: dt.datetime
    """Time of acquisition, UTC."""
    platform: str | None
    """Satellite, as the item calls it."""
    tile: str | None
    """Tile or grid code, such as ``MGRS-10TFK``."""
    nir: Band
    """Near infrared: Sentinel-2 B08 (10 m), else B8A (20 m); Landsat band 5."""
    swir2: Band
    """Short-wave infrared at 2.2 micrometres: Sentinel-2 B12 (20 m); Landsat band 7."""


class Wanted(NamedTuple):
    """How to find a band among an item's assets."""

    label: str
    choices: tuple[tuple[tuple[str, ...], str], ...]
    """Best first: asset keys, and the ``common_name`` for assets with other keys."""


#: Keys: Planetary Computer and Earth Search v0, Earth Search v1 and stactools, Copernicus.
NIR = Wanted("NIR", ((("B08", "nir", "B08_10m"), "nir"), (("nir08", "B8A", "B8A_20m"), "nir08")))
SWIR2 = Wanted("SWIR2", ((("B12", "swir22", "B12_20m"), "swir22"),))

_TILE_IN_NAME = re.compile(r"_T(\d\d[A-Z]{3})(?=_|\.|$)")


def read_scene(location: str) -> Scene:
    """Read the STAC item at a URL or path.

    Raises:
        InputError: it cannot be read, is no STAC item, or lacks a band or its calibration.
    """
    location = location if source.is_remote(location) else str(source.local_path(location))
    return to_scene(source.read_json(location), location)


def read_pair(pre: str, post: str) -> tuple[Scene, Scene]:
    """Read the pre-event and the post-event item.

    Raises:
        InputError: with the problems of both.
    """
    scenes: list[Scene] = []
    problems: list[str] = []
    for event, location in (("pre-event", pre), ("post-event", post)):
        try:
            scenes.append(read_scene(location))
        except InputError as error:
            problems += [f"{event} item: {problem}" for problem in error.problems]
    if problems:
        raise InputError(*problems)
    return scenes[0], scenes[1]


def to_scene(document: Mapping[str, Any], location: str) -> Scene:
    """Turn a STAC item's JSON into a `Scene`.

    Args:
        document: the JSON object.
        location: where it was read from; relative hrefs are resolved against it.

    Raises:
        InputError: it is no STAC item, or lacks a band or its calibration.
    """
    item = _parse(document, location)
    when = item.datetime or item.common_metadata.start_datetime
    if when is None:
        raise InputError(f"{location}: the item has no datetime")
    bands: list[Band] = []
    problems: list[str] = []
    for wanted in (NIR, SWIR2):
        try:
            bands.append(_band(item, wanted, location))
        except InputError as error:
            problems += error.problems
    if problems:
        raise InputError(*problems)
    return Scene(
        id=item.id,
        href=location,
        # STAC's times are UTC; one that does not say so is taken as such.
        datetime=when if when.tzinfo else when.replace(tzinfo=dt.timezone.utc),
        platform=item.properties.get("platform"),
        tile=_tile(item),
        nir=bands[0],
        swir2=bands[1],
    )


def _parse(document: Mapping[str, Any], location: str) -> pystac.Item:
    kind = document.get("type")
    if kind != "Feature" or "stac_version" not in document:
        what = "a FeatureCollection" if kind == "FeatureCollection" else f"type {kind!r}"
        raise InputError(f"{location}: not a STAC item ({what})")
    try:
        with warnings.catch_warnings():
            # pystac warns about old versions and deprecated extensions; both are expected here.
            warnings.simplefilter("ignore")
            item = pystac.Item.from_dict(dict(document))
    except Exception as error:  # pystac lets KeyError, TypeError, … of malformed items through
        raise InputError(
            f"{location}: not a STAC item ({type(error).__name__}: {error})"
        ) from error
    return item


def _band(item: pystac.Item, wanted: Wanted, location: str) -> Band:
    key = _choose(item, wanted)
    return Band(source.resolve(item.assets[key].href, location), *calibrate(item, key))


def _choose(item: pystac.Item, wanted: Wanted) -> str:
    """The key of the best asset for a band.

    The band itself comes first (NIR at 10 m before narrow NIR), then COG before JPEG 2000, then a
    known key before an asset found by its ``common_name``, then the finer of two resolutions
    (stactools lists the same band at 10, 20 and 60 m).
    """
    ranked: list[tuple[int, bool, int, float, str]] = []
    for key, asset in item.assets.items():
        fields = asset.to_dict()
        for rank, (keys, common_name) in enumerate(wanted.choices):
            known = keys.index(key) if key in keys else len(keys)
            if known < len(keys) or common_name in _common_names(fields):
                ranked.append((rank, is_jpeg2000(fields), known, _resolution(fields), key))
                break
    if not ranked:
        known_keys = ", ".join(key for keys, _ in wanted.choices for key in keys)
        raise InputError(
            f"{item.id}: no {wanted.label} band; looked for the assets {known_keys} and the "
            f"common names {', '.join(name for _, name in wanted.choices)}, "
            f"but the item has {', '.join(sorted(item.assets)) or 'no assets'}"
        )
    return min(ranked)[-1]


def _common_names(asset: Mapping[str, Any]) -> set[str]:
    bands = entries(asset, "eo:bands") or entries(asset, "bands")
    # An asset of several bands (a true-colour image) is not the file of one of them.
    if len(bands) != 1:
        return set()
    return {str(bands[0].get(name)) for name in ("common_name", "eo:common_name")}


def _resolution(asset: Mapping[str, Any]) -> float:
    """Metres per pixel as far as the asset says, else infinity."""
    declared = [b.get("spatial_resolution") for b in entries(asset, "raster:bands")[:1]]
    for value in (*declared, asset.get("raster:spatial_resolution"), asset.get("gsd")):
        if isinstance(value, (int, float)):
            return float(value)
    return float("inf")


def _tile(item: pystac.Item) -> str | None:
    said = item.properties
    if code := said.get("grid:code"):
        return str(code)
    if tile := said.get("s2:mgrs_tile"):
        return f"MGRS-{tile}"
    for name in (said.get("s2:product_uri"), said.get("sentinel:product_id"), item.id):
        if found := _TILE_IN_NAME.search(str(name)):
            return f"MGRS-{found[1]}"
    return None
