"""Scenes -> a pair on one grid: which pixels the map has, and which rasters each of them is in.

The map's grid is that of the first pre-event NIR raster. Every other raster lines up with it (each
SWIR pixel of 20 m covers four NIR pixels) or is refused; only in a mosaic a scene in another CRS,
beyond a UTM zone's edge, is warped as it is read, to the nearest pixel.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import rasterio
import shapely
from rasterio.warp import transform_bounds, transform_geom
from shapely.geometry import mapping, shape
from shapely.geometry.base import BaseGeometry

from bai_example.access import InputError, public
from bai_example.access import merged as all_of
from bai_example.grid import Grid
from bai_example.index import MASKS, NO_DATA, SATURATED, merged, reasons
from bai_example.lazy import Raster, open_raster
from bai_example.scenes import Scene

#: Most pixels of a map: 70 tiles of Sentinel-2. An item far away is a mistake, not a mosaic.
MOST_PIXELS = 2**33
#: What `Layers` calls the rasters of a scene that are no masks.
BANDS = ("NIR", "SWIR")


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

    grid: Grid
    #: Scenes before and after the event. The first that has a value for a pixel counts.
    pre: tuple[Layers, ...]
    post: tuple[Layers, ...]
    #: GeoJSON polygon in the map's CRS, outside of which there is no value.
    outline: Mapping[str, Any] | None = None

    def read(self, grid: Grid, masked: bool) -> list[list[Counts]]:
        """What the scenes of each event have of some pixels; those that have nothing are left out.

        Args:
            grid: the pixels, a part of the map's.
            masked: whether saturated pixels are left out.

        Raises:
            InputError: a file cannot be read, or is no mask; the message names it.
        """
        # Threads that live as long as the process, for GDAL keeps connections by thread. They are
        # where every copy of this function finds them: sent by value, each task has its own.
        readers = vars(rasterio).setdefault("_bai_readers", ThreadPoolExecutor(16))
        # All files at once: over a network most of the time is waiting.
        begun = [
            [(one, [readers.submit(r.read, grid) for r in one.rasters.values()]) for one in scenes]
            for scenes in (self.pre, self.post)
        ]
        events: list[list[Counts]] = [[], []]
        for found, scenes in zip(events, begun, strict=True):
            for layers, reads in scenes:
                counts = dict(zip(layers.rasters, (read.result() for read in reads), strict=True))
                codes = _codes(layers, counts, masked)
                if (codes != NO_DATA).any():
                    found.append(Counts(counts["NIR"], counts["SWIR"], codes, layers.scene))
        return events


def open_pair(
    pre: Sequence[Scene],
    post: Sequence[Scene],
    area: BaseGeometry | None = None,
    exact: bool = False,
    masked: bool = True,
) -> Pair:
    """Read the headers of all rasters and place them on one grid; the map covers what both do.

    Args:
        pre: scenes before the event, the one that the grid is taken from first.
        post: scenes after it.
        area: the part that is wanted, WGS84; None: all.
        exact: whether pixels of its surrounding rectangle that lie outside of it get no value.
        masked: whether the scenes' masks are wanted.

    Raises:
        InputError: a raster cannot be opened, or they do not share one grid, or do not overlap.
    """
    layers: dict[str, list[Layers]] = {"pre-event": [], "post-event": []}
    with ThreadPoolExecutor(8) as pool:  # most of it is waiting for servers
        begun = [[_begin(scene, masked, pool) for scene in scenes] for scenes in (pre, post)]
    opened, errors = [], []
    for event, scenes, headers in zip(layers, (pre, post), begun, strict=True):
        for n, scene in enumerate(scenes):
            rasters = {}
            for band, header in headers[n].items():
                name = f"{event} {band if band in BANDS else f'mask ({band})'}"
                name += f" of scene {n + 1}" if len(scenes) > 1 else ""
                try:
                    rasters[band] = header.result()
                    opened.append((name, rasters[band].grid, band == "NIR", len(scenes) > 1))
                except InputError as error:
                    hint = "" if band in BANDS else "; --no-mask goes without it"
                    errors.append(type(error)(*(f"{name}: {p}{hint}" for p in error.problems)))
            layers[event].append(Layers(scene, rasters))
    if errors:
        raise all_of(errors)
    reference = opened[0][1]
    apart = [
        f"{name}: the pixels do not line up: it has {grid}; pre-event NIR has {reference}"
        for name, grid, same_size, several in opened
        if (grid.crs == reference.crs or not several)
        and not grid.lines_up_with(reference, same_size)
    ]
    if apart:
        raise InputError(*apart)
    extents = {event: _extent(scenes, reference) for event, scenes in layers.items()}
    outline = None
    if area is not None:
        # Sides are lines in degrees; over 0.01 degrees a curve leaves its chord by less than 2 cm.
        dense = mapping(shapely.segmentize(area, 0.01))
        outline = transform_geom("EPSG:4326", reference.crs, dense)
        extents["the area asked for"] = shape(outline).envelope
    common = shapely.intersection_all(list(extents.values()))
    if not common.area:
        bounds = "west {:.10g}, south {:.10g}, east {:.10g}, north {:.10g}".format
        said = (f"{name} covers {bounds(*part.bounds)}" for name, part in extents.items())
        raise InputError(f"the scenes do not overlap: {'; '.join(said)}")
    whole = reference.window(common.bounds)
    if whole.height * whole.width > MOST_PIXELS:
        raise InputError(
            f"the map would have {whole.height} x {whole.width} pixels; choose a part of it with "
            "--bbox or --geometry, or leave out a scene that lies far away"
        )
    placed = (tuple(scenes) for scenes in layers.values())
    return Pair(reference.part(whole), *placed, outline if exact else None)


def _begin(scene: Scene, masked: bool, pool: ThreadPoolExecutor) -> dict[str, Future[Raster]]:
    """Begin to read the headers of a scene's rasters."""
    begun = {
        band: pool.submit(open_raster, file.href, file.nodata)
        for band, file in zip(BANDS, (scene.nir, scene.swir), strict=True)
    }
    for kind, href in scene.masks.items() if masked else ():
        begun[kind] = pool.submit(open_raster, href, MASKS[kind], own=False)
    return begun


