"""An event and an area -> the least cloudy pair that a STAC API has, for each tile of the area.

What an acquisition loses of its tile's part of the area is what decides: clouds, as its item
states them for the whole scene, and the part that it does not cover (a tile at the edge of the
swath is partly empty, and would else win with 0 % cloud over a strip).
"""

from __future__ import annotations

import datetime as dt
import itertools
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

from bai_example.access import InputError, Transport, is_remote, public, reading
from bai_example.scenes import processing_baseline, utc

#: Items asked for in one request, and items that a search may find: a year of one tile has 300.
PAGE, MAX_ITEMS = 100, 1000
#: Tile (MGRS; path and row of Landsat) and relative orbit in the names of items and products.
_TILE = re.compile(r"[_-]T?(\d{1,2}[C-HJ-NP-X][A-Z]{2}|\d{6})(?=[_.])")
_ORBIT = re.compile(r"_R0*(\d+)(?=[_.])")


class Acquisition(NamedTuple):
    """What choosing needs of an item."""

    document: Mapping[str, Any]  #: The item's JSON.
    href: str  #: Its URL; relative hrefs of assets are resolved against it.
    when: dt.datetime  #: Time of acquisition, UTC.
    tile: str  #: Such as ``10TFK`` or ``045032``; empty: not said.
    orbit: str  #: Relative orbit of Sentinel-2; empty: not said.
    cloud: float  #: Percent of the scene; what is not said counts as 100.
    version: tuple[Any, ...]  #: Greater is newer: processing baseline, times of processing.
    footprint: BaseGeometry  #: What it covers, WGS84, degrees.

    def lost(self, area: BaseGeometry) -> float:
        """Percent of an area that is clouded or not covered, rounded so that there are ties."""
        covered = self.footprint.intersection(area).area / area.area if area.area else 0.0
        return round(100 - covered * (100 - self.cloud), 2)


class Choice(NamedTuple):
    """The items that are mapped."""

    pre: Sequence[Acquisition]  #: One for each tile; that which covers most of the area first.
    post: Sequence[Acquisition]  #: Of the same tiles in the same order.
    reasons: Sequence[str]  #: What was taken and why, line by line.


