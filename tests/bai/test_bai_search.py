"""The pair of an event is searched in an API, and chosen."""

from __future__ import annotations

import datetime as dt
import itertools
import json
import re
import socket
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from shapely.geometry import box, mapping, shape

from bai_example import access
from bai_example import search as search_module
from bai_example.access import InputError, Unavailable, public, signer
from bai_example.search import Acquisition, Choice, area_of, period, read_item, search
from tests.bai.maps import item
from tests.bai.servers import Proxy, stac_api
from tests.support.missing import need

S2 = "sentinel-2-l2a"
# Two tiles side by side that overlap in 0.9..1 °E, as MGRS tiles do.
WEST, EAST = box(0, 40, 1, 41), box(0.9, 40, 1.9, 41)
INSIDE = box(0.2, 40.2, 0.4, 40.4)
EVENT = "2021-07-14"


def scene(
    name: str, when: str, cloud: float | None = 10, tile: Any = "31TBF", orbit: Any = 51,
    footprint: Any = WEST, **properties: Any,
) -> dict[str, Any]:  # fmt: skip
    """A Sentinel-2 item with a relative href; keywords replace or add properties."""
    said = {
        "datetime": f"{when}T11:00:00Z" if len(when) == 10 else when,
        "eo__cloud_cover": cloud, "s2__mgrs_tile": tile,
        "sat__relative_orbit": orbit,
    } | properties  # fmt: skip
    made = item(name, {"B08": "./B08.tif"}, **said)
    made["properties"] = {key: v for key, v in made["properties"].items() if v is not None}
    place = {"geometry": mapping(footprint), "bbox": list(footprint.bounds)}
    return made | place | {"collection": S2}


# One tile and orbit, twelve items: best before is b2, best after a2.
SERIES = [
    scene("b1", "2021-07-03", 12.5),
    scene("b2", "2021-07-08", 0.4),
    scene("b3", "2021-07-13", 60),
    scene("event-day", "2021-07-14", 0),
    scene("a1", "2021-07-18", 80),
    scene("a2", "2021-07-23", 1.5),
    scene("a3", "2021-07-28", 2.5),
    scene("too-early", "2021-06-01", 0),
    scene("too-late", "2021-08-30", 0),
    scene("elsewhere", "2021-07-08", 0, "31TDF", footprint=box(5, 40, 6, 41)),
    scene("b-unknown", "2021-07-09", None),
    scene("a-unknown", "2021-07-19", None),
]


def taken(choice: Choice) -> str:
    pairs = zip(choice.pre, choice.post, strict=True)
    return " ".join(one.document["id"] for one in itertools.chain(*pairs))


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    """One API server for all tests: the series, and another collection."""
    need("Python 3.11")
    other = [one | {"collection": "landsat-c2-l2"} for one in SERIES[:1]]
    with stac_api(tmp_path_factory.mktemp("api"), [*SERIES, *other]) as proxy:
        yield proxy


@pytest.fixture
def stac(server: Proxy, monkeypatch: pytest.MonkeyPatch) -> Proxy:
    """The server in health, with small pages and a client that tries again soon."""
    server.heal()
    monkeypatch.setattr(search_module, "PAGE", 2)
    monkeypatch.setattr(access, "BACKOFF", 0.01)
    return server


# --- the API


