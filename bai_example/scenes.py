"""STAC items -> scenes: which files hold NIR, SWIR and masks, and what their numbers mean.

Understood are the items of Earth Search v0 and v1, Planetary Computer, USGS landsatlook (also
of 2020 and 2021), Copernicus Data Space and stactools.

``reflectance = count * scale + offset``, as the item declares them, but:

* Sentinel-2 L2A without a scale has 1e-4; without an offset -0.1 from processing baseline 04.00 on
  (BOA_ADD_OFFSET -1000: ESA has added 1000 to every count), else 0.
* Where ``…:boa_offset_applied`` is true, the catalogue has taken the 1000 off: the offset is 0,
  although Earth Search v1 declares -0.1 there, too. The flag does not speak of ESA's own JPEG 2000.
* Landsat Collection 2 Level-2 without them has 2.75e-5 and -0.2.
* Level-1 of either is no surface reflectance, and refused.

Saturated are Sentinel-2's counts from 32767 on (ESA's JPEG 2000 files have 15 bits), less the 1000
where they are taken off; Landsat's valid counts end at 65455.

Sources: ESA, "Sentinel-2 Products Specification Document"; STEP forum, topic 44294 (saturation);
cirrus-geo/cirrus-earth-search issue 21 (the flag); microsoft/PlanetaryComputer issue 134; USGS,
"Landsat 8-9 Collection 2 Level 2 Science Product Guide" (LSDS-1619).
"""

from __future__ import annotations

import datetime as dt
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pystac

from bai_example.access import InputError, Signer, reading, resolve, stac_io

#: Asset keys, best first: NIR of 10 m before narrow NIR of 20 m.
ASSETS = {
    "nir": ("B08", "nir", "B08_10m", "nir08", "B8A", "B8A_20m", "SR_B5.TIF"),
    "swir": ("B12", "swir22", "B12_20m", "SR_B7.TIF"),
    "scl": ("scl", "SCL", "SCL_20m", "scl-jp2"),
    "qa_pixel": ("qa_pixel", "QA_PIXEL", "QA_PIXEL.TIF"),
    "qa_radsat": ("qa_radsat", "QA_RADSAT", "QA_RADSAT.TIF"),
}
#: Bands and bits by their number in Landsat 8 and 9; earlier ones count in another way.
_OLI = {"SR_B5.TIF", *ASSETS["qa_radsat"]}
_SENTINEL2 = ("sentinel-2-l2a", "sentinel-s2-l2a", "sentinel-s2-l2a-cogs")


@dataclass(frozen=True)
class Band:
    """One raster file and what its numbers mean."""

    href: str = field(repr=False)  #: Absolute path or URL; signed, so it is not shown.
    scale: float  #: Reflectance per count.
    offset: float  #: Reflectance of the count 0.
    nodata: float | None  #: Count that means "no measurement", unless the raster says another.
    saturated: float | None = None  #: Count from which on a pixel is saturated; None: unknown.


@dataclass(frozen=True)
class Scene:
    """One acquisition: what the map needs of a STAC item."""

    id: str
    href: str  #: Where the item was read from: a URL or an absolute path.
    datetime: dt.datetime  #: Time of acquisition, UTC.
    nir: Band  #: Near infrared: Sentinel-2 B08 (10 m), else B8A (20 m); Landsat OLI band 5.
    swir: Band  #: Short-wave infrared, 2.2 µm: Sentinel-2 B12 (20 m); Landsat OLI band 7.
    masks: Mapping[str, str] = field(default_factory=dict, repr=False)
    """``scl`` (Sentinel-2), ``qa_pixel``, ``qa_radsat`` (Landsat Collection 2) -> href."""


def read_scene(location: str, sign: Signer = str, offset: float | None = None) -> Scene:
    """Read the STAC item at a URL or path; like `to_scene`."""
    location = resolve(location, str(Path.cwd() / "item.json"))
    with reading(location), stac_io() as transport:
        return to_scene(json.loads(transport.read_text(location)), location, sign, offset)


