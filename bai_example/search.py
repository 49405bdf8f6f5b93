"""An event and an area -> the least cloudy pair that a STAC API has, for each tile of the area."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import pystac
import shapely
from pystac.utils import str_to_datetime
from pystac_client import Client
from shapely.geometry import box, shape
from shapely.geometry.base import BaseGeometry

from bai_example.access import InputError, is_remote, public, reading, stac_io
from bai_example.scenes import processing_baseline, utc

#: Items of one request, and items that a search may find: a year of one tile has 300.
PAGE, MAX_ITEMS = 100, 1000
#: The share of the area that a pair must add to those before it.
LEAST = 0.0005
#: Tile (MGRS; path and row of Landsat) and relative orbit in the names of items and products.
_TILE = re.compile(r"[_-]T?(\d{1,2}[C-HJ-NP-X][A-Z]{2}|\d{6})(?=[_.])")
_ORBIT = re.compile(r"_R0*(\d+)(?=[_.])")


class Acquisition(NamedTuple):
    """What choosing needs of an item."""

    document: Mapping[str, Any]  #: The item's JSON.
    href: str  #: Its URL; relative hrefs of assets are resolved against it.
    when: dt.datetime  #: Time of acquisition, UTC.
    tile: str  #: Such as ``10TFK`` or ``045032``; empty: unknown.
    orbit: str  #: Relative orbit of Sentinel-2; empty: unknown.
    cloud: float  #: Percent of the scene; 100 where it is unknown.
    version: tuple[Any, ...]  #: Greater is newer: processing baseline, times of processing.
    footprint: BaseGeometry  #: What it covers, WGS84, degrees.


class Choice(NamedTuple):
    """The items that are mapped."""

    pre: Sequence[Acquisition]  #: One for each tile; the map has the grid of the first.
    post: Sequence[Acquisition]  #: Of the same tiles in the same order.
    reasons: Sequence[str]  #: What was taken and why, line by line.


def area_of(bbox: Sequence[float] | None, geometry: Path | None) -> BaseGeometry | None:
    """The area of the map: a Polygon or MultiPolygon, WGS84; None: as far as the scenes reach.

    It is a box (west, south, east, north), or the polygons of a GeoJSON file.
    """
    if not (bbox or geometry):
        return None
    with reading(str(geometry), "GeoJSON"):
        if geometry:
            area = shapely.make_valid(shapely.from_geojson(geometry.read_bytes()))
            area = area.buffer(0)  # leaves the polygons only
    west, south, east, north = area.bounds if geometry else bbox
    if not (-180 <= west < east <= 180 >= east - west and -90 <= south < north <= 90):
        raise InputError(
            f"{geometry or f'bbox {bbox}'}: no area between west and east (±180°), south and north "
            "(±90°, WGS84); across the antimeridian, make one map for each side"
        )
    return area if geometry else box(*bbox)


def period(event: str, window: int = 30) -> tuple[dt.datetime, ...]:
    """The times to search, UTC: the first to the second, and the third to the last.

    Args:
        event: when it burned: a date (2021-07-14), a moment in RFC 3339 (UTC where it names no
            zone), or two of them with a slash between. Whole days, UTC, belong to the event: nobody
            knows on which side of it an acquisition of that day is.
        window: days before and after the event, at least 1.
    """
    with reading(f"event {event!r}, window {window}", "date (2021-07-14), interval or days"):
        first, last = event.split("/") if "/" in event else (event, event)
        begin, end = utc(str_to_datetime(first)), utc(str_to_datetime(last))
        end += dt.timedelta(days=len(last) == 10)
        if min(len(first), len(last)) < 10 or window < 1 or end < begin:
            raise ValueError("too short, or the end before the beginning")
        return begin - dt.timedelta(window), begin, end, end + dt.timedelta(window)


def search(
    api: str, collection: str, area: BaseGeometry, event: str, window: int = 30,
    max_cloud: float | None = None,
) -> Choice:  # fmt: skip
    """Search a STAC API, a URL, for the pair that covers an area, or the pairs of several tiles.

    Args:
        event: when it burned, see `period`; window: days to search before and after it.
        max_cloud: percent of cloud above which an acquisition is not taken; None: any.
    """
    first, *_, last = period(event, window)
    if not is_remote(api):
        raise InputError(f"{public(api)}: not an http(s) URL")
    with reading(api, "STAC API"), stac_io() as transport:
        client = Client.open(api, stac_io=transport, timeout=transport.timeout)
        answers = client.search(
            collections=[collection], bbox=area.bounds, datetime=(first, last),
            limit=PAGE, max_items=MAX_ITEMS + 1,
        )  # fmt: skip
        items = list(answers.items_as_dicts())
    if not items:
        raise InputError(f"{public(api)}: collection {collection} has nothing in area and period")
    if len(items) > MAX_ITEMS:
        raise InputError(f"more than {MAX_ITEMS} items; try a smaller area or --window")
    read = [one for item in items if (one := read_item(item, api))]
    return choose(read, area, event, window, max_cloud)


def read_item(document: Mapping[str, Any], api: str) -> Acquisition | None:
    """What choosing needs of an item; None if time or footprint are missing or impossible."""
    with suppress(InputError), reading(api):
        item = pystac.Item.from_dict(dict(document))
        properties, href = item.properties, str(item.get_self_href())
        if not is_remote(href):  # it must not pass for an item that may name local files
            href = public(api)
        keys = "grid:code", "s2:mgrs_tile", "s2:product_uri", "sentinel:product_id"
        names = [*map(properties.get, keys), item.id, f"R{properties.get('sat:relative_orbit')}"]
        name = f"_{'_'.join(map(str, names))}."
        tile, orbit = (m[1] if (m := form.search(name)) else "" for form in (_TILE, _ORBIT))
        cloud = properties.get("eo:cloud_cover")
        if not (isinstance(cloud, (int, float)) and 0 <= cloud <= 100):  # Landsat says -1
            cloud = 100.0
        times = map(properties.get, ("s2:generation_time", "landsat:product_generated", "updated"))
        version = processing_baseline(item) or 0, *(str(time or "") for time in times)
        when = utc(item.datetime or item.common_metadata.start_datetime)
        footprint = shapely.make_valid(shape(item.geometry))
        return Acquisition(document, href, when, tile, orbit, cloud, version, footprint)
    return None


def choose(
    found: Sequence[Acquisition], area: BaseGeometry, event: str, window: int = 30,
    max_cloud: float | None = None,
) -> Choice:  # fmt: skip
    """Choose the pairs, one for each tile and relative orbit as far as each adds to the area.

    The arguments are those of `search`.
    """
    first, begin, end, last = period(event, window)
    limit = 100.0 if max_cloud is None else max_cloud
    newest = {  # where an acquisition was processed again
        (one.tile, one.orbit, one.when.date()): one
        for one in sorted(found, key=lambda one: one.version)
        # Square degrees: no tile has so many, but one drawn the wrong way round the globe.
        if one.footprint.area < 100 and one.footprint.intersects(area)
    }
    nearest = sorted(newest.values(), key=lambda one: abs(one.when - begin))
    sides = [
        [one for one in nearest if since <= one.when < until and one.cloud <= limit]
        for since, until in ((first, begin), (end, last))
    ]
    reasons = [
        f"{len(sides[0])} scenes in {window} days before {event} and {len(sides[1])} after it have "
        f"at most {limit:g} % cloud"
    ]
    places = {one[3:5] for one in sides[0]} & {one[3:5] for one in sides[1]}
    pairs = [
        [ranked([[one] for one in side if one[3:5] == place], area)[0][0] for side in sides]
        for place in sorted(places)
    ]
    taken, left = [], area
    for pair in ranked(pairs, area):
        rest = left.difference(shown(pair, area))
        if left.area - rest.area > LEAST * area.area:
            taken.append(pair)
            left = rest
            reasons += [
                f"{side}-event {str(one.document['id'])[:100]!r}: {one.when:%Y-%m-%d %H:%M} UTC, "
                f"{one.cloud:.1f} % cloud, the best of tile {one.tile or '?'}, orbit "
                f"{one.orbit or '?'}"
                for side, one in zip(("pre", "post"), pair, strict=True)
            ]
    if not taken:
        raise InputError(
            *reasons, "no part of the area is covered both before and after on the same orbit",
            "try a larger --window, a higher --max-cloud or another --collection",
        )  # fmt: skip
    if (share := left.area / area.area) > LEAST:
        reasons.append(f"{share:.1%} of the area is not covered both before and after the event")
    return Choice(*zip(*taken, strict=True), reasons)


def ranked(
    options: Sequence[Sequence[Acquisition]], area: BaseGeometry
) -> list[Sequence[Acquisition]]:
    """Acquisitions or pairs, the best first: what shows the most, to a tenth; then least clouds."""
    most = max((shown(option, area).area for option in options), default=0) or 1
    return sorted(
        options,
        key=lambda option: (
            -round(shown(option, area).area / most, 1),
            sum(one.cloud for one in option),
            option[-1].when - option[0].when,
        ),
    )


def shown(option: Sequence[Acquisition], area: BaseGeometry) -> BaseGeometry:
    """The part of an area that all acquisitions show."""
    return shapely.intersection_all([area, *(one.footprint for one in option)])
