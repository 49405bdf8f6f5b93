"""The STAC item that describes the map, and the catalog that points at it.

STAC 1.1 with the extensions projection 2.0.0, raster 2.0.0, processing 1.2.0 and classification
2.0.0; what they have no field for stands under ``bai:``.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import hashlib
import json
import math
import os
import platform
import re
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import pystac
import rasterio

from bai_example.access import public
from bai_example.grid import Grid
from bai_example.index import INDICES, SEVERITIES
from bai_example.maps import MAP, NAMES, QUICKLOOK, SEVERITY
from bai_example.scenes import Scene
from bai_example.statistics import Statistics

ITEM, CATALOG = "bai.json", "catalog.json"
#: All files of a result.
ALL = (MAP, SEVERITY, NAMES, QUICKLOOK, ITEM, CATALOG)

_EXTENSIONS = [
    f"https://stac-extensions.github.io/{name}/schema.json"
    for name in ("projection/v2.0.0", "raster/v2.0.0", "processing/v1.2.0", "classification/v2.0.0")
]
_NBR = "NBR = (NIR - SWIR) / (NIR + SWIR)"


def make_item(
    grid: Grid,
    index: str,
    statistics: Statistics,
    pre: Sequence[Scene],
    post: Sequence[Scene],
    *,
    masked: bool,
    location: str,
    command: Sequence[str] = (),
    claim: Mapping[str, Any] | None = None,
) -> pystac.Item:
    """Describe a map.

    Args:
        grid: the map's grid.
        index: the name of what the map shows.
        statistics: the map's; at least one pixel has a value.
        pre: the scenes before the event, one for each tile.
        post: the scenes after it.
        masked: whether clouds, shadows, snow and water were masked.
        location: where the item will lie, a folder or a URL; a folder's links to local items are
            relative, so that all of it can be moved together.
        command: program and arguments; of URLs in it the query is cut off.
        claim: the cluster that was asked for, in JSON types.
    """
    shown, now = INDICES[index], _utc(dt.datetime.now(dt.timezone.utc))
    title = f"Burned-area intensity ({shown.title})"
    times = [scene.datetime for scene in (*pre, *post)]
    before, after = (", ".join(scene.id for scene in scenes) for scenes in (pre, post))
    mask = "clouds, shadows, snow and water are masked" if masked else "nothing is masked"
    metres = round(float(grid.metres()[1][grid.shape[0] // 2]), 6)
    code = grid.crs.to_authority()
    areas = zip(SEVERITIES, statistics.hectares, statistics.classes[1:], strict=True)
    said: dict[str, Any] = {
        "title": title,
        "description": f"{shown.description}. {shown.formula}, {_NBR}",
        "start_datetime": _utc(min(times)),
        "end_datetime": _utc(max(times)),
        "created": now,
        "gsd": metres,
        "proj:code": ":".join(code) if code else None,
        **({} if code else {"proj:wkt2": grid.crs.to_wkt(version="WKT2_2019")}),
        "proj:shape": list(grid.shape),
        "proj:transform": list(grid.transform)[:6],
        "proj:bbox": list(grid.bounds),
        # "Variables that are not directly measured … but are derived from these measurements".
        "processing:level": "L4",
        "processing:lineage": f"{shown.title} of {before} before and {after} after the event, "
        f"from surface reflectance; {mask}",
        "processing:expression": {"format": "formula", "expression": f"{shown.formula}; {_NBR}"},
        "processing:software": _software(),
        "processing:datetime": now,
        "bai:index": index,
        "bai:valid_percent": round(statistics.valid_percent, 4),
        "bai:severity": [
            {"name": one.name, "area_ha": round(hectares, 4),
             "percent": round(100 * float(count) / statistics.valid, 4)}
            | {k: v for k, v in (("lower", one.lower), ("upper", one.upper)) if math.isfinite(v)}
            for one, hectares, count in areas
        ],
        "bai:masked": masked,
        "bai:pixels_without_value": statistics.masked,
        **({"bai:command": [public(argument) for argument in command]} if command else {}),
        **({"bai:claim": json.loads(public(json.dumps(claim)))} if claim else {}),
    }  # fmt: skip
    item = pystac.Item(
        _identifier(pre, post), grid.footprint(), grid.bbox(), max(s.datetime for s in post),
        said, stac_extensions=_EXTENSIONS,
    )  # fmt: skip
    band = {"raster:sampling": "area", "raster:spatial_resolution": metres}
    value = {
        "name": index, "description": shown.description, "data_type": "float32", "nodata": "nan",
        "statistics": {
            "minimum": statistics.minimum, "maximum": statistics.maximum, "mean": statistics.mean,
            "stddev": statistics.deviation, "count": statistics.valid,
            "valid_percent": statistics.valid_percent,
        },
    } | band  # fmt: skip
    coded = {"name": "severity", "data_type": "uint8", "nodata": 0} | band
    # The classes on the asset, not in its band, where the extension's schema would not look.
    classes = {"bands": [coded], "classification:classes": _classes()}
    picture = {"proj:code": None}  # it has title and legend: the map's projection is not its own
    for key, name, text, kind, role, fields in (
        ("bai", MAP, title, pystac.MediaType.COG, "data", {"bands": [value]}),
        ("severity", SEVERITY, "Burn severity", pystac.MediaType.COG, "data", classes),
        ("quicklook", QUICKLOOK, "Burn severity", pystac.MediaType.PNG, "overview", picture),
    ):
        item.add_asset(key, pystac.Asset(f"./{name}", text, None, kind, [role], fields))
    for event, scenes in (("pre-event", pre), ("post-event", post)):
        for scene in scenes:
            name, href = f"{event} scene {scene.id}", _link(scene.href, location)
            item.add_link(pystac.Link("derived_from", href, pystac.MediaType.GEOJSON, name))
    return item


def write_item(folder: Path, item: pystac.Item) -> None:
    """Write an item and a catalog that holds nothing else; all hrefs between files are relative."""
    catalog = pystac.Catalog(f"catalog-of-{item.id}", str(item.properties["description"]))
    catalog.set_self_href(str(folder / CATALOG))
    catalog.add_link(pystac.Link.item(item))
    item.set_self_href(str(folder / ITEM))
    item.set_parent(catalog)
    item.set_root(catalog)
    catalog.save(pystac.CatalogType.SELF_CONTAINED)


def _identifier(pre: Sequence[Scene], post: Sequence[Scene]) -> str:
    """Of a mosaic, eight digits of a hash: the same scenes in whatever order give the same id."""
    if len(pre) == len(post) == 1:
        return f"bai-{pre[0].id}-{post[0].id}"
    days = [min(s.datetime for s in scenes).strftime("%Y%m%d") for scenes in (pre, post)]
    names = json.dumps([sorted(scene.id for scene in scenes) for scenes in (pre, post)])
    return "-".join(["bai", *days, hashlib.sha256(names.encode()).hexdigest()[:8]])


def _software() -> dict[str, str]:
    """Name and version of what computes; a package that is not installed as one is left out."""
    found = {"GDAL": rasterio.__gdal_version__, "Python": platform.python_version()}
    for name in ("dask-claim", "dask", "distributed", "numpy", "rasterio", "rioxarray", "xarray"):
        with contextlib.suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def _classes() -> list[dict[str, Any]]:
    """The severity map's codes: 0 where there is no value, then 1, 2, …"""
    return [{"value": 0, "name": "no-value", "title": "No value", "nodata": True}] + [
        {
            "value": value,
            "name": re.sub(r"\W+", "-", one.name).lower(),
            "title": one.name,
            "color_hint": one.color.lstrip("#").upper(),
        }
        for value, one in enumerate(SEVERITIES, start=1)
    ]


def _link(href: str, location: str) -> str:
    """An input's href as the item gives it."""
    if "://" in href:
        return public(href)
    if "://" in location:
        return Path(href).as_uri()
    return os.path.relpath(href, Path(location).absolute())


def _utc(when: dt.datetime) -> str:
    return when.astimezone(dt.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
