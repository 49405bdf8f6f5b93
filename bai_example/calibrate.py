"""From digital numbers to reflectance: scale, offset, nodata and saturation of a band.

``reflectance = DN * scale + offset``. ESA's processing baseline 04.00 (deployed on 2022-01-25, and
used since to reprocess older scenes) added 1000 to every Sentinel-2 DN, so that slightly negative
reflectance survives; catalogues differ in what they made of it. The rule, first match wins:

==================================================  ============  ==========================
what the item says                                  scale         offset
==================================================  ============  ==========================
Landsat, but Level-1 or surface temperature         an error: it is no surface reflectance
``earthsearch:boa_offset_applied`` (v1) or          declared,     **0**, whatever is declared
``sentinel:boa_offset_applied`` (v0) is true,       else 1e-4
and the asset is not the original JPEG 2000
a scale and an offset are declared                  declared      declared
Sentinel-2 L2A, processing baseline >= 04.00        1e-4          -0.1 (BOA_ADD_OFFSET -1000)
Sentinel-2 L2A, processing baseline < 04.00         1e-4          0
Landsat Collection 2 Level-2 surface reflectance    2.75e-5       -0.2
anything else                                       an error that says what is missing
==================================================  ============  ==========================

"Declared" is ``raster:bands`` (STAC 1.0), or ``bands`` / ``raster:scale`` / ``raster:offset``
(STAC 1.1). Scale and offset are looked up one by one, so an item that declares only its scale gets
the offset of its baseline.

* **Earth Search v1** declares -0.1 for every item from baseline 04.00 on, also where it has taken
  the 1000 off the pixels already; only the flag tells the two apart. Its ``*-jp2`` assets are
  ESA's own files and keep the 1000. (A few items of the catalogue carry a wrong flag; nothing in
  them shows it: Element84/earth-search issues 66 and 71.)
* **Earth Search v0** declares nothing. Scenes made in the first weeks of baseline 04.00 have
  neither the flag nor the correction, so the baseline decides.
* **Planetary Computer** declares nothing and never changes the pixels: the baseline decides.
* **Landsat** is told by the file's name (``…_L2SP_…_SR_B5.TIF``); where that does not say, because
  the file was renamed, by the item: its collection, ``landsat:correction`` (L2SP, L2SR) or id.

Saturated are Sentinel-2's counts from 32767 on: the metadata's SATURATED is 65535, but the JPEG
2000 files have 15 bits and Sen2Cor stops at 32767; where a catalogue has taken the 1000 off, that
is 31767. Landsat's valid counts end at 65455. (All lie far above reflectance 1.)

Sources: ESA, "Sentinel-2 Products Specification Document", L2A_BOA = (DN + BOA_ADD_OFFSET) /
QUANTIFICATION_VALUE, DN 0 is NO_DATA; ESA's STEP forum, topic 44294 (saturation in L2A);
cirrus-geo/cirrus-earth-search issue 21 (meaning of the flag); microsoft/PlanetaryComputer issue
134; USGS, "Landsat 8-9 Collection 2 Level 2 Science Product Guide" (LSDS-1619) and "How do I use
a scale factor with Landsat Level-2 science products?", surface reflectance scale factors and range.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from bai_example.errors import InputError

if TYPE_CHECKING:
    import pystac

#: QUANTIFICATION_VALUE is 10000, and BOA_ADD_OFFSET -1000 from baseline 04.00 on.
SENTINEL2_SCALE = 1e-4
SENTINEL2_OFFSET = -0.1
OFFSET_SINCE = (4, 0)
#: Largest count of 15 bits, before 1000 may have been taken off.
SENTINEL2_SATURATED = 32767
OFFSET_COUNTS = 1000
LANDSAT_SCALE = 2.75e-5
LANDSAT_OFFSET = -0.2
LANDSAT_SATURATED = 65455

_BASELINE = re.compile(r"N?(\d{1,2})\.?(\d{1,2})")
_IN_PRODUCT_NAME = re.compile(r"_N(\d{2})\.?(\d{2})(?=$|[_.])")
# Product identifiers and band names of Landsat's file names and item ids.
_LANDSAT_PRODUCT = re.compile(r"L[COTEM]\d\d_(L[12]\w\w)_\d{6}_\d{8}_", re.IGNORECASE)
_LANDSAT_SR = re.compile(r"(?:^|_)SR_B\d", re.IGNORECASE)
_LANDSAT_ST = re.compile(r"(?:^|_)ST_B\d", re.IGNORECASE)
_LANDSAT_LEVEL2 = ("L2SP", "L2SR")
_LANDSAT_COLLECTIONS = {"landsat-c2-l2", "landsat-c2l2-sr", "landsat-c2l2alb-sr"}
_S2_COLLECTIONS = {"sentinel-2-l2a", "sentinel-s2-l2a", "sentinel-s2-l2a-cogs"}


class Calibration(NamedTuple):
    """How a band's digital numbers become reflectance."""

    scale: float
    """Reflectance per count; greater than 0."""
    offset: float
    """Reflectance of the count 0."""
    nodata: float | None
    """The count that means "no measurement"; None: every count is one."""
    saturated: float | None
    """The count from which on a pixel is saturated; None: not known."""


