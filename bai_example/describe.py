"""What describes the map: a picture for people, a STAC item for machines."""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import math
import os
import platform
import re
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pystac
import rasterio
import shapely
from pystac.utils import datetime_to_str
from rasterio.enums import Resampling
from rasterio.warp import transform_bounds, transform_geom
from shapely.geometry import mapping

from bai_example.access import link, public
from bai_example.blocks import Statistics
from bai_example.index import INDICES, SEVERITIES
from bai_example.outputs import CATALOG, ITEM, MAP, QUICKLOOK, SEVERITY, rgba
from bai_example.pair import EVENTS, Pair
from bai_example.rasters import pixel_area

_EXTENSIONS = [
    f"https://stac-extensions.github.io/{name}/schema.json"
    for name in ("projection/v2.0.0", "raster/v2.0.0", "processing/v1.2.0", "classification/v2.0.0")
]
#: The severity map's codes: 0 where there is no value, then 1, 2, …
_CODES: list[dict[str, Any]] = [
    {"value": 0, "name": "no-value", "title": "No value", "nodata": True}
] + [
    {"value": value, "name": re.sub(r"\W+", "-", one.name).lower(), "title": one.name,
     "color_hint": one.color.lstrip("#").upper()}
    for value, one in enumerate(SEVERITIES, start=1)
]  # fmt: skip
_PACKAGES = ("dask-claim", "dask", "distributed", "numpy", "rasterio", "odc-geo")
_NBR = "NBR = (NIR - SWIR) / (NIR + SWIR)"
_NODATA, _TEXT = "#d4d4d4", {"family": "monospace", "size": 8.5}
#: Most pixels of the map along a side of the picture.
SHOWN = 1100


def import_matplotlib() -> None:
    """Import matplotlib without a trace in HOME, which may be read-only, or the output folder."""
    with tempfile.TemporaryDirectory() as cache:  # it keeps a list of fonts
        given = os.environ.setdefault("MPLCONFIGDIR", cache)
        try:
            import matplotlib.figure
            import matplotlib.font_manager  # noqa: F401
        finally:
            if given == cache:
                del os.environ["MPLCONFIGDIR"]


def draw(folder: Path, pair: Pair, index: str, statistics: Statistics) -> None:
    """Draw ``bai.png``: the severity classes in a folder, with areas, scale bar and coordinates."""
    import_matplotlib()
    from matplotlib.figure import Figure
    from mpl_toolkits.axes_grid1.anchored_artists import AnchoredSizeBar

    (rows, columns), bounds = pair.grid.shape, pair.grid.boundingbox
    smaller = max(1.0, rows / SHOWN, columns / SHOWN)
    with rasterio.open(folder / SEVERITY) as file:
        # Smaller, the class that most pixels have.
        shape = math.ceil(rows / smaller), math.ceil(columns / smaller)
        classes = file.read(1, out_shape=shape, resampling=Resampling.mode)
    colors = np.array([rgba(_NODATA), *(rgba(one.color) for one in SEVERITIES)], np.uint8)
    degrees = bool(pair.grid.crs.geographic)
    # In metres on the ground, so that a map in degrees is not drawn too wide.
    stretch = 1 / math.cos(math.radians(bounds.bbox[1] / 2 + bounds.bbox[3] / 2)) if degrees else 1
    axes = Figure((8, 6.6), dpi=150).add_axes((0, 0, 1, 1))
    unit = 1 if degrees else 1000
    west, south, east, north = (n / unit for n in bounds)
    axes.imshow(
        colors[classes], extent=(west, east, south, north), interpolation="nearest", aspect=stretch
    )
    axes.ticklabel_format(useOffset=False)
    axes.tick_params(labelsize=8)
    axes.set_xlabel("Longitude, °" if degrees else f"Easting, km ({pair.grid.crs})"[:40])
    axes.set_ylabel("Latitude, °" if degrees else "Northing, km")
    metres = math.sqrt(pixel_area(pair.grid) * rows * columns / bounds.span_x / bounds.span_y)
    metres *= unit / math.sqrt(stretch)  # for one of the axis
    bar = 10.0 ** math.floor(math.log10(metres * (east - west) / 3))
    bar *= max(step for step in (1, 2, 5) if step * bar <= metres * (east - west) / 3)
    name = f"{bar / 1000:g} km" if bar >= 1000 else f"{bar:g} m"
    axes.add_artist(AnchoredSizeBar(axes.transData, bar / metres, name, "lower left", borderpad=1))
    title = f"Burned-area intensity ({INDICES[index].title})"
    axes.set_title(title, loc="left", pad=48, fontsize=14, weight="bold")
    where: dict[str, Any] = {"xycoords": "axes fraction", "textcoords": "offset points"}
    axes.annotate(_caption(pair, statistics), (0, 1), (0, 8), **where, **_TEXT, linespacing=1.5)
    _legend(axes, statistics)
    axes.figure.savefig(folder / QUICKLOOK, bbox_inches="tight", pad_inches=0.2)


