"""Pixel grids: which pixel of one raster lies on which pixel of another.

All positions are counted in pixels of the reference grid (the pre-event NIR raster). A coarser
grid (SWIR2 at 20 m on NIR at 10 m) is accepted only when its pixels cover the reference pixels
exactly; nothing is ever resampled or shifted.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from affine import Affine
from rasterio.crs import CRS

from bai_example.errors import InputError

#: How far, in reference pixels, two grids may drift apart anywhere before they count as different:
#: above the rounding of coordinates in file headers, far below what would move a value.
TOLERANCE = 0.001


@dataclass(frozen=True)
class Grid:
    """The pixel grid of one raster: north up, square to the axes."""

    crs: CRS
    """Coordinate reference system; projected."""
    transform: Affine
    """Pixel (column, row) of the upper left corner -> coordinates in the units of the CRS."""
    shape: tuple[int, int]
    """Rows and columns."""

    @property
    def resolution(self) -> tuple[float, float]:
        """Width and height of a pixel, in the units of the CRS."""
        return self.transform.a, -self.transform.e

    @property
    def pixel_area(self) -> float:
        """Area of a pixel in square metres."""
        width, height = self.resolution
        return float(width * height * self.crs.linear_units_factor[1] ** 2)

    @property
    def bounds(self) -> tuple[float, float, float, float]:
        """West, south, east, north, in the units of the CRS."""
        rows, columns = self.shape
        west, north = self.transform.c, self.transform.f
        width, height = self.resolution
        return west, north - rows * height, west + columns * width, north

    def window(self, box: Box) -> Grid:
        """The pixels inside ``box``, which may reach beyond this grid."""
        width, _, west, _, height, north, *_ = self.transform
        # By hand: affine 2 knows only `*` for this, affine 3 deprecates it for `@`.
        corner = Affine(width, 0, west + width * box.left, 0, height, north + height * box.top)
        return Grid(self.crs, corner, (box.bottom - box.top, box.right - box.left))

    def coarser(self, down: int, across: int) -> Grid:
        """The grid from the same corner whose pixels are ``down`` by ``across`` of these."""
        width, _, west, _, height, north, *_ = self.transform
        transform = Affine(width * across, 0, west, 0, height * down, north)
        return Grid(self.crs, transform, (self.shape[0] // down, self.shape[1] // across))


class Box(NamedTuple):
    """A rectangle of reference pixels, ends excluded."""

    top: int
    left: int
    bottom: int
    right: int

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.bottom - self.top, self.right - self.left

    def moved(self, down: int, across: int) -> Box:
        """The same rectangle, elsewhere."""
        return Box(self.top + down, self.left + across, self.bottom + down, self.right + across)


class Placement(NamedTuple):
    """Where a raster lies on the reference grid."""

    box: Box
    """The reference pixels it covers."""
    ratio: tuple[int, int]
    """Reference pixels per raster pixel, down and across."""


def place(grid: Grid, reference: Grid, name: str, reference_name: str) -> Placement:
    """Find where ``grid`` lies on ``reference``.

    Args:
        grid: a grid with pixels as large as the reference's, or a whole multiple.
        reference: the grid that positions are counted on.
        name: what ``grid`` belongs to, for messages.
        reference_name: what ``reference`` belongs to, for messages.

    Raises:
        InputError: another CRS, a resolution that is no multiple, or pixels that straddle.
    """

    def refuse(what: str, mine: object, theirs: object) -> InputError:
        return InputError(f"{what}: {reference_name} has {theirs}, {name} has {mine}")

    if grid.crs != reference.crs:
        raise refuse("the CRS differ", _crs_name(grid), _crs_name(reference))
    width, height = reference.resolution
    ratio = round(grid.resolution[1] / height), round(grid.resolution[0] / width)
    drift = max(
        abs(grid.resolution[1] / height - ratio[0]) * grid.shape[0],
        abs(grid.resolution[0] / width - ratio[1]) * grid.shape[1],
    )
    if min(ratio) < 1 or drift > TOLERANCE:
        raise refuse(
            "the pixel sizes do not fit",
            "{:.6g} x {:.6g}".format(*grid.resolution),
            f"{width:.6g} x {height:.6g}",
        )
    down = (reference.transform.f - grid.transform.f) / height
    across = (grid.transform.c - reference.transform.c) / width
    top, left = round(down), round(across)
    if max(abs(down - top), abs(across - left)) > TOLERANCE:
        raise refuse(
            f"the pixels do not line up (off by {across - left:+.3g} across, {down - top:+.3g} "
            "down, in pixels)",
            f"its corner at ({grid.transform.c:.10g}, {grid.transform.f:.10g})",
            f"({reference.transform.c:.10g}, {reference.transform.f:.10g})",
        )
    bottom, right = top + grid.shape[0] * ratio[0], left + grid.shape[1] * ratio[1]
    return Placement(Box(top, left, bottom, right), ratio)


def hull(boxes: Iterable[Box]) -> Box:
    """The smallest box around all of them."""
    tops, lefts, bottoms, rights = zip(*boxes, strict=True)
    return Box(min(tops), min(lefts), max(bottoms), max(rights))


def overlap(one: Box, other: Box) -> Box | None:
    """What two boxes share, None where they share nothing."""
    box = Box(
        max(one.top, other.top),
        max(one.left, other.left),
        min(one.bottom, other.bottom),
        min(one.right, other.right),
    )
    return box if box.top < box.bottom and box.left < box.right else None


def covering(bounds: tuple[float, float, float, float], reference: Grid) -> Box:
    """The reference pixels that ``bounds`` (west, south, east, north in its CRS) touch.

    They may lie beside the reference's own pixels.
    """
    west, south, east, north = bounds
    width, height = reference.resolution
    across, down = reference.transform.c, reference.transform.f
    # A bound on the seam of two pixels, up to rounding, does not touch the one beyond.
    return Box(
        math.floor((down - north) / height + TOLERANCE),
        math.floor((west - across) / width + TOLERANCE),
        math.ceil((down - south) / height - TOLERANCE),
        math.ceil((east - across) / width - TOLERANCE),
    )


def _crs_name(grid: Grid) -> str:
    code = grid.crs.to_epsg()
    return f"EPSG:{code}" if code else grid.crs.to_wkt()
