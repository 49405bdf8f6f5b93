"""Pixel grids: which pixel of one raster lies on which pixel of another.

All positions are counted in pixels of the reference grid (the pre-event NIR raster). A coarser
grid (SWIR2 at 20 m on NIR at 10 m) is accepted only when its pixels cover the reference pixels
exactly; nothing is ever resampled or shifted.
"""

from __future__ import annotations

from collections.abc import Mapping
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
    def bounds(self) -> tuple[float, float, float, float]:
        """West, south, east, north, in the units of the CRS."""
        rows, columns = self.shape
        west, north = self.transform.c, self.transform.f
        width, height = self.resolution
        return west, north - rows * height, west + columns * width, north

    def window(self, box: Box) -> Grid:
        """The part of this grid inside ``box``."""
        width, _, west, _, height, north, *_ = self.transform
        # By hand: affine 2 knows only `*` for this, affine 3 deprecates it for `@`.
        corner = Affine(width, 0, west + width * box.left, 0, height, north + height * box.top)
        return Grid(self.crs, corner, (box.bottom - box.top, box.right - box.left))


class Box(NamedTuple):
    """A rectangle of reference pixels, ends excluded."""

    top: int
    left: int
    bottom: int
    right: int


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


def common_box(grids: Mapping[str, Grid], placements: Mapping[str, Placement]) -> Box:
    """The reference pixels that every raster covers.

    Raises:
        InputError: there are none; the message gives every raster's extent.
    """
    boxes = [placement.box for placement in placements.values()]
    box = Box(
        max(b.top for b in boxes),
        max(b.left for b in boxes),
        min(b.bottom for b in boxes),
        min(b.right for b in boxes),
    )
    if box.top >= box.bottom or box.left >= box.right:
        extent = "west {:.10g}, south {:.10g}, east {:.10g}, north {:.10g}".format
        extents = "; ".join(f"{name} covers {extent(*grid.bounds)}" for name, grid in grids.items())
        raise InputError(f"the scenes do not overlap: {extents}")
    return box


def _crs_name(grid: Grid) -> str:
    code = grid.crs.to_epsg()
    return f"EPSG:{code}" if code else grid.crs.to_wkt()