def to_scene(
    document: Mapping[str, Any], location: str, sign: Signer = str, offset: float | None = None
) -> Scene:
    """Turn a STAC item's JSON into a scene; refuse what lacks bands or calibration, or Level-1.

    Args:
        location: where it was read from; relative hrefs are resolved against it.
        sign: is given each raster's absolute path or URL and returns what to open instead.
        offset: reflectance of the count 0 of both bands, in place of the item's.
    """
    with reading(location):
        item = pystac.Item.from_dict(dict(document))
        names = f"{item.properties.get('platform')} {item.id}"
        oli = re.search("(?i)landsat.?[89]|LC0[89]_", names)
        assets = {key: one for key, one in item.assets.items() if oli or key not in _OLI}
        found = {
            name: next(assets[key] for key in keys if key in assets)
            for name, keys in ASSETS.items()
            if assets.keys() & {*keys}
        }
        if not {"nir", "swir"} <= found.keys():
            wanted = " and ".join(f"{name} ({', '.join(ASSETS[name])})" for name in ("nir", "swir"))
            has = ", ".join(sorted(item.assets)) or "none"
            raise InputError(f"{item.id}: needs the bands {wanted}, but its assets are {has}")
        hrefs = {name: sign(resolve(asset.href, location)) for name, asset in found.items()}
        nir, swir = (
            Band(hrefs.pop(name), *_calibration(item, found[name], offset))
            for name in ("nir", "swir")
        )
        when = utc(item.datetime or item.common_metadata.start_datetime)
        return Scene(str(item.id), location, when, nir, swir, masks=hrefs)


def utc(when: dt.datetime) -> dt.datetime:
    """A time in UTC; one that names no zone is taken as such, as STAC's are."""
    return when.replace(tzinfo=when.tzinfo or dt.timezone.utc).astimezone(dt.timezone.utc)


def _calibration(
    item: pystac.Item, asset: pystac.Asset, given: float | None
) -> tuple[float, float, float | None, float | None]:
    """Scale, offset, nodata and saturation of an asset, by the rule of this module."""
    properties, file = item.properties, asset.href.split("?")[0].rsplit("/", 1)[-1]
    keys = ("s2:product_type", "s2:product_uri", "landsat:correction")
    names = " ".join(map(str, (file, item.id, item.collection_id, *map(properties.get, keys))))
    if other := re.search("(?i)S2MSI1C|MSIL1C|-l1c|L1TP|L1G[TS]|(?<![a-z])ST_B", names):
        raise InputError(
            f"{item.id}: {file} ({other[0]}) is no surface reflectance; use Level-2 (L2A, L2SP), "
            "not Level-1C or Level-1"
        )
    fields = dict(asset.extra_fields)
    for bands in (fields.get("bands"), fields.get("raster:bands")):
        fields |= bands[0] if bands else {}
    declared = (fields.get(f"raster:{n}", fields.get(n)) for n in ("scale", "offset", "nodata"))
    scale, offset, nodata = (None if value is None else float(value) for value in declared)
    usual: tuple[float | None, ...] = None, 0.0, None  # scale, offset, saturation
    if properties.get("s2:product_type") == "S2MSI2A" or item.collection_id in _SENTINEL2:
        baseline = processing_baseline(item)
        usual = 1e-4, None if baseline is None else -0.1 if baseline >= 4 else 0.0, 32767
        names = ("earthsearch", "sentinel")
        applied = any(properties.get(f"{name}:boa_offset_applied") is True for name in names)
        if applied and "jp2" not in f"{asset.media_type} {file.lower()}":
            offset, usual = None, (1e-4, 0.0, 31767)
    elif re.search("L2S[PR]", names):
        usual = 2.75e-5, -0.2, 65455
    scale = usual[0] if scale is None else scale
    offset = next((n for n in (given, offset, usual[1]) if n is not None), None)
    if scale is None or offset is None or not (0 < scale < math.inf and math.isfinite(offset)):
        raise InputError(
            f"{item.id}: unknown reflectance of {file} (scale {scale}, offset {offset}): declare "
            "it, or use Sentinel-2 L2A with a processing baseline, or Landsat Level-2"
        )
    saturated = usual[2]
    return scale, offset, 0.0 if saturated and nodata is None else nodata, saturated


def processing_baseline(item: pystac.Item) -> float | None:
    """The baseline of a Sentinel-2 item, by its properties or id: 4.0 is 04.00, 5.11 is 05.11."""
    fields = ("s2:processing_baseline", "sentinel:processing_baseline", "processing:version",
              "s2:product_uri", "sentinel:product_id", "s2:tile_id")  # fmt: skip
    for text in (*map(item.properties.get, fields), item.id):
        if found := re.search(r"^(\d\d?)\.(\d\d?)$|_N(\d\d)\.?(\d\d)(?=$|[_.])", str(text)):
            return float(".".join(filter(None, found.groups())))
    return None
