"""What describes the map: a picture for people, a STAC item for machines."""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import math
import re
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pystac
import rasterio
import shapely
from pystac.utils import datetime_to_str
from rasterio.enums import Resampling
from rasterio.warp import transform_bounds, transform_geom
from shapely.geometry import mapping

from bai_example.access import link
from bai_example.blocks import Statistics
from bai_example.index import INDICES, SEVERITIES
from bai_example.outputs import CATALOG, ITEM, LEGEND, MAP, QUICKLOOK, SEVERITY
from bai_example.pair import EVENTS, Pair
from bai_example.rasters import pixel_area

_EXTENSIONS = [
    f"https://stac-extensions.github.io/{name}/schema.json"
    for name in ("projection/v2.0.0", "raster/v2.0.0", "processing/v1.2.0", "classification/v2.0.0")
]
_PACKAGES = ("dask-claim", "dask", "distributed", "numpy", "rasterio", "odc-geo")
#: Most pixels of the map along a side of the picture: about as many as are shown there.
SHOWN = 650


def draw(folder: Path, pair: Pair, index: str, statistics: Statistics) -> None:
    """Draw ``bai.png``: the severity classes in a folder, with their areas and coordinates."""
    from matplotlib.colors import ListedColormap
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    (rows, columns), bounds, crs = pair.grid.shape, pair.grid.boundingbox, pair.grid.crs
    smaller = max(1.0, rows / SHOWN, columns / SHOWN)
    with rasterio.open(folder / SEVERITY) as file:
        # Smaller, the class that most pixels have.
        shape = math.ceil(rows / smaller), math.ceil(columns / smaller)
        classes = file.read(1, out_shape=shape, resampling=Resampling.mode)
    axes = Figure((8, 6.6), dpi=125).add_subplot()
    west, south, east, north = bounds
    colors = [f"#{one['color_hint']}" for one in LEGEND]
    axes.imshow(
        classes, ListedColormap(colors), vmin=0, vmax=len(colors) - 1, interpolation="nearest",
        extent=(west, east, south, north),
        # As wide as on the ground.
        aspect=1 / math.cos(math.radians((south + north) / 2)) if crs.geographic else 1,
    )  # fmt: skip
    axes.ticklabel_format(useOffset=False, style="plain")
    axes.set_xlabel("Longitude" if crs.geographic else f"Easting, {crs.units[1]} ({crs})"[:40])
    axes.set_ylabel("Latitude" if crs.geographic else f"Northing, {crs.units[0]}")
    axes.grid(color="black", alpha=0.15)
    lines = [
        f"{event} {scenes[0].scene.datetime:%Y-%m-%d}: "
        + ", ".join(one.scene.id for one in scenes)[:80]
        for event, scenes in zip(EVENTS, pair.events, strict=True)
    ]
    axes.text(0, 1.01, "\n".join(lines), transform=axes.transAxes, fontsize=9)
    title = f"Burned-area intensity ({INDICES[index].title})"
    axes.set_title(title, loc="left", pad=36, fontsize=15, weight="bold")
    labels = [f"No value\n{100 - statistics.valid_percent:.1f} %"]
    for one, hectares in zip(SEVERITIES, statistics.hectares, strict=True):
        limits = f"dNBR {one.lower:g} to {one.upper:g}".replace("-inf to", "below")
        labels.append(f"{one.name}\n{hectares:,.1f} ha, {limits.replace('to inf', 'and above')}")
    patches = [Patch(facecolor=color, edgecolor="grey") for color in colors]
    axes.legend(
        patches[::-1], labels[::-1], title="Burn severity", alignment="left", frameon=False,
        loc="upper left", bbox_to_anchor=(1, 1), labelspacing=1, handleheight=2, fontsize=9,
    )  # fmt: skip
    axes.figure.savefig(folder / QUICKLOOK, bbox_inches="tight", pad_inches=0.2)


