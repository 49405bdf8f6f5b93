"""A found STAC item -> what choosing needs of it: time, tile, orbit, clouds, version, footprint.

Items come from anywhere: what is missing or malformed counts as not said.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from pystac.utils import str_to_datetime
from shapely.geometry.base import BaseGeometry

from bai_example.calibrate import processing_baseline
from bai_example.search.area import footprint

#: Names of Sentinel-2 products and of what is made of them.
_TILE = re.compile(r"_T?(\d{1,2})([C-HJ-NP-X][A-Z]{2})(?=_|\.|$)")
_ORBIT = re.compile(r"_R(\d{3})(?=_|\.|$)")

#: Two items of one satellite, tile and orbit within this time are one acquisition: a satellite
#: comes back to a place after one orbit, 98 min, at the earliest.
SAME_PASS = dt.timedelta(minutes=10)

_EARLIEST = dt.datetime.min.replace(tzinfo=dt.timezone.utc)


@dataclass(frozen=True)
class Found:
    """One item of a catalogue."""

    document: dict[str, Any]
    """The item's JSON."""
    href: str
    """Where it is: a URL or an absolute path; relative hrefs of assets are resolved against it."""


@dataclass(frozen=True)
class Acquisition:
    """What choosing needs of an item."""

    found: Found
    id: str
    """The item's id, fit to be shown."""
    when: dt.datetime
    """Time of acquisition, UTC."""
    platform: str
    """Satellite in lower case; empty: not said."""
    tile: str | None
    """Such as ``MGRS-10TFK`` or ``WRS2-045032``."""
    orbit: int | None
    """Relative orbit of Sentinel-2, WRS path of Landsat."""
    cloud: float | None
    """Percent."""
    version: tuple[Any, ...]
    """Greater is newer: processing baseline, time of processing, time of the item."""
    footprint: BaseGeometry
    """What it covers, WGS84, degrees."""

    @property
    def clouded(self) -> float:
        """Percent of cloud; what is not stated counts as the worst."""
        return 100.0 if self.cloud is None else self.cloud

    @classmethod
    def read(cls, found: Found) -> Acquisition | None:
        """Read an item; None if it does not say what it is, or when or where it was acquired."""
        document, said = found.document, found.document.get("properties")
        if not isinstance(said, dict) or not isinstance(document.get("id"), str):
            return None
        when = time(said.get("datetime")) or time(said.get("start_datetime"))
        covered = footprint(document)
        if when is None or covered is None:
            return None
        names = [said.get("s2:product_uri"), said.get("sentinel:product_id"), document["id"]]
        return cls(
            found=found,
            id=plain(document["id"]),
            when=when,
            platform=plain(said.get("platform") or "").lower(),
            tile=_tile(said, names),
            orbit=_orbit(said, names),
            cloud=_percent(said.get("eo:cloud_cover")),
            version=_version(document["id"], said),
            footprint=covered,
        )


def newest(acquisitions: Iterable[Acquisition]) -> list[Acquisition]:
    """One of each acquisition: the newest version where it was processed again.

    Two items of one pass whose footprints hardly meet are no versions: they are parts, as where a
    tile lies in two datastrips.
    """
    kept: list[Acquisition] = []
    for candidate in sorted(acquisitions, key=lambda each: each.version, reverse=True):
        if not any(_same(candidate, other) for other in kept):
            kept.append(candidate)
    return kept


def _same(one: Acquisition, other: Acquisition) -> bool:
    if (one.platform, one.tile, one.orbit) != (other.platform, other.tile, other.orbit):
        return False
    if abs(one.when - other.when) > SAME_PASS:
        return False
    smaller = min(one.footprint.area, other.footprint.area)
    return one.footprint.intersection(other.footprint).area > smaller / 2


def plain(text: object, limit: int = 100) -> str:
    """A foreign text as one short line that a terminal can show."""
    line = "".join(sign if sign.isprintable() else " " for sign in str(text)[: 2 * limit])
    return line if len(line) <= limit else line[: limit - 1] + "…"


def time(value: object) -> dt.datetime | None:
    """A time in UTC; one that names no zone is taken as such, as STAC's are."""
    try:
        when = str_to_datetime(str(value)) if value else None
        if when is None:
            return None
        if when.tzinfo is None:
            return when.replace(tzinfo=dt.timezone.utc)
        return when.astimezone(dt.timezone.utc)
    except (ValueError, OverflowError, TypeError):
        return None


def _tile(said: Mapping[str, Any], names: list[Any]) -> str | None:
    if code := said.get("grid:code"):
        return _padded(plain(code))
    if tile := said.get("s2:mgrs_tile"):
        return _padded(f"MGRS-{plain(tile)}")
    for extension in ("mgrs", "sentinel"):
        zone, band, square = (
            said.get(f"{extension}:{part}") for part in ("utm_zone", "latitude_band", "grid_square")
        )
        if zone and band and square:
            return _padded(plain(f"MGRS-{zone}{band}{square}"))
    path, row = (_whole(said.get(f"landsat:wrs_{part}")) for part in ("path", "row"))
    if path and row:
        return f"WRS{plain(said.get('landsat:wrs_type', 2))}-{path:03}{row:03}"
    for name in names:
        if found := _TILE.search(str(name)):
            return _padded(f"MGRS-{found[1]}{found[2]}")
    return None


def _padded(code: str) -> str:
    """``MGRS-7HFE`` and ``MGRS-07HFE`` are one tile."""
    return re.sub(r"^MGRS-(?=\d\D)", "MGRS-0", code.upper())


def _orbit(said: Mapping[str, Any], names: list[Any]) -> int | None:
    declared = _whole(said.get("sat:relative_orbit")) or _whole(said.get("landsat:wrs_path"))
    if declared:
        return declared
    found = next(filter(None, (_ORBIT.search(str(name)) for name in names)), None)
    return int(found[1]) if found else None


def _version(name: str, said: Mapping[str, Any]) -> tuple[Any, ...]:
    processed = ("s2:generation_time", "landsat:product_generated", "processing:datetime")
    return (
        processing_baseline(name, said) or (0, 0),
        *(
            max((time(said.get(name)) or _EARLIEST for name in group), default=_EARLIEST)
            for group in (processed, ("updated", "created"))
        ),
    )


def _whole(value: object) -> int | None:
    """A whole number, also one written as text (Landsat's ``045``)."""
    return int(value) if re.fullmatch(r"\d{1,4}", str(value)) else None


def _percent(value: object) -> float | None:
    # Landsat says -1 where clouds were not assessed.
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return float(value) if number and 0 <= value <= 100 else None