def _caption(pair: Pair, statistics: Statistics) -> str:
    lines = [
        f"{event:<6} {scenes[0].scene.datetime:%Y-%m-%d}  {scenes[0].scene.id[:70]}"
        + (f" and {len(scenes) - 1} more" if len(scenes) > 1 else "")
        for event, scenes in zip(("before", "after"), pair.events, strict=True)
    ]
    return "\n".join(lines) + (
        f"\nmean {statistics.mean:+.3f}, standard deviation {statistics.deviation:.3f}, "
        f"from {statistics.minimum:+.3f} to {statistics.maximum:+.3f}"
    )


def _legend(axes: Any, statistics: Statistics) -> None:
    """Beside the map, the worst on top: each class with its limits and area."""
    from matplotlib.patches import Patch

    entries = [(_NODATA, "No value", "", f"{100 - statistics.valid_percent:.1f} %")]
    for one, area in zip(SEVERITIES, statistics.hectares, strict=True):
        limits = f"{one.lower:+.2f} to {one.upper:+.2f}".replace("-inf to", "<")
        limits = f"≥ {one.lower:+.2f}" if math.isinf(one.upper) else limits
        entries.append((one.color, one.name, limits, f"{area:,.{0 if area >= 10 else 2}f}"))
    axes.legend(
        [Patch(facecolor=color, edgecolor="#666666") for color, *_ in entries[::-1]],
        [f"{name:<24}{limits:>14}{area:>12}" for _, name, limits, area in entries[::-1]],
        title=f"{'Burn severity':<30}{'dNBR':>14}{'hectares':>12}", title_fontproperties=_TEXT,
        prop=_TEXT, loc="upper left", bbox_to_anchor=(1.01, 1.02), frameon=False, labelspacing=1,
    )  # fmt: skip


def make_item(
    pair: Pair, index: str, statistics: Statistics, location: str, **more: Any
) -> pystac.Item:
    """Describe a map: STAC 1.1 with four extensions; what they have no field for is ``bai:…``.

    Args:
        location: where the item will lie, a folder or a URL; a folder's links to local items are
            relative, so that all of it can be moved together.
        more: of JSON types, such as the command; of URLs in it the query is cut off.
    """
    grid, crs, bounds = pair.grid, str(pair.grid.crs), pair.grid.boundingbox
    # Points along the sides: a straight line in UTM is a curve in longitude and latitude.
    ring = mapping(shapely.segmentize(grid.extent.geom, max(bounds.span_x, bounds.span_y) / 8))
    degrees = [round(n, 7) for n in transform_bounds(crs, "EPSG:4326", *bounds, densify_pts=21)]
    properties = _properties(pair, index, statistics)
    properties |= {f"bai:{k}": json.loads(public(json.dumps(v))) for k, v in more.items() if v}
    item = pystac.Item(
        _identifier(pair, index), dict(transform_geom(crs, "EPSG:4326", ring, precision=7)),
        degrees, max(one.scene.datetime for one in pair.events[1]), properties,
        stac_extensions=_EXTENSIONS,
    )  # fmt: skip
    band = {"raster:sampling": "area", "raster:spatial_resolution": properties["gsd"]}
    value = {
        "name": index, "description": INDICES[index].description,
        "data_type": "float32", "nodata": "nan", "statistics": {
            "minimum": statistics.minimum, "maximum": statistics.maximum, "mean": statistics.mean,
            "stddev": statistics.deviation, "count": statistics.valid,
            "valid_percent": statistics.valid_percent,
        },
    }  # fmt: skip
    coded = {"name": "severity", "data_type": "uint8", "nodata": 0}
    # The classes on the asset, not in its band, where the extension's schema would not look.
    classes = {"bands": [coded | band], "classification:classes": _CODES}
    picture = {"proj:code": None}  # it has title and legend: the map's projection is not its own
    cog, png, title = pystac.MediaType.COG, pystac.MediaType.PNG, properties["title"]
    for key, name, text, kind, role, fields in (
        ("bai", MAP, title, cog, "data", {"bands": [value | band]}),
        ("severity", SEVERITY, "Burn severity", cog, "data", classes),
        ("quicklook", QUICKLOOK, "Burn severity", png, "overview", picture),
    ):
        item.add_asset(key, pystac.Asset(f"./{name}", text, None, kind, [role], fields))
    for event, scenes in zip(EVENTS, pair.events, strict=True):
        for one in scenes:
            name, href = f"{event} scene {one.scene.id}", link(one.scene.href, location)
            item.add_link(pystac.Link("derived_from", href, pystac.MediaType.GEOJSON, name))
    return item