def area_of(bbox: Sequence[float] | None, geometry: Path | None) -> BaseGeometry | None:
    """The area that was asked for: a Polygon or MultiPolygon, WGS84; None: none.

    Args:
        bbox: west, south, east, north in degrees.
        geometry: a GeoJSON file, of which the polygons count.

    Raises:
        InputError: it cannot be read, has no area, leaves ±180° and ±90° or crosses ±180°.
    """
    if not (bbox or geometry):
        return None
    with reading(str(geometry), "GeoJSON"):
        if geometry:
            found = shapely.from_geojson(geometry.read_bytes())
            area = shapely.make_valid(found).buffer(0)  # leaves the polygons only
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
        event: a date, ``2021-07-14``: the whole day, UTC, belongs to the event, so that no
            acquisition of it is taken, as nobody knows on which side it is. Or a moment in
            RFC 3339, ``2021-07-14T15:20:00Z``, UTC where it names no zone.
        window: days before and after the event, at least 1.
    """
    with reading(f"event {event!r}, window {window}", "date (2021-07-14), time or number of days"):
        if len(event) < 10 or window < 1:
            raise ValueError("too short")
        begin = utc(str_to_datetime(event))
        end = begin + dt.timedelta(days=len(event) == 10)
        return begin - dt.timedelta(window), begin, end, end + dt.timedelta(window)


def search(
    api: str, collection: str, area: BaseGeometry, event: str, window: int = 30,
    max_cloud: float | None = None,
) -> Choice:  # fmt: skip
    """Search a STAC API for the pair, or the pairs of several tiles.

    Args:
        api: the API's URL.
        collection: id of the collection.
        area: what is to be covered, WGS84.
        event: date or moment, see `period`.
        window: days before and after the event.
        max_cloud: percent of cloud above which an acquisition is not taken; None: any.

    Raises:
        Unavailable: the API cannot be reached just now.
        InputError: nothing can be found, or chosen; it says what was searched and what to change.
    """
    first, *_, last = period(event, window)
    with reading(api, "STAC API"):
        client = Client.open(api, stac_io=Transport())
        methods = {link.extra_fields.get("method") for link in client.get_links("search")}
        found = client.search(
            method="POST" if "POST" in methods else "GET", collections=[collection],
            bbox=area.bounds, datetime=(first, last), limit=PAGE, max_items=MAX_ITEMS + 1,
        )  # fmt: skip
        items = list(found.items_as_dicts())
        known = [] if items else [c.id for c in itertools.islice(client.get_collections(), 99)]
    if not items and collection not in known:
        raise InputError(f"there is no collection {collection}; there are {known}")
    if len(items) > MAX_ITEMS:
        raise InputError(f"more than {MAX_ITEMS} items; try a smaller area or --window")
    read = [one for item in items if (one := read_item(item, api, collection))]
    return choose(read, area, event, window, max_cloud)


def read_item(document: Mapping[str, Any], api: str, collection: str) -> Acquisition | None:
    """What choosing needs of an item; None if it does not say when or what it covers."""
    with suppress(Exception), warnings.catch_warnings():  # whatever a malformed one raises
        warnings.simplefilter("ignore")  # of old versions, of rings that are wound the other way
        item = pystac.Item.from_dict(dict(document))
        said, href = item.properties, str(item.get_self_href())
        if not is_remote(href):  # it must not pass for an item that may name local files
            names = (urllib.parse.quote(name, safe="") for name in (collection, item.id))
            href = "{}/collections/{}/items/{}".format(public(api).rstrip("/"), *names)
        keys = "grid:code", "s2:mgrs_tile", "s2:product_uri", "sentinel:product_id"
        names = [*map(said.get, keys), item.id, f"R{said.get('sat:relative_orbit')}"]
        name = f"_{'_'.join(map(str, names))}."
        tile, orbit = (m[1] if (m := form.search(name)) else "" for form in (_TILE, _ORBIT))
        cloud = said.get("eo:cloud_cover")
        if not (isinstance(cloud, (int, float)) and 0 <= cloud <= 100):  # Landsat says -1
            cloud = 100.0
        made = map(said.get, ("s2:generation_time", "landsat:product_generated", "updated"))
        version = processing_baseline(item) or (0, 0), *(str(time or "") for time in made)
        geometry = shape(antimeridian.fix_geojson(item.geometry, fix_winding=True))
        covered = shapely.make_valid(geometry)
        when = utc(item.datetime or item.common_metadata.start_datetime)
        return Acquisition(document, href, when, tile, orbit, cloud, version, covered)
    return None


def choose(
    found: Sequence[Acquisition], area: BaseGeometry, event: str, window: int = 30,
    max_cloud: float | None = None,
) -> Choice:  # fmt: skip
    """Choose the pairs; arguments and errors are those of `search`.

    Of each tile and relative orbit the acquisition that loses least, before and after; of a
    tile's orbits the one whose pair loses least; ties go to the nearest to the event. Then tile
    by tile the one that adds most of the area, as long as one adds something.
    """
    first, begin, end, last = period(event, window)
    newest = {  # where an acquisition was processed again
        (one.tile, one.orbit, one.when.date()): one
        for one in sorted(found, key=lambda one: one.version)
        if one.footprint.intersects(area)
    }.values()
    before = [one for one in newest if first <= one.when < begin]
    after = [one for one in newest if end <= one.when <= last]
    limit = 100.0 if max_cloud is None else max_cloud
    sides = [[one for one in side if one.cloud <= limit] for side in (before, after)]
    what = (
        f"{len(before)} scenes in {window} days before {event} and {len(after)} after it, "
        f"{len(sides[0])} and {len(sides[1])} of them with at most {limit:g} % cloud"
    )
    advice = "try a larger --window, a higher --max-cloud or another --collection"
    best: dict[str, tuple[Any, Acquisition, Acquisition]] = {}
    orbits = [{(one.tile, one.orbit) for one in side} for side in sides]
    for tile, orbit in sorted(orbits[0] & orbits[1]):
        covered = [one.footprint for side in sides for one in side if one.tile == tile]
        part = shapely.union_all(covered).intersection(area)
        pre, post = (
            min(
                (one for one in side if (one.tile, one.orbit) == (tile, orbit)),
                key=lambda one: (one.lost(part), sign * one.when.timestamp()),
            )
            for side, sign in zip(sides, (-1, 1), strict=True)
        )
        rank = round(pre.lost(part) + post.lost(part), 2), post.when - pre.when
        if tile not in best or rank < best[tile][0]:
            best[tile] = rank, pre, post
    if not best:
        raise InputError(
            what, "no tile has one before and one after the event, on the same orbit", advice
        )
    taken, left, idle = [], area, [pair for _, *pair in best.values()]
    while idle:
        both = [pre.footprint.intersection(post.footprint) for pre, post in idle]
        gains = [round(one.intersection(left).area / area.area, 6) for one in both]
        if not max(gains):
            break
        most = gains.index(max(gains))
        taken.append(idle.pop(most))
        left = left.difference(both[most])
    if not taken:
        raise InputError(
            what, "no part of the area is covered both before and after the event", advice
        )
    reasons = [what] + [
        f"{side}-event {str(one.document['id'])[:100]!r}: {one.when:%Y-%m-%d %H:%M} UTC, "
        f"{one.cloud:.1f} % cloud, the best of tile {one.tile or '?'}, orbit {one.orbit or '?'}"
        for pair in taken
        for side, one in zip(("pre", "post"), pair, strict=True)
    ]
    if left.area > 0.0005 * area.area:
        share = left.area / area.area
        reasons.append(f"{share:.1%} of the area is not covered both before and after the event")
    return Choice(*zip(*taken, strict=True), reasons)