def calibrate(item: pystac.Item, key: str) -> Calibration:
    """Apply the rule of this module to the asset ``key`` of ``item``.

    Raises:
        InputError: neither the item nor the rule gives a scale and an offset, or it is a Landsat
            product of another kind.
    """
    asset = item.assets[key].to_dict()
    scale, offset, nodata = (_declared(item, key, name) for name in ("scale", "offset", "nodata"))
    default_nodata: float | None = None
    saturated: float | None = None
    if _is_sentinel2_l2a(item):
        default_nodata, saturated = 0.0, SENTINEL2_SATURATED
        scale = SENTINEL2_SCALE if scale is None else scale
        if _offset_taken_off(item.properties) and not is_jpeg2000(asset):
            offset = 0.0
            saturated -= OFFSET_COUNTS
        elif offset is None:
            baseline = processing_baseline(item.id, item.properties)
            if baseline is None:
                raise InputError(
                    f"{item.id}: asset '{key}' declares no offset and the item no processing "
                    "baseline (s2:processing_baseline), so its reflectance is not known"
                )
            offset = SENTINEL2_OFFSET if baseline >= OFFSET_SINCE else 0.0
    elif _is_landsat_reflectance(item, key):
        default_nodata, saturated = 0.0, LANDSAT_SATURATED
        scale = LANDSAT_SCALE if scale is None else scale
        offset = LANDSAT_OFFSET if offset is None else offset
    if scale is None:
        raise InputError(
            f"{item.id}: asset '{key}' declares no scale (raster:bands) and is neither "
            "Sentinel-2 L2A nor Landsat Collection 2 Level-2, so its reflectance is not known"
        )
    # The raster extension: an offset that is absent beside a scale is 0.
    offset = 0.0 if offset is None else offset
    if not (math.isfinite(scale) and scale > 0 and math.isfinite(offset)):
        raise InputError(f"{item.id}: asset '{key}' declares scale {scale} and offset {offset}")
    return Calibration(scale, offset, default_nodata if nodata is None else nodata, saturated)


def processing_baseline(name: str, said: Mapping[str, Any]) -> tuple[int, int] | None:
    """The processing baseline of a Sentinel-2 item, ``(4, 0)`` for 04.00; None: not said.

    Args:
        name: the item's id.
        said: its properties.
    """
    for field in ("s2:processing_baseline", "sentinel:processing_baseline", "processing:version"):
        if found := _BASELINE.fullmatch(str(said.get(field, ""))):
            return int(found[1]), int(found[2].ljust(2, "0"))
    for field in ("s2:product_uri", "sentinel:product_id", "s2:tile_id", "s2:datatake_id"):
        if found := _IN_PRODUCT_NAME.search(str(said.get(field, ""))):
            return int(found[1]), int(found[2])
    if found := _IN_PRODUCT_NAME.search(name):
        return int(found[1]), int(found[2])
    return None


def is_jpeg2000(asset: Mapping[str, Any]) -> bool:
    """Whether an asset is JPEG 2000, the format ESA distributes."""
    name = file_name(str(asset.get("href", "")))
    return "jp2" in str(asset.get("type", "")) or name.lower().endswith(".jp2")


def file_name(href: str) -> str:
    """The last part of a path or URL, without a query (which may hold a signature)."""
    return href.split("?")[0].rsplit("/", 1)[-1]


def entries(asset: Mapping[str, Any], name: str) -> list[Mapping[str, Any]]:
    """The objects in an asset's list field (``raster:bands`` …); empty where it is no such list."""
    value = asset.get(name)
    if not isinstance(value, list):
        return []
    return [entry for entry in value if isinstance(entry, Mapping)]


def _offset_taken_off(properties: Mapping[str, Any]) -> bool:
    names = ("earthsearch:boa_offset_applied", "sentinel:boa_offset_applied")
    return any(str(properties.get(name)).lower() == "true" for name in names)


def _is_sentinel2_l2a(item: pystac.Item) -> bool:
    said = item.properties
    if str(said.get("s2:product_type", "")) == "S2MSI2A":
        return True
    if item.collection_id in _S2_COLLECTIONS:
        return True
    satellite = f"{said.get('constellation', '')} {said.get('platform', '')}".lower()
    return "sentinel-2" in satellite.replace(" ", "-") and "L2A" in item.id


def _is_landsat_reflectance(item: pystac.Item, key: str) -> bool:
    """Whether an asset is Landsat Collection 2 Level-2 surface reflectance; False: not Landsat.

    Raises:
        InputError: it is a Landsat product, but of another level or kind.
    """
    said = item.properties
    name = file_name(item.assets[key].href)
    satellite = f"{said.get('constellation', '')} {said.get('platform', '')}".lower()
    in_name, in_id = (
        found[1] if (found := _LANDSAT_PRODUCT.match(text)) else "" for text in (name, item.id)
    )
    # The file's own name is nearest to its numbers, then what the item says, then its id.
    level = (in_name or str(said.get("landsat:correction") or "") or in_id).upper()
    if not (level or "landsat" in satellite or item.collection_id in _LANDSAT_COLLECTIONS):
        return False
    if _LANDSAT_ST.search(name):
        raise InputError(
            f"{item.id}: asset '{key}' is Landsat surface temperature ({name}), not reflectance"
        )
    if level and level not in _LANDSAT_LEVEL2:
        raise InputError(
            f"{item.id}: asset '{key}' is Landsat {level}, which is no surface reflectance; "
            "take the scene's Level-2 item (L2SP) of Collection 2"
        )
    return bool(level or item.collection_id in _LANDSAT_COLLECTIONS or _LANDSAT_SR.search(name))


def _declared(item: pystac.Item, key: str, name: str) -> float | None:
    """A number the asset declares: in ``raster:bands``, in ``bands``, or on the asset itself."""
    asset = item.assets[key].to_dict()
    for place in (*entries(asset, "raster:bands")[:1], *entries(asset, "bands")[:1], asset):
        for field in (f"raster:{name}", name):
            if (value := place.get(field)) is None:
                continue
            try:
                return float(value)
            except (TypeError, ValueError):
                raise InputError(
                    f"{item.id}: asset '{key}' declares {field} {value!r}, which is no number"
                ) from None
    return None
