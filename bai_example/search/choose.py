"""Which of the acquisitions found are mapped: one pair for each tile, the least cloudy.

What an acquisition loses of its tile's part of the area is what decides: clouds, as its item
states them for the whole scene, and the part that it does not cover (a tile at the edge of the
swath is partly empty, and would else win with 0 % cloud over a strip).
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import NamedTuple

import shapely
from shapely.geometry.base import BaseGeometry

from bai_example.errors import InputError
from bai_example.search.acquisition import Acquisition, Found
from bai_example.search.area import Area

#: Share of the area below which a further tile adds nothing.
NOTHING = 1e-6
#: What messages call the tile of items that name none; they are taken as of one tile.
UNNAMED = "no named tile"


class Choice(NamedTuple):
    """The items that are mapped."""

    pre: tuple[Found, ...]
    """Before the event, one for each tile; the tile that covers most of the area first."""
    post: tuple[Found, ...]
    """After it, of the same tiles in the same order."""
    reasons: tuple[str, ...]
    """What was taken and why, line by line."""


@dataclass(frozen=True)
class _Rated:
    """An acquisition and what it loses."""

    acquisition: Acquisition
    lost: float
    """Percent of the tile's part of the area that is clouded or not covered."""
    shared: float
    """Percent of the tile's part of the area that is covered."""

    def latest(self) -> tuple[float, float, float]:
        """The least is the best before the event."""
        return self.lost, -self.shared, -self.acquisition.when.timestamp()

    def earliest(self) -> tuple[float, float, float]:
        """The least is the best after the event."""
        return self.lost, -self.shared, self.acquisition.when.timestamp()


@dataclass(frozen=True)
class _Pair:
    """The best pair of one tile and orbit."""

    pre: _Rated
    post: _Rated
    among: tuple[int, int]
    """How many there were before and after."""
    orbits: int
    """How many orbits of the tile have a pair."""

    @property
    def lost(self) -> float:
        return round(self.pre.lost + self.post.lost, 2)

    @property
    def apart(self) -> dt.timedelta:
        return self.post.acquisition.when - self.pre.acquisition.when

    @property
    def footprint(self) -> BaseGeometry:
        return self.pre.acquisition.footprint.intersection(self.post.acquisition.footprint)


def choose(before: list[Acquisition], after: list[Acquisition], area: Area) -> Choice:
    """Choose the pairs.

    Of each tile and relative orbit the acquisition that loses least, before and after; of a
    tile's orbits the one whose pair loses least; ties go to the nearest to the event. Then tile
    by tile the one that adds most of the area, as long as one adds something.

    Args:
        before: acquisitions before the event that meet the area, one version of each.
        after: acquisitions after it.
        area: what is to be covered.

    Raises:
        InputError: no tile has a pair on one orbit, or no pair covers any of the area.
    """
    tiles = {
        tile: _pairs(_of(before, tile), _of(after, tile), area)
        for tile in sorted({each.tile for each in (*before, *after)}, key=str)
    }
    best = [
        min(pairs, key=lambda pair: (pair.lost, pair.apart)) for pairs in tiles.values() if pairs
    ]
    if not best:
        raise InputError(
            f"no tile has an acquisition before and one after the event on the same orbit "
            f"(before: {_places(before)}; after: {_places(after)}); try a larger --window"
        )
    taken, idle, rest = _cover(best, area.shape)
    if not taken:
        raise InputError(
            "no part of the area is covered both before and after the event; "
            "try a larger --window or another area"
        )
    reasons = [line for pair in taken for line in _explain(pair)]
    for pair in idle:
        reasons.append(f"{_place(pair.pre.acquisition)} left out: it adds nothing to the area")
    for tile, pairs in tiles.items():
        if not pairs:
            reasons.append(f"{tile or UNNAMED} left out: no pair on one orbit")
    if rest > 0.0005:
        reasons.append(f"{rest:.1%} of the area is not covered both before and after the event")
    return Choice(
        tuple(pair.pre.acquisition.found for pair in taken),
        tuple(pair.post.acquisition.found for pair in taken),
        tuple(reasons),
    )


def _of(acquisitions: list[Acquisition], tile: str | None) -> list[Acquisition]:
    return [each for each in acquisitions if each.tile == tile]


def _pairs(before: list[Acquisition], after: list[Acquisition], area: Area) -> list[_Pair]:
    """The best pair of each of a tile's orbits that has one."""
    everything = shapely.union_all([each.footprint for each in (*before, *after)])
    reach = everything.intersection(area.shape).area

    def rated(acquisitions: list[Acquisition], orbit: int | None) -> list[_Rated]:
        return [_rate(each, area, reach) for each in acquisitions if each.orbit == orbit]

    orbits = {each.orbit for each in before} & {each.orbit for each in after}
    pairs = []
    for orbit in sorted(orbits, key=str):
        pre, post = rated(before, orbit), rated(after, orbit)
        best = min(pre, key=_Rated.latest), min(post, key=_Rated.earliest)
        pairs.append(_Pair(*best, (len(pre), len(post)), len(orbits)))
    return pairs


def _rate(acquisition: Acquisition, area: Area, reach: float) -> _Rated:
    share = acquisition.footprint.intersection(area.shape).area / reach if reach else 0.0
    # Rounded, so that what differs by less than anyone could see is a tie.
    lost = round(100 - share * (100 - acquisition.clouded), 2)
    return _Rated(acquisition, lost, round(100 * share, 1))


def _cover(pairs: list[_Pair], area: BaseGeometry) -> tuple[list[_Pair], list[_Pair], float]:
    """The pairs that cover the area, most first; those that add nothing; the share left over."""
    left, idle, taken = area, list(pairs), []
    while idle:
        gains = [pair.footprint.intersection(left).area / area.area for pair in idle]
        best = max(range(len(idle)), key=lambda i: (round(gains[i], 6), -idle[i].lost))
        if gains[best] < NOTHING:
            break
        taken.append(idle.pop(best))
        left = left.difference(taken[-1].footprint)
    return taken, idle, left.area / area.area


def _explain(pair: _Pair) -> list[str]:
    orbits = f", the best of {pair.orbits} orbits" if pair.orbits > 1 else ""
    lines = []
    for event, rated, among in zip(
        ("pre-event", "post-event"), (pair.pre, pair.post), pair.among, strict=True
    ):
        taken = rated.acquisition
        empty = f", {100 - rated.shared:.1f} % empty" if rated.shared < 99.5 else ""
        lines.append(
            f"{event} {taken.id}: {taken.when:%Y-%m-%d %H:%M} UTC, {_clouds(taken)}{empty}, "
            f"the least clouded or empty of {among} on {_place(taken)}{orbits}"
        )
    return lines


def _clouds(acquisition: Acquisition) -> str:
    return "cloud not stated" if acquisition.cloud is None else f"{acquisition.cloud:.1f} % cloud"


def _place(acquisition: Acquisition) -> str:
    tile = acquisition.tile or UNNAMED
    return tile if acquisition.orbit is None else f"{tile}, orbit {acquisition.orbit}"


def _places(acquisitions: list[Acquisition]) -> str:
    places = sorted({_place(each) for each in acquisitions})
    return "; ".join(places[:6]) + (f"; {len(places) - 6} more" if len(places) > 6 else "")