def _properties(pair: Pair, index: str, statistics: Statistics) -> dict[str, Any]:
    shown, grid, crs = INDICES[index], pair.grid, str(pair.grid.crs)
    times = [one.scene.datetime for scenes in pair.events for one in scenes]
    before, after = (", ".join(one.scene.id for one in scenes) for scenes in pair.events)
    masked = dict(zip(EVENTS, pair.masked_classes, strict=True))
    names = "; ".join(f"masked in the {event} scenes: {', '.join(classes) or 'nothing'}"
                      for event, classes in masked.items())  # fmt: skip
    code = crs if re.fullmatch(r"[A-Z]+:\d+", crs) else None
    now = datetime_to_str(dt.datetime.now(dt.timezone.utc))
    return {
        "title": f"Burned-area intensity ({shown.title})",
        "description": f"{shown.description}. {shown.formula}, {_NBR}",
        "start_datetime": datetime_to_str(min(times)),
        "end_datetime": datetime_to_str(max(times)),
        "created": now,
        "gsd": float(f"{math.sqrt(pixel_area(grid)):.3g}"),
        "proj:code": code,
        **({} if code else {"proj:wkt2": grid.crs.to_wkt()}),
        "proj:shape": list(grid.shape),
        "proj:transform": list(grid.affine)[:6],
        "proj:bbox": list(grid.boundingbox.bbox),
        # "Variables that are not directly measured … but are derived from these measurements".
        "processing:level": "L4",
        "processing:lineage": f"{shown.title} of {before} before and {after} after the event, from "
        f"surface reflectance; {names}",
        "processing:software": {
            "GDAL": rasterio.__gdal_version__, "Python": platform.python_version(),
        } | {name: version(name) for name in _PACKAGES},
        "processing:datetime": now,
        "bai:index": index,
        "bai:valid_percent": round(statistics.valid_percent, 4),
        "bai:severity": [
            {"name": one.name, "area_ha": round(hectares, 4),
             "percent": round(100 * float(count) / statistics.valid, 4)}
            | {k: v for k, v in (("lower", one.lower), ("upper", one.upper)) if math.isfinite(v)}
            for one, hectares, count in zip(
                SEVERITIES, statistics.hectares, statistics.classes[1:], strict=True)
        ],
        "bai:masked": {event.replace("-", "_"): classes for event, classes in masked.items()},
        "bai:pixels_without_value": {
            event.replace("-", "_"): statistics.without_value(n) for n, event in enumerate(EVENTS)
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
    days = [min(one.datetime for one in side).strftime("%Y%m%d") for side in scenes]
    parts = [
        [sorted((one.id, one.nir.offset, one.swir.offset) for one in side) for side in scenes],
        str(pair.grid), pair.outline, [sorted(classes) for classes in pair.masked],
    ]  # fmt: skip
    digest = hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:8]
    return "-".join(["bai", index, *days, digest])
