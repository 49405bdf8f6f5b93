"""The STAC item that describes the map: where it lies, what it shows, what it was made of.

STAC 1.1 with the extensions projection 2.0.0, raster 2.0.0, processing 1.2.0 and classification
2.0.0; what they have no field for stands under ``bai:``.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import math
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pystac

from bai_example.grid import Grid
from bai_example.output.footprint import bounding_box, footprint
from bai_example.output.provenance import Input, Provenance

if TYPE_CHECKING:
    from bai_example.bai import Index
    from bai_example.scene import Scene
    from bai_example.stats import Area, Statistics

EXTENSIONS = tuple(
    f"https://stac-extensions.github.io/{name}/schema.json"
    for name in ("projection/v2.0.0", "raster/v2.0.0", "processing/v1.2.0", "classification/v2.0.0")
)

_NBR = "NBR = (NIR - SWIR2) / (NIR + SWIR2)"


class Files(NamedTuple):
    """Names of the files, all in one folder."""

    map: str = "bai.tif"
    severity: str = "bai-severity.tif"
    quicklook: str = "bai.png"
    item: str = "bai.json"


#: The names that the program uses.
FILES = Files()


def title(index: Index) -> str:
    """The map's title, such as "Burned-area intensity (dNBR)"."""
    return f"Burned-area intensity ({index.title})"


def write(path: Path, item: pystac.Item) -> None:
    """Write an item as JSON; the links in it stay as they are."""
    document = item.to_dict(include_self_link=False, transform_hrefs=False)
    path.write_text(json.dumps(document, indent=2, allow_nan=False) + "\n", encoding="utf-8")


def make(
    *,
    grid: Grid,
    index: Index,
    statistics: Statistics,
    pre: Sequence[Scene],
    post: Sequence[Scene],
    masked: bool,
    provenance: Provenance,
    location: str,
    files: Files = FILES,
) -> pystac.Item:
    """Make the item.

    Args:
        grid: the map's grid.
        index: what the map shows.
        statistics: the map's statistics; at least one pixel has a value.
        pre: the scenes before the event, one for each tile.
        post: the scenes after it.
        masked: whether clouds, shadows, snow and water were masked.
        provenance: what it was made of and with.
        location: where the item will lie, a folder or a URL; a folder's links to local items are
            relative, so that all of it can be moved together.
        files: names of the files.
    """
    times = [scene.datetime for scene in (*pre, *post)]
    now = _utc(dt.datetime.now(dt.timezone.utc))
    item = pystac.Item(
        id=identifier(pre, post),
        geometry=footprint(grid),
        bbox=bounding_box(grid),
        datetime=max(scene.datetime for scene in post),
        properties={
            "title": title(index),
            "description": f"{index.description}. {index.formula}, {_NBR}",
            "start_datetime": _utc(min(times)),
            "end_datetime": _utc(max(times)),
            "created": now,
            "gsd": _metres(grid),
            **_projection(grid),
            **_processing(index, pre, post, masked, provenance, now),
            "bai:index": index.name,
            "bai:valid_percent": round(statistics.valid_percent, 4),
            "bai:severity": [_severity(area) for area in statistics.areas],
            "bai:masked": masked,
            "bai:pixels_without_value": {e: dict(c) for e, c in statistics.masked.items()},
        },
        stac_extensions=list(EXTENSIONS),
    )
    band = {"raster:sampling": "area", "raster:spatial_resolution": _metres(grid)}
    shown = {"name": index.name, "description": index.description, "data_type": "float32"}
    numbers = {"nodata": "nan", "statistics": _statistics(statistics)}
    item.add_asset("bai", _raster(files.map, title(index), shown | numbers | band))
    coded = {"name": "severity", "data_type": "uint8", "nodata": 0}
    # On the asset and not in its only band, where the extension's schema would not look.
    classes = {"classification:classes": _classes(statistics.areas)}
    item.add_asset("severity", _raster(files.severity, "Burn severity", coded | band, classes))
    # A drawing with title and legend: the map's projection is not its own.
    unlocated = {"proj:code": None}
    picture = (f"./{files.quicklook}", "Quicklook of the burn severity", None)
    item.add_asset("quicklook", pystac.Asset(*picture, "image/png", ["overview"], unlocated))
    for used in provenance.inputs:
        item.add_link(_derived_from(used, location))
    return item


