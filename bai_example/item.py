"""The STAC item that describes the map: where it lies, what it was made of, its statistics."""

from __future__ import annotations

import datetime as dt
import json
import os
from pathlib import Path
from typing import Any

import pystac
from rasterio.warp import transform_bounds, transform_geom

from bai_example import source
from bai_example.grid import Grid
from bai_example.stac import Scene
from bai_example.stats import Statistics

TITLE = "Burned-area intensity (dNBR)"

_PROJECTION = "https://stac-extensions.github.io/projection/v2.0.0/schema.json"
_RASTER = "https://stac-extensions.github.io/raster/v2.0.0/schema.json"


def write(
    path: Path, grid: Grid, statistics: Statistics, pre: Scene, post: Scene, folder: Path
) -> None:
    """Write the item as JSON.

    Args:
        path: the file to make.
        grid: the map's grid.
        statistics: the map's statistics.
        pre: the scene before the event.
        post: the scene after it.
        folder: where the item will lie; links to local files are relative to it.
    """
    document = make(grid, statistics, pre, post, folder).to_dict(
        include_self_link=False, transform_hrefs=False
    )
    path.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")


def make(grid: Grid, statistics: Statistics, pre: Scene, post: Scene, folder: Path) -> pystac.Item:
    """Make the item; the arguments are those of `write`."""
    item = pystac.Item(
        id=f"bai-{pre.id}-{post.id}",
        geometry=footprint(grid),
        bbox=bounding_box(grid),
        datetime=post.datetime,
        properties={
            "title": TITLE,
            "description": (
                f"NBR of {pre.id} minus NBR of {post.id}, NBR = (NIR - SWIR2) / (NIR + SWIR2)"
            ),
            "start_datetime": _utc(min(pre.datetime, post.datetime)),
            "end_datetime": _utc(max(pre.datetime, post.datetime)),
            "created": _utc(dt.datetime.now(dt.timezone.utc)),
            "gsd": grid.resolution[0],
            **_projection(grid),
            "bai:valid_percent": round(statistics.valid_percent, 4),
            "bai:severity": _severity(statistics),
        },
        stac_extensions=[_PROJECTION, _RASTER],
    )
    item.add_asset("bai", _map_asset(grid, statistics))
    quicklook = pystac.Asset("./bai.png", "Burn severity", None, "image/png", ["overview"])
    item.add_asset("quicklook", quicklook)
    for event, scene in (("pre-event", pre), ("post-event", post)):
        item.add_link(
            pystac.Link(
                "derived_from", _link(scene.href, folder), "application/geo+json",
                title=f"{event} scene {scene.id}",
            )
        )  # fmt: skip
    return item


def _map_asset(grid: Grid, statistics: Statistics) -> pystac.Asset:
    return pystac.Asset(
        "./bai.tif",
        TITLE,
        media_type="image/tiff; application=geotiff; profile=cloud-optimized",
        roles=["data"],
        extra_fields={
            "bands": [
                {
                    "name": "dnbr",
                    "description": "NBR before the event minus NBR after it",
                    "data_type": "float32",
                    "nodata": "nan",
                    "raster:sampling": "area",
                    "raster:spatial_resolution": grid.resolution[0],
                    "statistics": {
                        "minimum": statistics.minimum,
                        "maximum": statistics.maximum,
                        "mean": statistics.mean,
                        "stddev": statistics.deviation,
                        "count": statistics.valid,
                        "valid_percent": statistics.valid_percent,
                    },
                }
            ]
        },
    )


def _projection(grid: Grid) -> dict[str, Any]:
    code = grid.crs.to_authority()
    crs = {"proj:code": ":".join(code)} if code else {"proj:wkt2": grid.crs.to_wkt()}
    return crs | {
        "proj:shape": list(grid.shape),
        "proj:transform": list(grid.transform)[:6],
        "proj:bbox": list(grid.bounds),
    }


def _severity(statistics: Statistics) -> list[dict[str, Any]]:
    """The classes with their limits in dNBR (absent where open) and areas."""
    return [
        {"name": area.severity.name}
        | ({"lower": area.severity.lower} if abs(area.severity.lower) < 2 else {})
        | ({"upper": area.severity.upper} if abs(area.severity.upper) < 2 else {})
        | {"area_ha": round(area.hectares, 4), "percent": round(area.percent, 4)}
        for area in statistics.areas
    ]


def bounding_box(grid: Grid) -> list[float]:
    """West, south, east, north in WGS84; west > east where it crosses the antimeridian."""
    bounds = transform_bounds(grid.crs, "EPSG:4326", *grid.bounds, densify_pts=21)
    return [round(value, 7) for value in bounds]


def footprint(grid: Grid) -> dict[str, Any]:
    """The grid's outline in WGS84 as GeoJSON, cut where it crosses the antimeridian."""
    west, south, east, north = grid.bounds
    steps = [step / 8 for step in range(8)]
    # Points along the sides too: a straight line in UTM is a curve in longitude and latitude.
    ring = [(west, north - (north - south) * s) for s in steps]
    ring += [(west + (east - west) * s, south) for s in steps]
    ring += [(east, south + (north - south) * s) for s in steps]
    ring += [(east - (east - west) * s, north) for s in steps]
    outline = {"type": "Polygon", "coordinates": [[*ring, ring[0]]]}
    return dict(transform_geom(grid.crs, "EPSG:4326", outline, precision=7))


def _link(href: str, folder: Path) -> str:
    """A local item relative to the map's folder, so that both can be moved together."""
    return href if source.is_remote(href) else os.path.relpath(href, folder.absolute())


def _utc(when: dt.datetime) -> str:
    return when.astimezone(dt.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
