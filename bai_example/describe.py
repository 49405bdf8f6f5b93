"""What describes the map: a picture for people, a STAC item for machines."""

from __future__ import annotations

import contextlib
import datetime as dt
import hashlib
import json
import math
import os
import platform
import re
import tempfile
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import pystac
import rasterio
import shapely
from rasterio.enums import Resampling
from rasterio.warp import transform_bounds, transform_geom
from shapely.geometry import mapping

from bai_example.access import public
from bai_example.blocks import Statistics
from bai_example.index import CLASSES, INDICES, SEVERITIES
from bai_example.outputs import CATALOG, ITEM, MAP, QUICKLOOK, SEVERITY, rgba
from bai_example.pair import EVENTS, Pair
from bai_example.rasters import pixel_metres

_EXTENSIONS = [
    f"https://stac-extensions.github.io/{name}/schema.json"
    for name in ("projection/v2.0.0", "raster/v2.0.0", "processing/v1.2.0", "classification/v2.0.0")
]
_NBR = "NBR = (NIR - SWIR) / (NIR + SWIR)"
_NODATA = "#d4d4d4"


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
    from matplotlib.artist import Artist
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch
    from mpl_toolkits.axes_grid1.anchored_artists import AnchoredSizeBar

    class Pixels(Artist):
        """The image as it is: imshow would resample it, in 60 MB of floats."""

        def draw(self, renderer: Any) -> None:
            renderer.draw_image(renderer.new_gc(), *np.rint(axes.bbox.min), image[::-1])

    # In metres, so that a map in degrees is not drawn too wide.
    (rows, columns), (across, down, _) = pair.grid.shape, pixel_metres(pair.grid)
    scale = min(8.0 / (columns * across), 6.6 / (rows * down))
    size = columns * across * scale, rows * down * scale  # inches
    sides = [max(1, round(150 * inches)) for inches in size[::-1]]  # pixels of the picture
    shape = min(rows, sides[0]), min(columns, sides[1])
    with rasterio.open(folder / SEVERITY) as file:
        # Smaller, the class that most pixels have.
        classes = file.read(1, out_shape=shape, resampling=Resampling.mode)
    figure = Figure(size, dpi=150)
    axes = figure.add_axes((0, 0, 1, 1))
    degrees = bool(pair.grid.crs.geographic)
    west, south, east, north = (n if degrees else n / 1000 for n in pair.grid.boundingbox)
    colors = np.array([rgba(_NODATA), *(rgba(one.color) for one in SEVERITIES)], np.uint8)
    axes.set(xlim=(west, east), ylim=(south, north), facecolor="none")
    pixels = [np.arange(side) * n // side for side, n in zip(sides, shape, strict=True)]
    image = colors[classes[np.ix_(*pixels)]]
    figure.add_artist(Pixels())
    axes.ticklabel_format(useOffset=False)
    axes.tick_params(labelsize=8)
    axes.set_xlabel("Longitude, °" if degrees else f"Easting, km ({pair.grid.crs})"[:40])
    axes.set_ylabel("Latitude, °" if degrees else "Northing, km")
    bar = 10.0 ** math.floor(math.log10(columns * across / 3))
    bar *= max(step for step in (1, 2, 5) if step * bar <= columns * across / 3)
    name = f"{bar / 1000:g} km" if bar >= 1000 else f"{bar:g} m"
    length = (east - west) * bar / (columns * across)
    axes.add_artist(AnchoredSizeBar(axes.transData, length, name, "lower left", borderpad=0.8))
    title = f"Burned-area intensity ({INDICES[index].title})"
    axes.set_title(title, loc="left", pad=48, fontsize=14, weight="bold")
    lines = [
        f"{event:<6} {scenes[0].scene.datetime:%Y-%m-%d}  {scenes[0].scene.id[:70]}"
        + (f" and {len(scenes) - 1} more" if len(scenes) > 1 else "")
        for event, scenes in zip(("before", "after"), pair.events, strict=True)
    ] + [
        f"mean {statistics.mean:+.3f}, standard deviation {statistics.deviation:.3f}, "
        f"from {statistics.minimum:+.3f} to {statistics.maximum:+.3f}"
    ]
    style: dict[str, Any] = {"family": "monospace", "size": 8.5}
    where: dict[str, Any] = {"xycoords": "axes fraction", "textcoords": "offset points"}
    axes.annotate("\n".join(lines), (0, 1), (0, 8), **where, **style, linespacing=1.5)
    entries = [(_NODATA, "No value", "", f"{100 - statistics.valid_percent:.1f} %")]
    for one, area in zip(SEVERITIES, statistics.hectares, strict=True):
        limits = f"{one.lower:+.2f} to {one.upper:+.2f}".replace("-inf to", "<")
        limits = f"≥ {one.lower:+.2f}" if math.isinf(one.upper) else limits
        entries.append((one.color, one.name, limits, f"{area:,.{0 if area >= 10 else 2}f}"))
    axes.legend(
        [Patch(facecolor=color, edgecolor="#666666") for color, *_ in entries[::-1]],
        [f"{name:<24}{limits:>14}{area:>12}" for _, name, limits, area in entries[::-1]],
        title=f"{'Burn severity':<30}{'dNBR':>14}{'hectares':>12}", title_fontproperties=style,
        prop=style, loc="upper left", bbox_to_anchor=(1.01, 1.02), frameon=False, labelspacing=1,
    )  # fmt: skip
    figure.savefig(folder / QUICKLOOK, bbox_inches="tight", pad_inches=0.2)


def make_item(
    pair: Pair,
    index: str,
    statistics: Statistics,
    location: str,
    command: Sequence[str] = (),
    claim: Mapping[str, Any] | None = None,
) -> pystac.Item:
    """Describe a map: STAC 1.1 with four extensions; what they have no field for is ``bai:…``.

    Args:
        pair: the scenes and the map's grid.
        index: the name of what the map shows.
        statistics: the map's; at least one pixel has a value.
        location: where the item will lie, a folder or a URL; a folder's links to local items are
            relative, so that all of it can be moved together.
        command: program and arguments; of URLs in it the query is cut off.
        claim: the cluster that was requested, in JSON types.
    """
    shown, now, grid = INDICES[index], _utc(dt.datetime.now(dt.timezone.utc)), pair.grid
    title = f"Burned-area intensity ({shown.title})"
    sides = [[layers.scene for layers in scenes] for scenes in pair.events]
    times = [scene.datetime for scenes in sides for scene in scenes]
    before, after = (", ".join(scene.id for scene in scenes) for scenes in sides)
    masked = masked_classes(pair)
    metres = float(f"{math.sqrt(pixel_metres(grid)[2]):.3g}")
    areas = zip(SEVERITIES, statistics.hectares, statistics.classes[1:], strict=True)
    crs, bounds = str(grid.crs), grid.boundingbox.bbox
    properties: dict[str, Any] = {
        "title": title,
        "description": f"{shown.description}. {shown.formula}, {_NBR}",
        "start_datetime": _utc(min(times)),
        "end_datetime": _utc(max(times)),
        "created": now,
        "gsd": metres,
        "proj:code": crs if re.fullmatch(r"[A-Z]+:\d+", crs) else None,
        "proj:shape": list(grid.shape),
        "proj:transform": list(grid.affine)[:6],
        "proj:bbox": list(bounds),
        # "Variables that are not directly measured … but are derived from these measurements".
        "processing:level": "L4",
        "processing:lineage": f"{shown.title} of {before} before and {after} after the event, from "
        "surface reflectance; " + "; ".join(
            f"masked in the {event} scenes: {', '.join(classes) or 'nothing'}"
            for event, classes in zip(EVENTS, masked, strict=True)
        ),
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
        "bai:masked": dict(zip(("pre_event", "post_event"), masked, strict=True)),
        "bai:pixels_without_value": {
            side: statistics.without_value(n) for n, side in enumerate(("pre_event", "post_event"))
        },
        **({"bai:command": [public(argument) for argument in command]} if command else {}),
        **({"bai:claim": json.loads(public(json.dumps(claim)))} if claim else {}),
    }  # fmt: skip
    if not properties["proj:code"]:
        properties["proj:wkt2"] = grid.crs.to_wkt()
    # Points along the sides: a straight line in UTM is a curve in longitude and latitude.
    step = max(grid.boundingbox.span_x, grid.boundingbox.span_y) / 8
    ring = mapping(shapely.segmentize(shapely.box(*bounds), step))
    degrees = [round(n, 7) for n in transform_bounds(crs, "EPSG:4326", *bounds, densify_pts=21)]
    item = pystac.Item(
        _identifier(pair, index), dict(transform_geom(crs, "EPSG:4326", ring, precision=7)),
        degrees, max(scene.datetime for scene in sides[1]), properties, stac_extensions=_EXTENSIONS,
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
    for event, scenes in zip(EVENTS, sides, strict=True):
        for scene in scenes:
            name, href = f"{event} scene {scene.id}", _link(scene.href, location)
            item.add_link(pystac.Link("derived_from", href, pystac.MediaType.GEOJSON, name))
    return item


def masked_classes(pair: Pair) -> list[list[str]]:
    """The classes that are masked before and after: none where a scene of that side has no mask."""
    return [
        [name for name in CLASSES if name in masked and all(one.scene.masks for one in scenes)]
        for scenes, masked in zip(pair.events, pair.masked, strict=True)
    ]


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
    days = [min(one.scene.datetime for one in scenes).strftime("%Y%m%d") for scenes in pair.events]
    parts = [
        [sorted([one.scene.id, one.scene.nir.offset, one.scene.swir.offset] for one in scenes)
         for scenes in pair.events],
        str(pair.grid.crs), list(pair.grid.affine), list(pair.grid.shape), pair.outline,
        [sorted(classes) for classes in pair.masked],
    ]  # fmt: skip
    digest = hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:8]
    return "-".join(["bai", index, *days, digest])


def _software() -> dict[str, str]:
    """Name and version of what computes; a package that is not installed as one is left out."""
    versions = {"GDAL": rasterio.__gdal_version__, "Python": platform.python_version()}
    for name in ("dask-claim", "dask", "distributed", "numpy", "rasterio", "odc-geo"):
        with contextlib.suppress(PackageNotFoundError):
            versions[name] = version(name)
    return versions


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
