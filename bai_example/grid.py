"""Pixel grids: where the pixels of a raster lie, and how large they are."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import shapely
from rasterio import windows
from rasterio.transform import Affine, array_bounds
from rasterio.warp import transform_bounds, transform_geom
from rasterio.windows import Window
from shapely.geometry import mapping

#: How far, in pixels, two grids may drift apart anywhere before they count as different: above the
#: rounding of coordinates in file headers, far below what would move a value.
TOLERANCE = 0.001
#: WGS84: semi-major axis in metres, eccentricity. GRS80's differ by less than 1e-10.
_MAJOR, _E = 6378137.0, 0.0818191908426215


@dataclass(frozen=True)
class Grid:
    """The pixel grid of one raster: north up, square to the axes."""

    crs: Any  #: Projected or geographic, a ``rasterio.crs.CRS``.
    transform: Affine  #: (column, row) of a pixel's upper left corner -> coordinates.
    shape: tuple[int, int]  #: Rows and columns.

    def __str__(self) -> str:
        numbers = *self.resolution, self.transform.c, self.transform.f
        place = "pixels of {:.6g} x {:.6g} from ({:.10g}, {:.10g})".format(*numbers)
        return f"{place} in {self.crs.to_string()}"

    @property
    def profile(self) -> dict[str, Any]:
        """The same, as rasterio calls it."""
        rows, columns = self.shape
        return {"crs": self.crs, "transform": self.transform, "height": rows, "width": columns}

    @property
    def resolution(self) -> tuple[float, float]:
        """Width and height of a pixel, in units of the CRS."""
        return self.transform.a, -self.transform.e

    @property
    def bounds(self) -> tuple[float, float, float, float]:
        """West, south, east, north, in units of the CRS."""
        west, south, east, north = array_bounds(*self.shape, self.transform)
        return west, south, east, north

    def metres(self) -> tuple[np.ndarray, np.ndarray]:
        """Width and height of the pixels of each row, m; of those in degrees, on the ellipsoid."""
        width, height = self.resolution
        if not self.crs.is_geographic:
            factor = self.crs.linear_units_factor[1]
            return np.full(self.shape[0], width * factor), np.full(self.shape[0], height * factor)
        latitude = np.radians(self.transform.f - height * (np.arange(self.shape[0]) + 0.5))
        # Radii of curvature along the parallel and the meridian.
        root = np.sqrt(1 - (_E * np.sin(latitude)) ** 2)
        parallel, meridian = _MAJOR * np.cos(latitude) / root, _MAJOR * (1 - _E**2) / root**3
        return math.radians(width) * parallel, math.radians(height) * meridian

    def part(self, window: Window) -> Grid:
        """The pixels inside ``window``, which may reach beyond this grid."""
        corner = windows.transform(window, self.transform)
        return Grid(self.crs, corner, (window.height, window.width))

    def window(self, bounds: Sequence[float]) -> Window:
        """The pixels that some bounds (west, south, east, north) touch, also beyond this grid.

        A bound on the seam of two pixels, up to rounding, does not touch the one beyond.
        """
        left, bottom, right, top = self._pixels(bounds)
        left, top = math.floor(left + TOLERANCE), math.floor(top + TOLERANCE)
        right, bottom = math.ceil(right - TOLERANCE), math.ceil(bottom - TOLERANCE)
        return Window(left, top, right - left, bottom - top)

    def lines_up_with(self, reference: Grid, same_size: bool) -> bool:
        """Whether each pixel covers whole ones of another grid, or just one (``same_size``)."""
        if self.crs != reference.crs:
            return False
        edges = np.array(reference._pixels(self.bounds))
        sizes = (edges[2:] - edges[:2]) / self.shape[::-1] * (1, -1)
        off = max(np.abs(numbers - np.rint(numbers)).max() for numbers in (edges, sizes))
        least, most = np.rint(sizes).min(), np.rint(sizes).max()
        return bool(off <= TOLERANCE and least >= 1 and (most == 1 or not same_size))

    def _pixels(self, bounds: Sequence[float]) -> tuple[float, float, float, float]:
        """Left, bottom, right, top of some bounds, in pixels from the upper left corner."""
        (width, height), (west, south, east, north) = self.resolution, bounds
        x, y = self.transform.c, self.transform.f
        return (west - x) / width, (y - south) / height, (east - x) / width, (y - north) / height

    def bbox(self) -> list[float]:
        """West, south, east, north in WGS84; west > east where it crosses the antimeridian."""
        bounds = transform_bounds(self.crs, "EPSG:4326", *self.bounds, densify_pts=21)
        return [round(value, 7) for value in bounds]

    def footprint(self) -> dict[str, Any]:
        """The outline in WGS84 as GeoJSON, cut where it crosses the antimeridian."""
        west, south, east, north = self.bounds
        # Points along the sides: a straight line in UTM is a curve in longitude and latitude.
        ring = shapely.segmentize(shapely.box(*self.bounds), max(east - west, north - south) / 8)
        return dict(transform_geom(self.crs, "EPSG:4326", mapping(ring), precision=7))
