"""Scenes before and after the event -> their rasters, placed on the map's grid.

Only the headers are read here; the pixels are the workers' (see `read`). The map's grid is that of
the first pre-event NIR raster; where an event has several scenes, their tiles are put together.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any, NamedTuple

import rasterio
from rasterio.features import bounds as bounds_of
from rasterio.warp import transform_bounds, transform_geom
from shapely import segmentize
from shapely.geometry import mapping
from shapely.geometry import shape as geometry_of

from bai_example import gdal, source
from bai_example.errors import InputError, merged
from bai_example.grid import Box, Grid, Placement, covering, hull, overlap, place
from bai_example.pair import Pair, Raster, Source
from bai_example.scene import Band, Scene

#: Most pixels of a map: 70 tiles of Sentinel-2. An item far away is a mistake, not a mosaic.
MOST_PIXELS = 2**33


class Crop(NamedTuple):
    """The part of the scenes that is wanted."""

    geometry: Mapping[str, Any]
    """GeoJSON polygon, WGS84."""
    exact: bool
    """Whether pixels of the surrounding rectangle that lie outside of it get no value."""


class _Header(NamedTuple):
    grid: Grid
    nodata: float | None
    warp: Grid | None = None


def open_pair(
    pre: Sequence[Scene], post: Sequence[Scene], crop: Crop | None = None, masked: bool = True
) -> Pair:
    """Read the headers of all rasters and place them on one grid.

    Each SWIR2 pixel stands for exactly the NIR pixels it covers. The map covers what both events
    do. A scene of a mosaic in another CRS than the first (the next UTM zone) is brought onto the
    map's grid as it is read, each pixel taking the value of the nearest; else all must fit.

    Args:
        pre: scenes before the event, the one that the grid is taken from first.
        post: scenes after it.
        crop: the part that is wanted; None: all.
        masked: whether the scenes' masks are wanted.

    Raises:
        InputError: a raster cannot be opened, or they do not share one grid, or do not overlap.
    """
    events = {"pre-event": pre, "post-event": post}
    wanted = {
        f"{event} {name}" + (f" of scene {n}, {scene.id}" if len(scenes) > 1 else ""): (scene, band)
        for event, scenes in events.items()
        for n, scene in enumerate(scenes, 1)
        for name, band in _rasters(scene, masked)
    }
    headers = _headers({name: band for name, (_, band) in wanted.items()})
    reference_name = next(iter(headers))
    reference = headers[reference_name].grid
    mosaics = {id(scene) for scenes in events.values() if len(scenes) > 1 for scene in scenes}
    for name, (scene, _) in wanted.items():
        if id(scene) in mosaics and headers[name].grid.crs != reference.crs:
            grid = _brought_onto(headers[name].grid, reference)
            headers[name] = headers[name]._replace(grid=grid, warp=grid)
    placements = _place_all(headers, reference_name)
    placed = {
        event: tuple(_source(scene, wanted, headers, placements) for scene in scenes)
        for event, scenes in events.items()
    }
    outline, hulls = (
        None,
        {event: hull(s.box for s in sources) for event, sources in placed.items()},
    )
    if crop is not None:
        outline, hulls["the area asked for"] = _area(crop, reference)
    box = _map_box(hulls, reference)
    return Pair(
        reference.window(box),
        *(tuple(_moved(one, -box.top, -box.left) for one in placed[event]) for event in events),
        outline,
    )


def _rasters(scene: Scene, masked: bool) -> list[tuple[str, Band]]:
    masks = [
        (f"mask ({mask.kind})", Band(mask.href, 1.0, 0.0, None)) for mask in scene.masks if masked
    ]
    return [("NIR", scene.nir), ("SWIR2", scene.swir2), *masks]


def _headers(bands: Mapping[str, Band]) -> dict[str, _Header]:
    """All headers, read at once, for most of it is waiting for servers."""

    def header(item: tuple[str, Band]) -> _Header | InputError:
        name, band = item
        try:
            return _header(band)
        except InputError as error:
            hint = "; --no-mask goes without it" if "mask (" in name else ""
            return type(error)(*(f"{name}: {problem}{hint}" for problem in error.problems))

    with ThreadPoolExecutor(8) as pool:
        found = dict(zip(bands, pool.map(header, bands.items()), strict=True))
    if errors := [result for result in found.values() if isinstance(result, InputError)]:
        raise merged(errors)
    return {name: result for name, result in found.items() if isinstance(result, _Header)}


def _header(band: Band) -> _Header:
    """The grid and the nodata value of a band's raster."""

    def look(raster: rasterio.DatasetReader) -> tuple[Any, Any, tuple[int, int], float | None]:
        return raster.crs, raster.transform, raster.shape, raster.nodata

    crs, transform, shape, nodata = gdal.with_raster(band.href, look)
    name = source.public(band.href)
    if crs is None or not crs.is_projected:
        raise InputError(
            f"{name}: needs a projected CRS, such as UTM, but has "
            f"{crs.to_string() if crs else 'none'}"
        )
    if transform.b or transform.d or transform.a <= 0 or transform.e >= 0:
        raise InputError(f"{name}: is not north up (geotransform {tuple(transform)[:6]})")
    return _Header(Grid(crs, transform, shape), band.nodata if nodata is None else nodata)


