"""An event and an area -> the pair: what a catalogue has around that time, and what is taken."""

from __future__ import annotations

import datetime as dt
import difflib
import re
from typing import NamedTuple

from bai_example import source
from bai_example.errors import InputError, Unavailable
from bai_example.patience import within
from bai_example.search.acquisition import Acquisition, Found, newest, time
from bai_example.search.api import Api, Refused, is_api
from bai_example.search.area import Area
from bai_example.search.catalogue import Static
from bai_example.search.choose import Choice, choose

Sides = tuple[list[Acquisition], list[Acquisition]]

#: Seconds that the whole search may take.
PATIENCE = 600.0
#: Collections that an error names.
NAMED = 20

_DAY = re.compile(r"\d{4}-\d\d-\d\d")
_MOMENT = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d(:\d\d(\.\d+)?)?([Zz]|[+-]\d\d:\d\d)?")


class Period(NamedTuple):
    """The event and the time searched around it, UTC."""

    first: dt.datetime
    """Acquisitions from here …"""
    begin: dt.datetime
    """… to before this are before the event."""
    end: dt.datetime
    """Acquisitions from here …"""
    last: dt.datetime
    """… to this are after it."""


def period(event: str, window: int = 30) -> Period:
    """The period around an event.

    Args:
        event: a date, ``2021-07-14``: the whole day, UTC, belongs to the event, so that no
            acquisition of it is taken, as nobody knows on which side it is. Or a moment in
            RFC 3339, ``2021-07-14T15:20:00Z``, UTC where it names no zone.
        window: days before and after the event.

    Raises:
        InputError: the event is no date or moment, or the window no number of days.
    """
    is_day = _DAY.fullmatch(event)
    begin = time(event) if is_day or _MOMENT.fullmatch(event) else None
    if begin is None:
        raise InputError(
            f"event {event!r}: not a date such as 2021-07-14 or a time such as 2021-07-14T15:20:00Z"
        )
    if window < 1:
        raise InputError(f"window {window}: it must be one day at least")
    try:
        end = begin + dt.timedelta(days=1) if is_day else begin
        days = dt.timedelta(days=window)
        return Period(begin - days, begin, end, end + days)
    except OverflowError:
        raise InputError(f"event {event} and window {window}: outside of the calendar") from None


def search(
    api: str,
    collection: str,
    area: Area,
    event: str,
    window: int = 30,
    max_cloud: float | None = None,
) -> Choice:
    """Search a catalogue for the pair, or the pairs of several tiles.

    Args:
        api: a STAC API's URL, or a static catalogue or collection, a URL or path.
        collection: id of the collection.
        area: what is to be covered.
        event: date or moment, see `period`.
        window: days before and after the event.
        max_cloud: percent of cloud above which an acquisition is not taken; an item that states
            none counts as 100.

    Raises:
        Unavailable: the catalogue cannot be reached just now.
        InputError: nothing can be found, or chosen; it says what was searched and what to change.
    """
    around = period(event, window)
    catalogue, shown = _open(api)
    what = f"{collection} of {shown}, area {area}, event {event}, {window} days around it"
    sides = _sides(_found(catalogue, shown, collection, area, around), area, around)
    limit = 100.0 if max_cloud is None else max_cloud
    before, after = ([each for each in side if each.clouded <= limit] for side in sides)
    counts = _counts(sides, (before, after), limit)
    if not before or not after:
        changes = ["a larger --window"]
        if limit < 100 and any(sides):
            changes.append("a higher --max-cloud")
        raise InputError(
            f"nothing {_missing(before, after)} the event in {what}: {counts}",
            f"try {' or '.join([*changes, 'another --collection'])}",
            *_other_collections(catalogue, collection),
        )
    try:
        choice = choose(before, after, area)
    except InputError as error:
        raise InputError(*(f"{what}: {problem}" for problem in error.problems)) from None
    return choice._replace(reasons=(f"searched {what}: {counts}", *choice.reasons))


def _open(api: str) -> tuple[Api | Static, str]:
    """The catalogue, and how it may be shown."""
    remote = source.is_remote(api)
    location = api if remote else str(source.local_path(api))
    document = source.read_json(location)
    if remote and is_api(document):
        return Api(location), source.public(location)
    return Static(location, document), source.public(location)


def _found(
    catalogue: Api | Static, shown: str, collection: str, area: Area, around: Period
) -> list[Found]:
    def items() -> list[Found]:
        return list(catalogue.items(collection, area, around.first, around.last))

    try:
        return within(PATIENCE, items)
    except Refused as error:  # some refuse a collection that they have not
        raise InputError(*error.problems, *_other_collections(catalogue, collection)) from None
    except TimeoutError:
        raise Unavailable(f"{shown}: the search was not done after {PATIENCE:.0f} s") from None


def _sides(found: list[Found], area: Area, around: Period) -> Sides:
    """The acquisitions of the area before and after the event, one version of each."""
    usable = [each for each in map(Acquisition.read, found) if each is not None]
    usable = [each for each in usable if each.footprint.intersection(area.shape).area > 0]
    return (
        newest(each for each in usable if around.first <= each.when < around.begin),
        newest(each for each in usable if around.end <= each.when <= around.last),
    )


def _counts(sides: Sides, kept: Sides, limit: float) -> str:
    parts = []
    for name, all_, left in zip(("before", "after"), sides, kept, strict=True):
        clouded = f" ({len(all_) - len(left)} above {limit:g} % cloud)" if limit < 100 else ""
        parts.append(f"{len(all_)} {name}{clouded}")
    return ", ".join(parts)


def _missing(before: list[Acquisition], after: list[Acquisition]) -> str:
    if not before and not after:
        return "before or after"
    return "after" if before else "before"


def _other_collections(catalogue: Api | Static, collection: str) -> list[str]:
    """The line that names a catalogue's collections, if the one asked for is not among them."""
    known = catalogue.collections()
    if not known or collection in known:
        return []
    close = difflib.get_close_matches(collection, known, NAMED, cutoff=0.5)
    named = list(dict.fromkeys([*close, *known]))
    more = f" and {len(named) - NAMED} more" if len(named) > NAMED else ""
    return [f"there is no collection {collection}; there are {', '.join(named[:NAMED])}{more}"]
