"""An event and an area -> the least cloudy pair that a STAC API has, for each tile of the area.

What decides is the part of the area that both acquisitions show, less the share of clouds that
their items state: a tile at the edge of the swath is partly empty.
"""

from __future__ import annotations

import datetime as dt
import math
import re
import urllib.parse
import warnings
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import antimeridian
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

    pre: Sequence[Acquisition]  #: One for each tile; that which shows most of the area first.
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
        methods = {link.extra_fields.get("method") for link in client.get_links("search")}
        answers = client.search(
            method="POST" if "POST" in methods else "GET", collections=[collection],
            bbox=area.bounds, datetime=(first, last), limit=PAGE, max_items=MAX_ITEMS + 1,
        )  # fmt: skip
        items = list(answers.items_as_dicts())
    if not items:
        raise InputError(f"{public(api)}: collection {collection} has nothing in area and period")
    if len(items) > MAX_ITEMS:
        raise InputError(f"more than {MAX_ITEMS} items; try a smaller area or --window")
    read = [one for item in items if (one := read_item(item, api, collection))]
    return choose(read, area, event, window, max_cloud)


def read_item(document: Mapping[str, Any], api: str, collection: str) -> Acquisition | None:
    """What choosing needs of an item; None if time or footprint are missing or impossible."""
    with suppress(Exception), warnings.catch_warnings():  # whatever a malformed one raises
        warnings.simplefilter("ignore")  # of old versions, of rings that are wound the other way
        item = pystac.Item.from_dict(dict(document))
        properties, href = item.properties, str(item.get_self_href())
        if not is_remote(href):  # it must not pass for an item that may name local files
            names = (urllib.parse.quote(name, safe="") for name in (collection, item.id))
            href = "{}/collections/{}/items/{}".format(public(api).rstrip("/"), *names)
        keys = "grid:code", "s2:mgrs_tile", "s2:product_uri", "sentinel:product_id"
        names = [*map(properties.get, keys), item.id, f"R{properties.get('sat:relative_orbit')}"]
        name = f"_{'_'.join(map(str, names))}."
        tile, orbit = (m[1] if (m := form.search(name)) else "" for form in (_TILE, _ORBIT))
        cloud = properties.get("eo:cloud_cover")
        if not (isinstance(cloud, (int, float)) and 0 <= cloud <= 100):  # Landsat says -1
            cloud = 100.0
        times = map(properties.get, ("s2:generation_time", "landsat:product_generated", "updated"))
        version = processing_baseline(item) or (0, 0), *(str(time or "") for time in times)
        geometry = shape(antimeridian.fix_geojson(item.geometry, fix_winding=True))
        when = utc(item.datetime or item.common_metadata.start_datetime)
        footprint = shapely.make_valid(geometry)
        return Acquisition(document, href, when, tile, orbit, cloud, version, footprint)
    return None


def choose(
    found: Sequence[Acquisition], area: BaseGeometry, event: str, window: int = 30,
    max_cloud: float | None = None,
) -> Choice:  # fmt: skip
    """Choose the pairs; the arguments are those of `search`.

    Of each tile and relative orbit the acquisition that shows most of the area without clouds,
    before and after; ties go to the nearest to the event.
    """
    first, begin, end, last = period(event, window)
    limit = 100.0 if max_cloud is None else max_cloud
    newest = {  # where an acquisition was processed again
        (one.tile, one.orbit, one.when.date()): one
        for one in sorted(found, key=lambda one: one.version)
        # Square degrees: no tile has so many, but one drawn the wrong way round the globe.
        if one.footprint.area < 100 and shown([one], area, area)
    }.values()
    sides = [
        [one for one in newest if since <= one.when < until]
        for since, until in ((first, begin), (end, last))
    ]
    clear = [[one for one in side if one.cloud <= limit] for side in sides]
    searched = (
        f"{len(sides[0])} scenes in {window} days before {event} and {len(sides[1])} after it, "
        f"{len(clear[0])} and {len(clear[1])} of them with at most {limit:g} % cloud"
    )
    places = sorted({one[3:5] for one in clear[0]} & {one[3:5] for one in clear[1]})
    pairs = [
        [min((one for one in side if one[3:5] == place),
             key=lambda one: (-shown([one], area, area), abs(one.when - begin)))
         for side in clear]
        for place in places
    ]  # fmt: skip
    taken, left = cover(pairs, area)
    if not taken:
        raise InputError(
            searched, "no part of the area is covered both before and after on the same orbit",
            "try a larger --window, a higher --max-cloud or another --collection",
        )  # fmt: skip
    reasons = [searched] + [
        f"{side}-event {str(one.document['id'])[:100]!r}: {one.when:%Y-%m-%d %H:%M} UTC, "
        f"{one.cloud:.1f} % cloud, the best of tile {one.tile or '?'}, orbit {one.orbit or '?'}"
        for pair in taken
        for side, one in zip(("pre", "post"), pair, strict=True)
    ]
    if (share := left.area / area.area) > 0.0005:
        reasons.append(f"{share:.1%} of the area is not covered both before and after the event")
    return Choice(*zip(*taken, strict=True), reasons)


def shown(scenes: Sequence[Acquisition], part: BaseGeometry, area: BaseGeometry) -> float:
    """How much of a part all scenes show, less the share of their clouds; 1 is the whole area."""
    common = shapely.intersection_all([part, *(one.footprint for one in scenes)])
    # 101: what is all cloud, or unknown, is better than none.
    clear = math.prod(1 - one.cloud / 101 for one in scenes)
    return round(common.area / area.area * clear, 6)


def cover(
    pairs: Sequence[Sequence[Acquisition]], area: BaseGeometry
) -> tuple[list[Sequence[Acquisition]], BaseGeometry]:
    """The pairs that together show most, one for a tile, and the part that they do not cover.

    Pair by pair the one that adds most, as long as one adds something; of equals the one with the
    shortest time between.
    """
    taken, left = [], area
    while pairs:
        best = max(pairs, key=lambda pair: (shown(pair, left, area), pair[0].when - pair[1].when))
        if not shown(best, left, area):
            break
        taken.append(best)
        left = left.difference(shapely.intersection(best[0].footprint, best[1].footprint))
        pairs = [pair for pair in pairs if pair[0].tile != best[0].tile]
    return taken, left