def _brought_onto(grid: Grid, reference: Grid) -> Grid:
    """The grid around ``grid`` whose pixels are the reference's, or whole multiples of them."""
    bounds = transform_bounds(grid.crs, reference.crs, *grid.bounds, densify_pts=21)
    width, height = reference.resolution
    down = max(1, round(grid.resolution[1] / height))
    across = max(1, round(grid.resolution[0] / width))
    coarse = reference.coarser(down, across)
    return coarse.window(covering(bounds, coarse))


def _place_all(headers: Mapping[str, _Header], reference_name: str) -> dict[str, Placement]:
    """Place every raster on the reference; NIR rasters must be equally fine."""
    reference = headers[reference_name].grid
    placements: dict[str, Placement] = {}
    problems: list[str] = []
    for name, header in headers.items():
        try:
            placements[name] = place(header.grid, reference, name, reference_name)
        except InputError as error:
            problems += error.problems
            continue
        if " NIR" in name and placements[name].ratio != (1, 1):
            size = "{:.6g} x {:.6g}".format
            problems.append(
                f"the pixel sizes differ: {reference_name} has {size(*reference.resolution)}, "
                f"{name} has {size(*header.grid.resolution)}"
            )
    if problems:
        raise InputError(*problems)
    return placements


def _source(
    scene: Scene,
    wanted: Mapping[str, tuple[Scene, Band]],
    headers: Mapping[str, _Header],
    placements: Mapping[str, Placement],
) -> Source:
    """One scene's rasters together; positions count from the reference's corner."""
    rasters = [
        Raster(band, headers[name].nodata, placements[name], headers[name].warp)
        for name, (whose, band) in wanted.items()
        if whose is scene
    ]
    nir, swir2, *masks = rasters
    box = overlap(nir.placement.box, swir2.placement.box)
    if box is None:
        raise InputError(f"{scene.id}: its NIR and SWIR2 rasters do not overlap")
    kinds = [mask.kind for mask in scene.masks]
    return Source(nir, swir2, tuple(zip(kinds, masks, strict=False)), box)


def _area(crop: Crop, reference: Grid) -> tuple[Mapping[str, Any] | None, Box]:
    """The outline in the reference's CRS, if pixels outside of it are not wanted; its pixels."""
    if not crop.exact:
        bounds = bounds_of(crop.geometry)
        # With points along the sides, which are curves on the map.
        bounds = transform_bounds("EPSG:4326", reference.crs, *bounds, densify_pts=21)
        return None, covering(bounds, reference)
    # Likewise: over 0.01 degrees a curve leaves its chord by less than 2 cm.
    dense = mapping(segmentize(geometry_of(crop.geometry), 0.01))
    outline = transform_geom("EPSG:4326", reference.crs, dense)
    return outline, covering(bounds_of(outline), reference)


def _map_box(hulls: Mapping[str, Box], reference: Grid) -> Box:
    """The map's pixels, counted from the reference's corner: what all of ``hulls`` cover."""
    box: Box | None = next(iter(hulls.values()))
    for other in hulls.values():
        box = box and overlap(box, other)
    if box is None:
        extent = "west {:.10g}, south {:.10g}, east {:.10g}, north {:.10g}".format
        extents = "; ".join(
            f"{event} covers {extent(*reference.window(box).bounds)}"
            for event, box in hulls.items()
        )
        raise InputError(f"the scenes do not overlap: {extents}")
    if math.prod(box.shape) > MOST_PIXELS:
        raise InputError(
            f"the map would have {box.shape[0]} x {box.shape[1]} pixels; choose a part of it with "
            "--bbox or --geometry, or leave out a scene that lies far away"
        )
    return box


def _moved(source: Source, down: int, across: int) -> Source:
    """The same scene, with positions counted from elsewhere."""

    def raster(one: Raster) -> Raster:
        placement = one.placement._replace(box=one.placement.box.moved(down, across))
        return replace(one, placement=placement)

    return Source(
        raster(source.nir),
        raster(source.swir2),
        tuple((kind, raster(mask)) for kind, mask in source.masks),
        source.box.moved(down, across),
    )
