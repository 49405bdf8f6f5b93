"""Scenes -> a pair on one grid: which pixels the map has, and which rasters each of them is in.

The map's grid is that of the first pre-event NIR raster. Every other raster lines up with it (each
SWIR pixel of 20 m covers four NIR pixels) or is refused; only in a mosaic a scene in another CRS,
beyond a UTM zone's edge, is warped as it is read, to the nearest pixel.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import reduce
from operator import and_, or_
from typing import Any, NamedTuple

import numpy as np
from odc.geo.geobox import GeoBox
from odc.geo.geom import Geometry
from shapely.geometry.base import BaseGeometry

from bai_example.access import InputError, all_at_once, public, raise_all
from bai_example.index import CLASSES, MASKS, NO_DATA, OUTSIDE, SATURATED, merged, reasons
from bai_example.rasters import Raster, open_raster
from bai_example.scenes import Scene

#: How far, in pixels, two grids may drift apart anywhere before they count as different: above the
#: rounding of coordinates in file headers, far below what would move a value.
TOLERANCE = 0.001
#: Most pixels of a map: 70 tiles of Sentinel-2. An item far away is a mistake, not a mosaic.
MOST_PIXELS = 2**33
#: The rasters of a scene that are no masks, and the sides of a pair.
BANDS, EVENTS = ("NIR", "SWIR"), ("pre-event", "post-event")
#: The reasons that count before and after the event.
Masked = tuple[frozenset[str], frozenset[str]]
#: Files of a block are read at once, for most of it is waiting; by threads that live as long as the
#: process, for GDAL keeps connections by thread.
_READERS = ThreadPoolExecutor(16)


@dataclass(frozen=True)
class Layers:
    """One scene and its rasters: `BANDS` and, by their kinds, masks."""

    scene: Scene
    rasters: Mapping[str, Raster]


class Counts(NamedTuple):
    """What one scene has of some pixels."""

    nir: np.ndarray
    swir: np.ndarray
    codes: np.ndarray  #: Why pixels are left out: codes of `index.REASONS`.
    scene: Scene


@dataclass(frozen=True)
class Pair:
    """Both events' scenes on one grid: all that a worker needs to compute a part of the map."""

    grid: GeoBox
    #: Scenes before and after the event. The first that has a value for a pixel counts.
    events: Sequence[Sequence[Layers]]
    masked: Masked
    #: GeoJSON in the map's CRS, outside of which there is no value.
    outline: Mapping[str, Any] | None = None

    @property
    def masked_classes(self) -> list[list[str]]:
        """What is masked before and after: nothing where a scene of that side has no mask."""
        return [
            [name for name in CLASSES if name in masked and all(one.scene.masks for one in scenes)]
            for scenes, masked in zip(self.events, self.masked, strict=True)
        ]

    def read(self, grid: GeoBox) -> list[list[Counts]]:
        """What the scenes of each event have of some pixels; scenes without any are left out."""
        begun = [
            [(one, [_READERS.submit(r.read, grid) for r in one.rasters.values()]) for one in scenes]
            for scenes in self.events
        ]
        events: list[list[Counts]] = [[], []]
        for event, scenes, masked in zip(events, begun, self.masked, strict=True):
            for layers, reads in scenes:
                counts = dict(zip(layers.rasters, (read.result() for read in reads), strict=True))
                codes = _codes(layers, counts, masked)
                if (codes != NO_DATA).any():
                    event.append(Counts(counts["NIR"], counts["SWIR"], codes, layers.scene))
        return events


def _codes(layers: Layers, counts: Mapping[str, np.ndarray], masked: Collection[str]) -> np.ndarray:
    """Why pixels of a scene are left out, by its masks and by the counts themselves."""
    codes = np.zeros(counts["NIR"].shape, np.uint8)
    for kind in MASKS.keys() & counts.keys():
        try:
            codes = merged(codes, reasons(counts[kind], kind, masked))
        except TypeError as error:
            raise InputError(f"{public(layers.rasters[kind].href)}: {error}") from None
    for name, band in zip(BANDS, (layers.scene.nir, layers.scene.swir), strict=True):
        if "saturated" in masked and band.saturated is not None:
            over = counts[name] >= band.saturated
            if over.any():
                codes = merged(codes, over.view(np.uint8) * np.uint8(SATURATED))
        codes[counts[name] == layers.rasters[name].nodata] = NO_DATA
        if counts[name].dtype.kind == "f":
            codes[np.isnan(counts[name])] = NO_DATA
    return codes