def _extent(scenes: Sequence[Layers], reference: Grid) -> BaseGeometry:
    """The rectangle around all scenes of an event, in the CRS of the reference."""
    parts = []
    for layers in scenes:
        # With points along the sides, which are curves where the CRS differ.
        nir, swir = (
            shapely.box(*transform_bounds(grid.crs, reference.crs, *grid.bounds, densify_pts=21))
            for grid in (layers.rasters[band].grid for band in BANDS)
        )
        parts.append(shapely.intersection(nir, swir))
        if not parts[-1].area:
            raise InputError(f"{layers.scene.id}: its NIR and SWIR rasters do not overlap")
    return shapely.union_all(parts).envelope


def _codes(layers: Layers, counts: Mapping[str, np.ndarray], masked: bool) -> np.ndarray:
    """Why pixels of a scene are left out, by its masks and by the counts themselves."""
    codes = np.zeros(counts["NIR"].shape, np.uint8)
    for kind in MASKS.keys() & counts.keys():
        try:
            codes = merged(codes, reasons(counts[kind], kind))
        except TypeError as error:
            raise InputError(f"{public(layers.rasters[kind].href)}: {error}") from None
    for name, band in (("NIR", layers.scene.nir), ("SWIR", layers.scene.swir)):
        if masked and band.saturated is not None:
            over = counts[name] >= band.saturated
            if over.any():
                codes = merged(codes, over.view(np.uint8) * np.uint8(SATURATED))
        codes[counts[name] == layers.rasters[name].nodata] = NO_DATA
        if counts[name].dtype.kind == "f":
            codes[np.isnan(counts[name])] = NO_DATA
    return codes