def test_the_least_cloudy_pair_of_a_paged_api_is_taken(
    stac: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    choice = search(stac.url, S2, INSIDE, EVENT)
    assert taken(choice) == "b2 a2"
    searches = stac.searches()
    # Nine items of the area and period, two on a page.
    assert len(searches) == 5 and {body["limit"] for body in searches} == {2}
    assert searches[0]["datetime"] == "2021-06-14T00:00:00Z/2021-08-14T00:00:00Z"
    assert searches[0]["bbox"] == [0.2, 40.2, 0.4, 40.4]
    assert choice.pre[0].href == f"{stac.url}/collections/{S2}/items/b2"
    assert choice.reasons == [
        "4 scenes in 30 days before 2021-07-14 and 4 after it have at most 100 % cloud",
        "pre-event 'b2': 2021-07-08 11:00 UTC, 0.4 % cloud, the best of tile 31TBF, orbit 51",
        "post-event 'a2': 2021-07-23 11:00 UTC, 1.5 % cloud, the best of tile 31TBF, orbit 51",
    ]
    # No more pages than it takes to see that there are too many.
    stac.heal()
    monkeypatch.setattr(search_module, "MAX_ITEMS", 5)
    with pytest.raises(InputError, match=r"more than 5 items.*smaller area or --window"):
        search(stac.url, S2, INSIDE, EVENT)
    assert len(stac.searches()) == 3


# What the searches meet, what is said of it, and the error; none where it passes.
FAULTS = [
    (["503", "503"], "", None),
    (["429", "reset"], "", None),
    (["stall", "stall"], "", None),
    (["503"] * 3, "the server answered 503", Unavailable),
    (["reset"] * 3, "cannot be reached", Unavailable),
    (["stall"] * 3, "cannot be reached", Unavailable),
    (["short"], "cannot be reached", Unavailable),
    (["403"], "the server answered 403", InputError),
    (["huge"], "the answer is too large, or takes too long", InputError),
    (["trickle"], "the answer is too large, or takes too long", InputError),
    (["outside"], "No connection adapters were found for 'file:///etc/passwd'", InputError),
]


@pytest.mark.parametrize(("faults", "said", "kind"), FAULTS)
def test_passing_faults_are_passed_over_and_lasting_ones_told(
    stac: Proxy, faults: list[str], said: str, kind: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is refused is not asked again."""
    monkeypatch.setattr(access, "MAX_BYTES", 2_000_000)
    if "stall" in faults:
        monkeypatch.setattr(access, "SILENCE", 0.3 if kind else 2)
    if "trickle" in faults:
        monkeypatch.setattr(access, "PATIENCE", 1)
    stac.faults[:] = faults
    if kind is None:
        assert taken(search(stac.url, S2, INSIDE, EVENT)) == "b2 a2"
        assert len(stac.searches()) == len(faults) + 5
        return
    with pytest.raises(InputError, match=re.escape(said)) as raised:
        search(stac.url, S2, INSIDE, EVENT)
    assert type(raised.value) is kind and "s3cret" not in str(raised.value)
    assert len(stac.searches()) == len(faults)


def test_what_is_no_api(stac: Proxy) -> None:
    """Nobody there, something else, a file, and a collection that is unknown."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        nobody = f"http://127.0.0.1:{bound.getsockname()[1]}"
        with pytest.raises(Unavailable, match=r"127\.0\.0\.1.*cannot be reached"):
            search(nobody, S2, INSIDE, EVENT)
    with pytest.raises(InputError, match=r"catalog.json: not an http\(s\) URL"):
        search("/data/catalog.json", S2, INSIDE, EVENT)
    with pytest.raises(InputError, match="collection other has nothing in area and period"):
        search(stac.url, "other", INSIDE, EVENT)
    stac.faults_of_root[:] = ["other"]
    with pytest.raises(InputError, match="no usable STAC API"):
        search(stac.url, S2, INSIDE, EVENT)


# --- choosing


def read(document: dict[str, Any]) -> Acquisition | None:
    return read_item(document, "https://u:p@api.example/v1/?key=k")


def choose(items: list[dict[str, Any]], area: Any, event: str = EVENT, *more: Any) -> Choice:
    found = [one for document in items if (one := read(document))]
    return search_module.choose(found, area, event, *more)


def test_what_is_too_cloudy_is_not_taken() -> None:
    """And nothing on one side."""
    reasons = choose(SERIES, INSIDE, EVENT, 30, 70).reasons
    assert reasons[0] == (
        "3 scenes in 30 days before 2021-07-14 and 2 after it have at most 70 % cloud"
    )
    for event, window, cloud, said in (
        (EVENT, 30, 1, "1 scenes in 30 days before 2021-07-14 and 0 after it have at most 1 %"),
        ("2021-06-30", 20, 70, "0 scenes in 20 days before"),
        ("2021-08-10", 19, 70, "and 0 after it"),
    ):
        with pytest.raises(InputError) as raised:
            choose(SERIES, INSIDE, event, window, cloud)
        first, second, third = raised.value.args
        assert said in first
        assert second == "no part of the area is covered both before and after on the same orbit"
        assert "--window" in third and "--max-cloud" in third


def test_real_items_are_found(realdata: Path) -> None:
    """Each real item with a made one after it: both have the same tile and orbit."""
    for path in sorted((realdata / "stac").glob("*.json")):
        before = json.loads(path.read_text())
        after = json.loads(json.dumps(before)) | {"id": f"{before['id']}_later"}
        when = dt.datetime.fromisoformat(before["properties"]["datetime"][:10])
        after["properties"]["datetime"] = f"{when + dt.timedelta(days=20):%Y-%m-%dT10:00:00Z}"
        around = shape(before["geometry"]).representative_point().buffer(0.001)
        choice = choose([before, after], around, f"{when + dt.timedelta(days=10):%Y-%m-%d}")
        assert taken(choice) == f"{before['id']} {after['id']}"
        assert choice.pre[0].tile and choice.pre[0].tile.lstrip("0") in path.name.replace("_0", "_")


def east(name: str, day: str, cloud: float, tile: str = "31TCF", **more: Any) -> dict[str, Any]:
    """A scene of the next tile, taken ten seconds later."""
    return scene(name, f"{day}T11:00:10Z", cloud, tile, **({"footprint": EAST} | more))


STRIP = {"tile": "31TXX", "footprint": box(0.95, 40, 1.0, 41)}  # of a third tile, in both others
A_QUARTER = {"footprint": box(0.2, 40.2, 0.25, 40.4)}  # of INSIDE
# As of a tile at the antimeridian whose outline was drawn the wrong way, and one that is right.
WORLD = {"footprint": box(-180, -90, 180, -41), "tile": "01GBQ"}
HERE = {"footprint": box(173, -42, 174.2, -41), "tile": "59GQP"}
WEEKS = [
    scene("b", "2021-07-03"), scene("smoke", "2021-07-13"), scene("still", "2021-08-02"),
    scene("a", "2021-08-17"),
]  # fmt: skip
TWO_TILES = [
    scene("b", "2021-07-08"), scene("a", "2021-07-18"),
    east("b2", "2021-07-08", 50), east("a2", "2021-07-18", 50),
    east("s1", "2021-07-08", 0, **STRIP), east("s2", "2021-07-18", 0, **STRIP),
    east("lonely", "2021-07-18", 0, "31TYY", footprint=WEST),
]  # fmt: skip
TWO_ORBITS = [
    scene("b51", "2021-07-08", 0, footprint=box(0, 40, 0.3, 41)),
    scene("a51", "2021-07-18", 90, footprint=box(0, 40, 0.301, 41)),
    scene("a52", "2021-07-28", 0, footprint=box(0, 40, 0.299, 41)),
    scene("b94", "2021-07-11", 20, orbit=94), scene("a94", "2021-07-21", 20, orbit=94),
    scene("a37", "2021-07-20", 0, orbit=37),
]  # fmt: skip
# The area, the event, the items, the pairs that are taken.
CHOICES: dict[str, tuple[Any, str, list[dict[str, Any]], str]] = {
    "the least cloudy orbit that both sides have": (
        box(0.2, 40.2, 0.28, 40.4), EVENT, TWO_ORBITS, "b51 a52"),
    "what shows the whole area before what does not": (INSIDE, EVENT, TWO_ORBITS, "b94 a94"),
    "within one orbit, what shows a little more is no better": (
        box(0.2, 40.2, 0.5, 40.4), EVENT, TWO_ORBITS[:3], "b51 a52"),
    "a tie goes to the nearest": (INSIDE, EVENT, [
        scene("b1", "2021-07-01", None), scene("b", "2021-07-10", None),
        scene("a", "2021-07-17", None), scene("a2", "2021-07-20", None),
    ], "b a"),
    "the newest version, by its baseline, then by its time": (INSIDE, EVENT, [
        scene("old", "2021-07-08", 0),
        scene("new", "2021-07-08T11:00:02Z", 40, s2__processing_baseline="05.00"),
        scene("b", "2021-07-03", 20, updated="2023-01-01T00:00:00Z"),
        scene("b-old", "2021-07-03", 0, updated="2022-01-01T00:00:00Z"),
        scene("a", "2021-07-18"),
    ], "b a"),
    "clouds before the alphabet": (box(0.92, 40.2, 0.98, 40.4), EVENT, [
        scene("b", "2021-07-04", 80), scene("a", "2021-07-24", 75),
        east("b2", "2021-07-04", 2), east("a2", "2021-07-24", 1),
    ], "b2 a2"),
    "no footprint round the world": (box(173.485, -41.3215, 173.532, -41.3015), EVENT, [
        scene("b-wrong", "2021-07-03", 1, **WORLD), scene("a-wrong", "2021-07-23", 1, **WORLD),
        scene("b", "2021-07-04", 50, **HERE), scene("a", "2021-07-24", 40, **HERE),
    ], "b a"),
    "nothing between the days of a fire": (INSIDE, "2021-07-06/2021-08-14", WEEKS, "b a"),
    "on either side of a day": (INSIDE, "2021-07-10", WEEKS, "b smoke"),
    "several tiles, but none that adds nothing": (
        box(0.2, 40.2, 1.6, 40.4), EVENT, TWO_TILES, "b a b2 a2"),
    "half of the area": (box(0.9, 40.2, 2.9, 40.4), EVENT, TWO_TILES, "b2 a2"),
}  # fmt: skip


@pytest.mark.parametrize("case", CHOICES)
def test_what_is_chosen(case: str) -> None:
    area, event, items, expected = CHOICES[case]
    choice = choose(items, area, event)
    assert taken(choice) == expected
    missing = "50.0% of the area is not covered both before and after the event"
    assert (missing in choice.reasons) == (case == "half of the area")


def test_halves_that_do_not_meet() -> None:
    before = scene("b", "2021-07-08", footprint=box(0, 40, 0.3, 41))
    for after in ({"orbit": 94}, {"footprint": box(0.3, 40, 1, 41)}):
        with pytest.raises(InputError, match="no part of the area is covered both"):
            choose([before, scene("a", "2021-07-18", **after)], INSIDE)


TILES = [
    ("x", {"grid:code": "MGRS-7HFE", "sat:relative_orbit": 13}, "7HFE", "13"),
    ("x", {"s2:mgrs_tile": "31TBF"}, "31TBF", ""),
    ("S2A_28QCH_20200714_0_L2A",
     {"sentinel:product_id": "S2A_MSIL2A_20200714T113321_N0214_R080_T28QCH_20200714T1"},
     "28QCH", "80"),
    ("LC08_L2SP_033032_20231008_02_T1", {}, "033032", ""),
    ("x", {"grid:code": "WRS2-033032"}, "033032", ""),
    ("S2A_T07HFE_2019", {}, "07HFE", ""),
    ("x", {}, "", ""),
]  # fmt: skip


def test_where_tile_and_orbit_are_said() -> None:
    for name, properties, *expected in TILES:
        said = {"properties": {"datetime": "2021-07-08T11:00Z"} | properties}
        found = read(scene(name, "") | said)
        assert found and [found.tile, found.orbit] == expected


def polygon(*ring: Any) -> dict[str, Any]:
    return {"geometry": {"type": "Polygon", "coordinates": [[*ring]]}}


def test_what_strangers_say() -> None:
    """An item that says too little is left out, odd properties count as not said, and none from
    the network passes for a local one."""
    for broken in (
        {"properties": None},
        {"properties": {"datetime": "soon"}},
        {"geometry": None},
        polygon(["a", 1], [2, 3], [4, 5]),
        polygon([0, 0], [1e999, 0], [1, 1], [0, 0]),
        {"links": [5]},
    ):
        assert read(SERIES[0] | broken) is None
    for href in ("file:///data/b2.json", "/data/b2.json", "s3://bucket/b2.json"):
        found = read(SERIES[0] | {"links": [{"rel": "self", "href": href}]})
        assert found and found.href == "https://api.example/v1/"
    odd = scene(
        "x\x1b[2J\n" + "y" * 500, "2021-07-08T11:00:00+02:00", cloud=-1, tile={}, orbit="\x1b[1m",
        platform=7, s2__processing_baseline=[], updated={},
    )  # fmt: skip
    found = read(odd)
    assert found and (found.cloud, found.version[0]) == (100, 0)
    assert found.when == dt.datetime(2021, 7, 8, 9, tzinfo=dt.timezone.utc)
    later = odd | {"properties": odd["properties"] | {"datetime": "2021-07-18T11:00:00Z"}}
    assert all(reason.isprintable() for reason in choose([odd, later], INSIDE).reasons)


# --- what is asked for


def test_an_event_is_a_day_a_moment_or_an_interval() -> None:
    for event, *expected in (
        ("2021-07-14", "07-04 00:00", "07-14 00:00", "07-15 00:00", "07-25 00:00"),
        ("2021-07-14T15:20:00+02:00", "07-04 13:20", "07-14 13:20", "07-14 13:20", "07-24 13:20"),
        ("2021-07-14T15:20Z", "07-04 15:20", "07-14 15:20", "07-14 15:20", "07-24 15:20"),
        ("2021-07-06/2021-08-14", "06-26 00:00", "07-06 00:00", "08-15 00:00", "08-25 00:00"),
    ):
        assert [f"{when:%m-%d %H:%M}" for when in period(event, 10)] == expected
    wrong = (
        "2021-08-14/2021-07-06", "yesterday", "2021-02-30", "2021", "", "9999-12-31",
        "2021-07-14T25:00:00Z",
    )  # fmt: skip
    for event, window in (*((event, 30) for event in wrong), (EVENT, 0), (EVENT, 10**6)):
        with pytest.raises(InputError, match="no usable date"):
            period(event, window)


def test_the_area_of_a_file_is_that_of_its_polygons(tmp_path: Path) -> None:
    path = tmp_path / "area.geojson"
    feature = {"type": "Feature", "properties": {}, "geometry": mapping(box(0, 40, 1, 41))}
    bow = polygon([2, 40, 5], [3, 41, 5], [3, 40, 5], [2, 41, 5], [2, 40, 5])["geometry"]
    point = {"type": "Point", "coordinates": [100, 0]}
    group = {"type": "GeometryCollection", "geometries": [bow, point]}
    other = feature | {"geometry": group}
    path.write_text(json.dumps({"type": "FeatureCollection", "features": [feature, other]}))
    area = area_of(None, path)
    assert area is not None and area.area == pytest.approx(1.5) and area.is_valid
    assert area.bounds == (0, 40, 3, 41)
    for document in (feature, feature["geometry"]):
        path.write_text(json.dumps(document))
        assert box(0, 40, 1, 41).equals(area_of(None, path))


def test_what_is_no_area(tmp_path: Path) -> None:
    for bbox in (
        (500000, 4400000, 510000, 4410000), (179, -17, -179, -16), (1, 40, 1, 41), (0, 41, 1, 40),
        (float("nan"), 0, 1, 1),
    ):  # fmt: skip
        with pytest.raises(InputError, match=r"bbox .* no area between west .* antimeridian"):
            area_of(bbox, None)
    path = tmp_path / "area.geojson"
    with pytest.raises(InputError, match="no such file"):
        area_of(None, path)
    for text, said in (
        ("{", "no usable GeoJSON"),
        ("[]", "no usable GeoJSON"),
        ('{"type": "FeatureCollection", "features": []}', "no area"),
        ('{"type": "Point", "coordinates": [0, 0]}', "no area"),
        ('{"type": "Polygon", "coordinates": [[[0, 0], ["x", 0], [1, 1]]]}', "no usable GeoJSON"),
        (json.dumps(mapping(box(500000, 4400000, 500010, 4400010))), "no area"),
        (json.dumps(mapping(box(-179, 0, 179, 1))), "antimeridian"),
    ):
        path.write_text(text)
        with pytest.raises(InputError, match=said):
            area_of(None, path)


# --- signing


def add_token(href: str) -> str:
    return f"{href}?sig=s3cret"


def fail(href: str) -> str:
    raise RuntimeError(f"no rights for {href}?sig=s3cret")


def busy(href: str) -> str:
    error: Any = ConnectionError("s3cret")
    error.response = types.SimpleNamespace(status_code=503)
    raise error


def test_signing(monkeypatch: pytest.MonkeyPatch) -> None:
    """By any function, by Planetary Computer's, which signs only what is its own, or by none."""
    href = "https://h/B08.tif"
    assert signer(None)(href) == href
    assert signer(f"{__name__}:add_token")(href) == f"{href}?sig=s3cret"
    for function, error, kind in (
        ("fail", "RuntimeError", InputError), ("busy", "ConnectionError", Unavailable),
    ):  # fmt: skip
        name = f"{__name__}:{function}"
        said = rf"^https://h/B08.tif: the signer {name} failed \({error}, "
        with pytest.raises(InputError, match=said) as raised:
            signer(name)("https://u:s3cret@h/B08.tif?key=s3cret")
        assert type(raised.value) is kind and "s3cret" not in str(raised.value)
    for name in ("azure", ":f", "no_such_module:f", f"{__name__}:none"):
        with pytest.raises(InputError, match=f"^--sign {name}: no usable module:function"):
            signer(name)
    pytest.importorskip("planetary_computer")
    assert signer("planetary-computer")(href) == href
    monkeypatch.setitem(sys.modules, "planetary_computer", None)
    with pytest.raises(InputError, match=r"dask-claim\[planetary-computer\]"):
        signer("planetary-computer")


def test_what_may_be_shown_of_an_href() -> None:
    for href, shown in (
        ("https://h:8080/a/B08.tif?sig=x#y", "https://h:8080/a/B08.tif"),
        ("https://user:p%40ss@h/B08.tif", "https://h/B08.tif"),
        ("https://user:p@ss@h/@B08.tif", "https://h/@B08.tif"),
        ("/vsicurl/https://u:p@h/B08.tif?sig=x", "/vsicurl/https://h/B08.tif"),
        ("/vsicurl?header.Authorization=x&url=https://h/B08.tif", "/vsicurl"),
        ("s3://bucket/key.tif", "s3://bucket/key.tif"),
        ("/data/scene #1/B08.tif", "/data/scene #1/B08.tif"),
    ):
        assert public(href) == shown