def open_pair(
    pre: Sequence[Scene], post: Sequence[Scene], masked: Masked,
    area: BaseGeometry | None = None, exact: bool = False,
) -> Pair:  # fmt: skip
    """Read the headers of all rasters and place them on one grid; the map covers what both do.

    Args:
        pre: scenes before the event, the one that the grid is taken from first; post: after it.
        masked: the `index.REASONS` that count, before and after; where none do, masks are not read.
        area: the part that is wanted, WGS84; None: all.
        exact: whether pixels of its surrounding rectangle that lie outside of it get no value.
    """
    with ThreadPoolExecutor(8) as pool:  # most of it is waiting for servers
        begun = [
            [(scene, {name: pool.submit(open_raster, *file) for name, file in _files(scene, its)})
             for scene in scenes]
            for scenes, its in zip((pre, post), masked, strict=True)
        ]  # fmt: skip
    events: list[list[Layers]] = []
    errors: list[InputError] = []
    for event, scenes in zip(EVENTS, begun, strict=True):
        events.append([])
        for scene, files in scenes:
            rasters = {}
            for name, file in files.items():
                hint = "" if name in BANDS else "; --no-mask goes without it"
                with all_at_once(f"{event} {name}", errors, hint):
                    rasters[name] = file.result()
            events[-1].append(Layers(scene, rasters))
    raise_all(errors)
    grid = events[0][0].rasters["NIR"].grid
    if apart := [*_apart(events, grid)]:
        raise InputError(*apart)
    extents = {event: _extent(scenes, grid) for event, scenes in zip(EVENTS, events, strict=True)}
    if area is not None:
        # Sides are lines in degrees; over 0.01 degrees a curve leaves its chord by less than 2 cm.
        extents["the area"] = Geometry(area, "EPSG:4326").to_crs(grid.crs, resolution=0.01)
    outline = extents["the area"].json if exact else None
    return Pair(_common(grid, extents), events, masked, outline)


def _files(scene: Scene, masked: Collection[str]) -> Iterator[tuple[str, tuple[Any, ...]]]:
    """The names of a scene's rasters, and what `open_raster` is given."""
    for name, band in zip(BANDS, (scene.nir, scene.swir), strict=True):
        yield name, (band.href, band.nodata)
    for kind, href in scene.masks.items() if masked else ():
        yield kind, (href, OUTSIDE[kind], False)


def _apart(events: Sequence[Sequence[Layers]], reference: GeoBox) -> Iterator[str]:
    """What is wrong with grids that do not line up; a scene of a mosaic may be in another CRS."""
    for event, scenes in zip(EVENTS, events, strict=True):
        for band, raster in (pair for one in scenes for pair in one.rasters.items()):
            warped = len(scenes) > 1 and raster.grid.crs != reference.crs
            if not (warped or lines_up(raster.grid, reference, same_size=band == "NIR")):
                yield (
                    f"{event} {band}: {public(raster.href)}: the pixels do not line up: it has "
                    f"{_described(raster.grid)}; pre-event NIR has {_described(reference)}"
                )


def lines_up(grid: GeoBox, reference: GeoBox, same_size: bool) -> bool:
    """Whether each pixel covers whole ones of another grid, or just one (``same_size``)."""
    if grid.crs != reference.crs:
        return False
    to_reference = ~reference.affine * grid.affine
    sizes = np.array([to_reference.a, to_reference.e])
    numbers = np.array([*sizes, *to_reference * (0, 0), *to_reference * grid.shape.xy])
    aligned = np.abs(numbers - np.rint(numbers)).max() <= TOLERANCE and np.rint(sizes).min() >= 1
    return bool(aligned and (np.rint(sizes).max() == 1 or not same_size))


def _described(grid: GeoBox) -> str:
    a = grid.affine
    return f"pixels of {a.a:.6g} x {-a.e:.6g} from ({a.c:.10g}, {a.f:.10g}) in {grid.crs}"


def _extent(scenes: Sequence[Layers], reference: GeoBox) -> Geometry:
    """What all scenes of an event cover, in the CRS of the reference."""
    parts = []
    for layers in scenes:
        # With points along the sides, which are curves where the CRS differ.
        boxes = [
            grid.extent.to_crs(reference.crs, resolution=grid.boundingbox.span_x / 20)
            for grid in (layers.rasters[band].grid for band in BANDS)
        ]
        parts.append(reduce(and_, boxes))
    return reduce(or_, parts)


def _common(grid: GeoBox, extents: Mapping[str, Geometry]) -> GeoBox:
    """The pixels that the rectangles around all extents share."""
    boxes = {name: extent.envelope for name, extent in extents.items()}
    # A bound on the seam of two pixels, up to rounding, does not touch the one beyond.
    common = reduce(and_, boxes.values()).buffer(-TOLERANCE * grid.affine.a)
    if common.is_empty:
        bounds = "west {:.10g}, south {:.10g}, east {:.10g}, north {:.10g}".format
        covers = (f"{name} covers {bounds(*box.boundingbox)}" for name, box in boxes.items() if box)
        raise InputError(f"the scenes do not overlap: {'; '.join(covers)}")
    found = grid.enclosing(common)
    if found.shape[0] * found.shape[1] > MOST_PIXELS:
        raise InputError(
            f"the map would have {found.shape[0]} x {found.shape[1]} pixels; choose a part of it "
            "with --bbox or --geometry, or leave out a scene that lies far away"
        )
    return found