def identifier(pre: Sequence[Scene], post: Sequence[Scene]) -> str:
    """The item's id: ``bai-<pre-event id>-<post-event id>`` for one pair.

    A mosaic has the two events' first days, and eight digits that stand for its scenes: the same
    scenes in whatever order give the same id.
    """
    if len(pre) == len(post) == 1:
        return f"bai-{pre[0].id}-{post[0].id}"
    days = [min(s.datetime for s in scenes).strftime("%Y%m%d") for scenes in (pre, post)]
    names = json.dumps([sorted(scene.id for scene in scenes) for scenes in (pre, post)])
    return "-".join(["bai", *days, hashlib.sha256(names.encode()).hexdigest()[:8]])


def _raster(name: str, title: str, band: Mapping[str, Any], more: Any = None) -> pystac.Asset:
    fields = {"bands": [dict(band)], **(more or {})}
    return pystac.Asset(f"./{name}", title, None, pystac.MediaType.COG, ["data"], fields)


def _statistics(statistics: Statistics) -> dict[str, float]:
    return {
        "minimum": statistics.minimum,
        "maximum": statistics.maximum,
        "mean": statistics.mean,
        "stddev": statistics.deviation,
        "count": statistics.valid,
        "valid_percent": statistics.valid_percent,
    }


def _projection(grid: Grid) -> dict[str, Any]:
    code = grid.crs.to_authority()
    # A CRS without a code is given whole, and its code as null (projection extension, proj:code).
    whole = {} if code else {"proj:wkt2": grid.crs.to_wkt(version="WKT2_2019")}
    return {
        "proj:code": ":".join(code) if code else None,
        **whole,
        "proj:shape": list(grid.shape),
        "proj:transform": list(grid.transform)[:6],
        "proj:bbox": list(grid.bounds),
    }


def _processing(
    index: Index, pre: Sequence[Scene], post: Sequence[Scene], masked: bool,
    provenance: Provenance, now: str,
) -> dict[str, Any]:  # fmt: skip
    mask = "clouds, shadows, snow and water are masked" if masked else "nothing is masked"
    events = f"{_names(pre)} before and {_names(post)} after the event"
    more = {"bai:command": list(provenance.command), "bai:claim": provenance.claim}
    return {
        # "Variables that are not directly measured … but are derived from these measurements".
        "processing:level": "L4",
        "processing:lineage": f"{index.title} of {events}, from surface reflectance; {mask}",
        "processing:expression": {"format": "formula", "expression": f"{index.formula}; {_NBR}"},
        "processing:software": dict(provenance.software),
        "processing:datetime": now,
    } | {name: value for name, value in more.items() if value}


def _names(scenes: Iterable[Scene]) -> str:
    return ", ".join(scene.id for scene in scenes)


def _severity(area: Area) -> dict[str, Any]:
    """A class with its limits (absent where open) and area."""
    limits = {"lower": area.severity.lower, "upper": area.severity.upper}
    return {
        "name": area.severity.name,
        **{name: value for name, value in limits.items() if math.isfinite(value)},
        "area_ha": round(area.hectares, 4),
        "percent": round(area.percent, 4),
    }


def _classes(areas: Iterable[Area]) -> list[dict[str, Any]]:
    """The severity map's codes: 0 where there is no value, then 1, 2, … in the areas' order."""
    none = {"value": 0, "name": "no-value", "title": "No value", "nodata": True}
    return [none] + [
        {
            "value": value,
            "name": re.sub(r"[^0-9A-Za-z]+", "-", area.severity.name).strip("-").lower(),
            "title": area.severity.name,
            "color_hint": area.severity.color.lstrip("#").upper(),
        }
        for value, area in enumerate(areas, start=1)
    ]


def _metres(grid: Grid) -> float:
    return grid.resolution[0] * float(grid.crs.linear_units_factor[1])


def _derived_from(used: Input, location: str) -> pystac.Link:
    href = used.href
    if "://" not in href:
        remote = "://" in location
        href = Path(href).as_uri() if remote else os.path.relpath(href, Path(location).absolute())
    name = f"{used.event} scene {used.id}"
    return pystac.Link("derived_from", href, pystac.MediaType.GEOJSON, title=name)


def _utc(when: dt.datetime) -> str:
    return when.astimezone(dt.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