def make_item(
    pair: Pair, index: str, statistics: Statistics, location: str, claim: dict[str, Any]
) -> pystac.Item:
    """Describe a map: STAC 1.1 with four extensions; what they have no field for is ``bai:…``.

    Args:
        location: where the item will lie, a folder or a URL; a folder's links to local items are
            relative, so that all of it can be moved together.
        claim: that of the cluster, without secrets; may be empty.
    """
    crs, bounds, shown = str(pair.grid.crs), pair.grid.boundingbox, INDICES[index]
    # Points along the sides: a straight line in UTM is a curve in longitude and latitude.
    outline = shapely.segmentize(pair.grid.extent.geom, max(bounds.span_x, bounds.span_y) / 8)
    degrees = transform_bounds(crs, "EPSG:4326", *bounds, densify_pts=21)
    properties = _properties(pair, index, statistics) | ({"bai:claim": claim} if claim else {})
    item = pystac.Item(
        _identifier(pair, index),
        dict(transform_geom(crs, "EPSG:4326", mapping(outline), precision=7)),
        [round(n, 7) for n in degrees], max(one.scene.datetime for one in pair.events[1]),
        properties, stac_extensions=_EXTENSIONS,
    )  # fmt: skip
    band = {"raster:sampling": "area", "raster:spatial_resolution": properties["gsd"]}
    value = {
        "name": index, "description": shown.description, "data_type": "float32", "nodata": "nan",
        "statistics": {
            "minimum": statistics.minimum, "maximum": statistics.maximum, "mean": statistics.mean,
            "stddev": statistics.deviation, "count": statistics.valid,
            "valid_percent": statistics.valid_percent,
        },
    }  # fmt: skip
    coded = {"name": "severity", "data_type": "uint8", "nodata": 0}
    # The classes on the asset, not in its band, where the extension's schema would not look.
    classes = {"bands": [coded | band], "classification:classes": LEGEND}
    picture = {"proj:code": None}  # it has title and legend: the map's projection is not its own
    cog, png = pystac.MediaType.COG, pystac.MediaType.PNG
    for key, name, title, kind, role, fields in (
        ("bai", MAP, properties["title"], cog, "data", {"bands": [value | band]}),
        ("severity", SEVERITY, "Burn severity", cog, "data", classes),
        ("quicklook", QUICKLOOK, "Burn severity", png, "overview", picture),
    ):
        item.add_asset(key, pystac.Asset(f"./{name}", title, None, kind, [role], fields))
    for event, scenes in zip(EVENTS, pair.events, strict=True):
        for one in scenes:
            name, href = f"{event} scene {one.scene.id}", link(one.scene.href, location)
            item.add_link(pystac.Link("derived_from", href, pystac.MediaType.GEOJSON, name))
    return item


def _properties(pair: Pair, index: str, statistics: Statistics) -> dict[str, Any]:
    shown, grid, crs = INDICES[index], pair.grid, str(pair.grid.crs)
    times = [one.scene.datetime for scenes in pair.events for one in scenes]
    before, after = (", ".join(one.scene.id for one in scenes) for scenes in pair.events)
    projection = {"proj:code": crs if re.fullmatch(r"[A-Z]+:\d+", crs) else None}
    if not projection["proj:code"]:
        projection["proj:wkt2"] = grid.crs.to_wkt()
    now = datetime_to_str(dt.datetime.now(dt.timezone.utc))
    return projection | {
        "title": f"Burned-area intensity ({shown.title})",
        "description": f"{shown.description}: {shown.formula}, NBR = (NIR - SWIR) / (NIR + SWIR)",
        "start_datetime": datetime_to_str(min(times)),
        "end_datetime": datetime_to_str(max(times)),
        "created": now,
        "gsd": float(f"{math.sqrt(pixel_area(grid)):.3g}"),
        "proj:shape": list(grid.shape),
        "proj:transform": list(grid.affine)[:6],
        "proj:bbox": list(grid.boundingbox.bbox),
        # "Variables that are not directly measured … but are derived from these measurements".
        "processing:level": "L4",
        "processing:lineage": f"{shown.title} of the surface reflectance of {before} before and "
        f"{after} after the event",
        "processing:software": {"GDAL": rasterio.__gdal_version__}
        | {name: version(name) for name in _PACKAGES},
        "processing:datetime": now,
        "bai:index": index,
        "bai:severity": [
            {"name": one.name, "area_ha": round(hectares, 4)}
            | {k: v for k, v in (("lower", one.lower), ("upper", one.upper)) if math.isfinite(v)}
            for one, hectares in zip(SEVERITIES, statistics.hectares, strict=True)
        ],
        "bai:masked": dict(zip(("pre_event", "post_event"), pair.masked_classes, strict=True)),
        "bai:pixels_without_value": {
            "pre_event": statistics.without_value(0), "post_event": statistics.without_value(1),
        },
    }  # fmt: skip


def write_item(folder: Path, item: pystac.Item) -> None:
    """Write an item and a catalog that holds nothing else; all hrefs between files are relative."""
    catalog = pystac.Catalog(f"catalog-of-{item.id}", str(item.properties["description"]))
    catalog.set_self_href(str(folder / CATALOG))
    catalog.add_link(pystac.Link.item(item))
    item.set_self_href(str(folder / ITEM))
    item.set_parent(catalog)
    item.set_root(catalog)
    catalog.save(pystac.CatalogType.SELF_CONTAINED)


def _identifier(pair: Pair, index: str) -> str:
    """One for each map: scenes in whatever order, index, area, masks and calibration."""
    scenes = [[one.scene for one in side] for side in pair.events]
    days = [f"{min(one.datetime for one in side):%Y%m%d}" for side in scenes]
    parts = [
        [sorted((one.id, one.nir.offset, one.swir.offset) for one in side) for side in scenes],
        str(pair.grid), pair.outline, [sorted(classes) for classes in pair.masked],
    ]  # fmt: skip
    digest = hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:8]
    return "-".join(["bai", index, *days, digest])
