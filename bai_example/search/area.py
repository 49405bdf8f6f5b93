"""The area of interest: a box or GeoJSON in, one valid polygon in WGS84 out."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import shapely
from shapely.geometry import MultiPolygon, Polygon, box, mapping, shape
from shapely.geometry.base import BaseGeometry
from shapely.geometry.polygon import orient

from bai_example.errors import InputError

#: Largest GeoJSON file read, in bytes.
MAX_BYTES = 16 * 1024 * 1024
#: Polygons with more points are taken as their bounding box when they are an item's footprint,
#: which has a dozen, and when they are sent to an API, which limits the size of a request.
MAX_POINTS = 1000


@dataclass(frozen=True)
class Area:
    """The area that was asked for."""

    geometry: dict[str, Any]
    """GeoJSON Polygon or MultiPolygon: longitude and latitude in degrees, WGS84."""

    @classmethod
    def from_bbox(cls, west: float, south: float, east: float, north: float) -> Area:
        """The area of a box, in degrees.

        Raises:
            InputError: it is no box within ±180° and ±90°, or crosses the antimeridian.
        """
        name = f"bbox {west:g} {south:g} {east:g} {north:g}"
        if not all(map(math.isfinite, (west, south, east, north))):
            raise InputError(f"{name}: these are not four numbers")
        _check_range(name, (west, south, east, north))
        if west > east:
            raise InputError(
                f"{name}: west is greater than east; "
                "across the antimeridian, make one map for each side"
            )
        if west == east or south >= north:
            raise InputError(f"{name}: it has no area; the order is west south east north")
        return cls(mapping(box(west, south, east, north)))

    @classmethod
    def from_file(cls, path: Path | str) -> Area:
        """The area of all polygons in a GeoJSON file: geometry, Feature or FeatureCollection.

        Raises:
            InputError: it cannot be read, is no GeoJSON, or its polygons cannot be used.
        """
        polygons: list[BaseGeometry] = []
        try:
            for geometry in _geometries(_read(Path(path))):
                polygons += _polygons(shape(geometry))
        except InputError:
            raise
        except Exception as error:  # shapely lets every kind through for malformed coordinates
            raise InputError(
                f"{path}: not GeoJSON that can be used ({type(error).__name__})"
            ) from None
        if not polygons:
            raise InputError(f"{path}: no Polygon or MultiPolygon in it")
        whole = shapely.union_all(polygons)
        _check_range(str(path), whole.bounds)
        if whole.bounds[2] - whole.bounds[0] > 180:
            raise InputError(
                f"{path}: wider than 180°; across the antimeridian, make one map for each side"
            )
        return cls(mapping(_multipolygon(_polygons(whole))))

    @cached_property
    def shape(self) -> BaseGeometry:
        """The geometry, for computing; units are degrees."""
        return shape(self.geometry)

    @property
    def bounds(self) -> tuple[float, float, float, float]:
        """West, south, east, north in degrees."""
        return self.shape.bounds

    def __str__(self) -> str:
        return "{:.4f} {:.4f} {:.4f} {:.4f}".format(*self.bounds)


def footprint(item: Mapping[str, Any]) -> BaseGeometry | None:
    """What an item covers, in degrees: its geometry, else its bbox; None if neither can be used.

    A polygon that is wider than 180° is drawn across the antimeridian: it is cut there.
    """
    try:
        geometry = item.get("geometry")
        whole = shape(geometry) if geometry else box(*_flat_box(item["bbox"]))
        if shapely.get_num_coordinates(whole) > MAX_POINTS:
            whole = whole.envelope
        parts = [part for polygon in _polygons(whole) for part in _cut(polygon)]
        return shapely.union_all(parts) if parts else None
    except Exception:  # malformed in any way
        return None


def _flat_box(bbox: list[float]) -> list[float]:
    west, south, east, north = bbox if len(bbox) == 4 else (*bbox[:2], *bbox[3:5])
    return [west, south, east + 360 if west > east else east, north]


def _cut(polygon: BaseGeometry) -> list[BaseGeometry]:
    west, _, east, _ = polygon.bounds
    if east - west > 180 and east <= 180:
        polygon = shapely.transform(polygon, lambda xy: xy + (xy[:, :1] < 0) * [360, 0])
    inside = polygon.intersection(box(-180, -90, 180, 90))
    beyond = polygon.intersection(box(180, -90, 540, 90))
    moved = shapely.transform(beyond, lambda xy: xy - [360, 0])
    return [*_polygons(inside), *_polygons(moved)]


def _geometries(document: Any) -> Iterator[Mapping[str, Any]]:
    kind = document.get("type")
    if kind == "FeatureCollection":
        for feature in document["features"]:
            yield from _geometries(feature)
    elif kind == "Feature":
        if document["geometry"]:
            yield document["geometry"]
    else:
        yield document


def _polygons(geometry: BaseGeometry) -> list[BaseGeometry]:
    """The valid polygons with an area that a geometry is made of."""
    if not all(map(math.isfinite, geometry.bounds)):
        return []
    valid = shapely.make_valid(shapely.force_2d(geometry))
    parts = shapely.get_parts(shapely.get_parts(valid))
    return [part for part in parts if isinstance(part, Polygon) and part.area > 0]


def _multipolygon(polygons: list[BaseGeometry]) -> BaseGeometry:
    # RFC 7946, 3.1.6: outer rings counterclockwise.
    oriented = [orient(polygon) for polygon in polygons]
    return oriented[0] if len(oriented) == 1 else MultiPolygon(oriented)


def _check_range(name: str, bounds: tuple[float, ...]) -> None:
    west, south, east, north = bounds
    if not (-180 <= west <= 180 and -180 <= east <= 180 and south >= -90 and north <= 90):
        raise InputError(
            f"{name}: coordinates must be longitude (±180) and latitude (±90) in degrees, WGS84"
        )


def _read(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            text = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None
    if len(text) > MAX_BYTES:
        raise InputError(f"{path}: larger than {MAX_BYTES // 2**20} MiB")
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: not JSON ({error})") from None
    if not isinstance(document, dict):
        raise InputError(f"{path}: not GeoJSON (a JSON {type(document).__name__})")
    return document
