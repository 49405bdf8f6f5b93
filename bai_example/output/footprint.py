"""Where a grid lies on the globe, as STAC and GeoJSON say it: longitude and latitude, WGS84."""

from __future__ import annotations

from typing import Any

from rasterio.warp import transform_bounds, transform_geom

from bai_example.grid import Grid


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
