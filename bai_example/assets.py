"""Which of an item's files to read: the best asset for each band, and the masks beside them.

Asset keys are those of Earth Search v0 and v1, Planetary Computer, USGS landsatlook, Copernicus
Data Space and stactools; bands with other keys are found by their ``common_name``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from bai_example.calibrate import entries, file_name, is_jpeg2000
from bai_example.errors import InputError

if TYPE_CHECKING:
    import pystac


class Wanted(NamedTuple):
    """How to find a band among an item's assets."""

    label: str
    choices: tuple[tuple[tuple[str, ...], str], ...]
    """Best first: asset keys, and the ``common_name`` for assets with other keys."""


#: Keys: Planetary Computer and Earth Search v0, Earth Search v1 and stactools, Copernicus.
NIR = Wanted("NIR", ((("B08", "nir", "B08_10m"), "nir"), (("nir08", "B8A", "B8A_20m"), "nir08")))
SWIR2 = Wanted("SWIR2", ((("B12", "swir22", "B12_20m"), "swir22"),))

#: Kind of mask -> its asset keys (``SCL``, ``scl_60m``, ``scl-jp2`` …) and its file names
#: (``T29TNE_…_SCL_20m.jp2``, ``LC08_…_QA_PIXEL.TIF``); the first group is the metres per pixel.
_MASKS: dict[str, tuple[re.Pattern[str], re.Pattern[str]]] = {
    kind: (
        re.compile(rf"{kind}(?:_(\d+)m)?(?:-jp2)?", re.IGNORECASE),
        re.compile(rf"(?:.*_)?{kind}(?:_(\d+)m)?\.(?:tiff?|jp2)", re.IGNORECASE),
    )
    for kind in ("scl", "qa_pixel", "qa_radsat")
}
_OLI = re.compile(r"l[co]0?[89]_|landsat[-_ ]?[89]$", re.IGNORECASE)


def band_asset(item: pystac.Item, wanted: Wanted) -> str:
    """The key of the best asset for a band.

    The band itself comes first (NIR at 10 m before narrow NIR), then COG before JPEG 2000, then a
    known key before an asset found by its ``common_name``, then the finer of two resolutions
    (stactools lists the same band at 10, 20 and 60 m).

    Raises:
        InputError: the item has no such band.
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


def mask_assets(item: pystac.Item) -> dict[str, str]:
    """The item's masks: kind (``scl``, ``qa_pixel``, ``qa_radsat``) -> asset key.

    COG comes before JPEG 2000, then the finer resolution by the name (SCL is made at 20 m, and
    that at 60 m is made from it); a name without one is the original. Empty where the item has
    none. ``qa_radsat`` has a bit for each of the sensor's bands; only OLI's are known here.
    """
    found: dict[str, str] = {}
    is_oli = any(_OLI.match(str(name)) for name in (item.properties.get("platform"), item.id))
    for kind, (key_form, name_form) in _MASKS.items():
        ranked: list[tuple[bool, int, str]] = []
        for key, asset in item.assets.items():
            named = key_form.fullmatch(key) or name_form.fullmatch(file_name(asset.href))
            if named:
                ranked.append((is_jpeg2000(asset.to_dict()), int(named[1] or 0), key))
        if ranked and (kind != "qa_radsat" or is_oli):
            found[kind] = min(ranked)[-1]
    return found


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
