"""The pair of an event is searched in APIs and static catalogues, and chosen."""

from __future__ import annotations

import dataclasses
import datetime as dt
import json
import pickle
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pystac
import pytest
import shapely
from shapely.geometry import box, mapping, shape
from stac_server import Proxy, collection, files_over_http, serving, stac_api

from bai_example import sign as sign_module
from bai_example import source
from bai_example.errors import InputError, Unavailable
from bai_example.search import api as api_module
from bai_example.search import catalogue
from bai_example.search import search as search_module
from bai_example.search.acquisition import Acquisition, Found, newest
from bai_example.search.area import Area
from bai_example.search.choose import Choice
from bai_example.search.search import period, search
from bai_example.sign import signer
from bai_example.source import public

S2 = "sentinel-2-l2a"
# Two tiles side by side that overlap in 0.9..1 °E, as MGRS tiles do.
WEST, EAST = box(0, 40, 1, 41), box(0.9, 40, 1.9, 41)
INSIDE = Area.from_bbox(0.2, 40.2, 0.4, 40.4)
BOTH = Area.from_bbox(0.2, 40.2, 1.8, 40.4)
EVENT = "2021-07-14"


def scene(
    name: str,
    when: str,
    cloud: float | None = 10,
    tile: str = "31TBF",
    orbit: int | None = 51,
    footprint: Any = WEST,
    **properties: Any,
) -> dict[str, Any]:
    """A Sentinel-2 item with a relative href; keywords replace or add properties."""
    said = {
        "datetime": when, "eo:cloud_cover": cloud, "platform": "sentinel-2b",
        "s2:mgrs_tile": tile, "sat:relative_orbit": orbit, "s2:processing_baseline": "03.01",
    } | {key.replace("__", ":"): value for key, value in properties.items()}  # fmt: skip
    return {
        "type": "Feature", "stac_version": "1.0.0", "id": name, "collection": S2,
        "geometry": mapping(footprint), "bbox": list(footprint.bounds), "links": [],
        "properties": {key: value for key, value in said.items() if value is not None},
        "assets": {"B08": {"href": "./B08.tif"}},
    }  # fmt: skip


# One tile and orbit, twelve items: best before is b2, best after a2.
SERIES = [
    scene("b1", "2021-07-03T11:00:00Z", 12.5),
    scene("b2", "2021-07-08T11:00:00Z", 0.4),
    scene("b3", "2021-07-13T11:00:00Z", 60),
    scene("event-day", "2021-07-14T11:00:00Z", 0),
    scene("a1", "2021-07-18T11:00:00Z", 80),
    scene("a2", "2021-07-23T11:00:00Z", 1.5),
    scene("a3", "2021-07-28T11:00:00Z", 2.5),
    scene("too-early", "2021-06-01T11:00:00Z", 0),
    scene("too-late", "2021-08-30T11:00:00Z", 0),
    scene("elsewhere", "2021-07-08T11:00:00Z", 0, "31TDF", footprint=box(5, 40, 6, 41)),
    scene("b-unknown", "2021-07-09T11:00:00Z", None),
    scene("a-unknown", "2021-07-19T11:00:00Z", None),
]


def taken(choice: Choice) -> list[tuple[str, str]]:
    return [
        (pre.document["id"], post.document["id"])
        for pre, post in zip(choice.pre, choice.post, strict=True)
    ]


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    """One API server for all tests: the series, and another collection."""
    if sys.version_info < (3, 11):
        pytest.skip("rustac needs Python 3.11")
    other = [item | {"collection": "landsat-c2-l2"} for item in SERIES[:1]]
    with stac_api(tmp_path_factory.mktemp("api"), [*SERIES, *other]) as proxy:
        yield proxy


@pytest.fixture
def stac(server: Proxy, monkeypatch: pytest.MonkeyPatch) -> Proxy:
    """The server in health, with small pages and a client that hardly waits."""
    server.heal()
    monkeypatch.setattr(api_module, "PAGE", 2)
    monkeypatch.setattr(source, "PAUSES", (0.01, 0.02))
    monkeypatch.setattr(source, "SILENCE", 0.3)
    monkeypatch.setattr(source, "ATTEMPT", 0.6)
    return server


def static(folder: Path, items: list[dict[str, Any]], parts: int = 2) -> Path:
    """Write a catalogue with one collection, its items in sub-catalogues; the root's path."""
    root = pystac.Catalog("root", "made for a test")
    root.add_child(pystac.Collection.from_dict(collection("other")))
    holder = pystac.Collection.from_dict(collection(S2))
    root.add_child(holder)
    for part in range(parts):
        catalog = pystac.Catalog(f"part-{part}", "a part")
        holder.add_child(catalog)
        catalog.add_items([pystac.Item.from_dict(item) for item in items[part::parts]])
    root.normalize_and_save(str(folder), pystac.CatalogType.SELF_CONTAINED)
    # A collection that is not asked for is not entered, so that its dead link does no harm.
    other = collection("other") | {"links": [{"rel": "item", "href": "./dead.json"}]}
    (folder / "other" / "collection.json").write_text(json.dumps(other))
    return folder / "catalog.json"


@contextmanager
def stac_gone() -> Iterator[str]:
    """The URL of a port where nothing listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{taken.getsockname()[1]}"


# --- the API


def test_the_least_cloudy_pair_of_a_paged_api_is_taken(stac: Proxy) -> None:
    choice = search(stac.url, S2, INSIDE, EVENT)
    assert taken(choice) == [("b2", "a2")]
    searches = stac.searches()
    # Nine items of the area and period, two on a page.
    assert len(searches) == 5 and {body["limit"] for body in searches} == {2}
    assert searches[0]["datetime"] == "2021-06-14T00:00:00Z/2021-08-14T00:00:00Z"
    assert choice.pre[0].href == f"{stac.url}/collections/{S2}/items/b2"
    assert choice.reasons[0].endswith("4 before, 4 after")
    assert choice.reasons[1:] == (
        "pre-event b2: 2021-07-08 11:00 UTC, 0.4 % cloud, "
        "the least clouded or empty of 4 on MGRS-31TBF, orbit 51",
        "post-event a2: 2021-07-23 11:00 UTC, 1.5 % cloud, "
        "the least clouded or empty of 4 on MGRS-31TBF, orbit 51",
    )


@pytest.mark.parametrize("fault", ["503", "429", "504", "reset", "stall", "trickle", "short"])
def test_a_passing_fault_is_passed_over(stac: Proxy, fault: str) -> None:
    stac.faults[:] = [fault, fault]
    assert taken(search(stac.url, S2, INSIDE, EVENT)) == [("b2", "a2")]
    assert not stac.faults
    assert len(stac.searches()) == 7


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("503", "the server answered 503 (not now, see /search)"),
        ("reset", "cannot be reached (Connection reset by peer)"),
        ("stall", "cannot be reached (no answer in time)"),
        ("trickle", "cannot be reached (no answer in time)"),
    ],
)
def test_a_lasting_fault_is_told(stac: Proxy, fault: str, said: str) -> None:
    stac.faults[:] = [fault] * 3
    with pytest.raises(Unavailable) as raised:
        search(stac.url, S2, INSIDE, EVENT)
    assert said in str(raised.value) and "s3cret" not in str(raised.value)
    assert len(stac.searches()) == 3


def test_what_is_refused_is_not_asked_again(stac: Proxy) -> None:
    stac.faults[:] = ["403"]
    with pytest.raises(InputError, match="403") as raised:
        search(stac.url, S2, INSIDE, EVENT)
    assert not isinstance(raised.value, Unavailable)
    assert len(stac.searches()) == 1


def test_an_api_without_post_is_searched_by_get(
    stac: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api_module, "PAGE", 100)  # rustac cannot page what is searched by GET
    stac.faults[:] = ["405"]
    assert taken(search(stac.url, S2, INSIDE, EVENT)) == [("b2", "a2")]
    method, path, _ = stac.requests[-1]
    assert method == "GET" and f"collections={S2}" in path and "intersects=" in path


def test_a_server_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source, "PAUSES", (0.01,))
    with stac_gone() as url, pytest.raises(Unavailable, match=r"127\.0\.0\.1.*cannot be reached"):
        search(url, S2, INSIDE, EVENT)


def test_an_unknown_collection_names_those_that_exist(stac: Proxy) -> None:
    with pytest.raises(InputError) as raised:
        search(stac.url, "sentinel-2-l2b", INSIDE, EVENT)
    assert raised.value.problems[-1] == (
        "there is no collection sentinel-2-l2b; there are sentinel-2-l2a, landsat-c2-l2"
    )


def test_a_refused_collection_names_those_that_exist(stac: Proxy) -> None:
    stac.faults[:] = ["404"]
    with pytest.raises(InputError) as raised:
        search(stac.url, "s2", INSIDE, EVENT)
    first, second = raised.value.problems
    assert "404" in first
    assert "no collection s2; there are" in second and S2 in second and "landsat" in second


@pytest.mark.parametrize(
    ("event", "window", "said"),
    [
        ("2021-07-02", 30, "nothing before the event"),
        ("2021-08-10", 19, "nothing after the event"),
        ("2019-07-14", 30, "nothing before or after the event"),
    ],
)
def test_nothing_on_one_side(stac: Proxy, event: str, window: int, said: str) -> None:
    with pytest.raises(InputError) as raised:
        search(stac.url, S2, Area.from_bbox(0.2, 40.2, 0.4, 40.4), event, window, 70)
    first, second = raised.value.problems
    assert said in first and f"{window} days" in first and "above 70 % cloud" in first
    assert "--window" in second and "--collection" in second


def test_what_is_too_cloudy_is_not_taken(stac: Proxy) -> None:
    choice = search(stac.url, S2, INSIDE, EVENT, max_cloud=70)
    assert choice.reasons[0].endswith("4 before (1 above 70 % cloud), 4 after (2 above 70 % cloud)")
    with pytest.raises(InputError) as raised:
        search(stac.url, S2, INSIDE, EVENT, max_cloud=1)
    assert "nothing after the event" in str(raised.value)
    assert "a higher --max-cloud" in str(raised.value)


def test_more_items_than_anyone_needs(stac: Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api_module, "MAX_ITEMS", 5)
    with pytest.raises(InputError, match=r"more than 5 items.*smaller area or --window"):
        search(stac.url, S2, INSIDE, EVENT)
    assert len(stac.searches()) == 3


def test_an_answer_without_end(stac: Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source, "MAX_BYTES", 2_000_000)
    stac.faults[:] = ["huge"]
    with pytest.raises(InputError, match="exceeds 1 MiB"):
        search(stac.url, S2, INSIDE, EVENT)


def test_an_api_cannot_have_a_local_file_read(stac: Proxy) -> None:
    stac.faults[:] = ["outside"]
    with pytest.raises(InputError, match="file:///etc/passwd: an API may point at http"):
        search(stac.url, S2, INSIDE, EVENT)


def test_the_whole_search_has_an_end(stac: Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search_module, "PATIENCE", 0.1)
    monkeypatch.setattr(source, "SILENCE", 5)
    monkeypatch.setattr(source, "ATTEMPT", 5)
    stac.faults[:] = ["stall"]
    with pytest.raises(Unavailable, match="not done after"):
        search(stac.url, S2, INSIDE, EVENT)


@pytest.mark.parametrize("href", ["file:///data/b2.json", "/data/b2.json", "s3://bucket/b2.json"])
def test_a_remote_item_does_not_pass_for_a_local_one(href: str) -> None:
    item = SERIES[0] | {"links": [{"rel": "self", "href": href}, "x", {}]}
    located = api_module.Api("https://u:p@api.example/v1/?key=k")._location(item, S2)
    assert located == f"https://api.example/v1/collections/{S2}/items/b1"


def test_a_large_geometry_is_asked_for_by_its_box(stac: Proxy) -> None:
    circle = shapely.Point(0.5, 40.5).buffer(0.1, quad_segs=400)
    assert taken(search(stac.url, S2, Area(mapping(circle)), EVENT)) == [("b2", "a2")]
    assert len(stac.searches()[0]["intersects"]["coordinates"][0]) == 5


# --- static catalogues


@pytest.mark.parametrize("entry", ["catalog.json", f"{S2}/collection.json"])
@pytest.mark.parametrize("over_http", [False, True])
def test_a_static_catalogue_is_walked(tmp_path: Path, entry: str, over_http: bool) -> None:
    static(tmp_path, SERIES)
    if over_http:
        with files_over_http(tmp_path) as url:
            choice = search(f"{url}/{entry}", S2, INSIDE, EVENT)
    else:
        url = str(tmp_path)
        choice = search(f"{url}/{entry}", S2, INSIDE, EVENT)
    assert taken(choice) == [("b2", "a2")]
    assert choice.reasons[0].endswith("4 before, 4 after")
    # Where it was read: relative hrefs of assets are resolved against it.
    assert choice.pre[0].href == f"{url}/{S2}/part-1/b2/b2.json"
    asset = choice.pre[0].document["assets"]["B08"]["href"]
    assert source.resolve(asset, choice.pre[0].href).startswith(url)


def test_a_static_catalogue_names_its_collections(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=f"no collection s2; there are other, {S2}"):
        search(str(static(tmp_path, SERIES)), "s2", INSIDE, EVENT)


def test_a_static_catalogue_that_never_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = static(tmp_path, SERIES)
    document = json.loads(root.read_text())
    document["links"].append({"rel": "child", "href": "./catalog.json"})  # itself
    root.write_text(json.dumps(document))
    assert taken(search(str(root), S2, INSIDE, EVENT)) == [("b2", "a2")]
    monkeypatch.setattr(catalogue, "MAX_DOCUMENTS", 10)
    with pytest.raises(InputError, match="more than 10 documents"):
        search(str(root), S2, INSIDE, EVENT)


def test_a_remote_catalogue_cannot_have_a_local_file_read(tmp_path: Path) -> None:
    root = static(tmp_path, SERIES)
    document = json.loads(root.read_text())
    document["links"].append({"rel": "item", "href": "file:///etc/passwd"})
    root.write_text(json.dumps(document))
    with (
        files_over_http(tmp_path) as url,
        pytest.raises(InputError, match="may not point at file:///etc/passwd"),
    ):
        search(f"{url}/catalog.json", S2, INSIDE, EVENT)


@pytest.mark.parametrize(("name", "said"), [("none.json", "404"), ("text.json", "not JSON")])
def test_the_secret_of_a_catalogues_url_is_not_told(tmp_path: Path, name: str, said: str) -> None:
    (tmp_path / "text.json").write_text("a text")
    with files_over_http(tmp_path) as url, pytest.raises(InputError) as raised:
        search(f"{url}/{name}?sig=s3cret", S2, INSIDE, EVENT)
    assert said in str(raised.value) and "s3cret" not in str(raised.value)


def test_real_items_are_found(realdata: Path, tmp_path: Path) -> None:
    """Each real item with a made one after it: both have the same tile and orbit."""
    for number, path in enumerate(sorted((realdata / "stac").glob("*.json"))):
        before = json.loads(path.read_text()) | {"collection": S2, "links": []}
        after = json.loads(json.dumps(before)) | {"id": f"{before['id']}_later"}
        when = dt.datetime.fromisoformat(before["properties"]["datetime"][:10])
        after["properties"]["datetime"] = f"{when + dt.timedelta(days=20):%Y-%m-%dT10:00:00Z}"
        center = shape(before["geometry"]).representative_point()
        around = Area(mapping(center.buffer(0.001)))
        folder = tmp_path / str(number)
        folder.mkdir()
        for name, item in (("before", before), ("after", after)):
            (folder / f"{name}.json").write_text(json.dumps(item))
        links = [{"rel": "item", "href": f"./{name}.json"} for name in ("before", "after")]
        (folder / "collection.json").write_text(json.dumps(collection(S2) | {"links": links}))
        event = f"{when + dt.timedelta(days=10):%Y-%m-%d}"
        choice = search(str(folder / "collection.json"), S2, around, event)
        assert taken(choice) == [(before["id"], after["id"])], path.name


# --- choosing


def choose(tmp_path: Path, items: list[dict[str, Any]], area: Area, **options: Any) -> Choice:
    return search(str(static(tmp_path, items, 1)), S2, area, EVENT, **options)


def test_several_tiles_are_taken_and_those_that_add_nothing_are_not(tmp_path: Path) -> None:
    strip = box(0.95, 40, 1.0, 41)  # of a third tile, within both others
    items = [
        scene("w1", "2021-07-08T11:00:00Z"),
        scene("w2", "2021-07-18T11:00:00Z"),
        scene("e1", "2021-07-08T11:00:10Z", 50, "31TCF", footprint=EAST),
        scene("e2", "2021-07-18T11:00:10Z", 50, "31TCF", footprint=EAST),
        scene("s1", "2021-07-08T11:00:10Z", 0, "31TXX", footprint=strip),
        scene("s2", "2021-07-18T11:00:10Z", 0, "31TXX", footprint=strip),
        scene("lonely", "2021-07-18T11:00:10Z", 0, "31TYY", footprint=WEST),
    ]
    choice = choose(tmp_path, items, Area.from_bbox(0.2, 40.2, 1.6, 40.4))
    assert taken(choice) == [("w1", "w2"), ("e1", "e2")]
    assert choice.reasons[-2:] == (
        "MGRS-31TXX, orbit 51 left out: it adds nothing to the area",
        "MGRS-31TYY left out: no pair on one orbit",
    )
    beyond = choose(tmp_path, items, Area.from_bbox(0.9, 40.2, 2.9, 40.4))
    assert taken(beyond) == [("e1", "e2")]
    assert beyond.reasons[-1] == "50.0% of the area is not covered both before and after the event"


def test_both_are_of_the_orbit_that_loses_least(tmp_path: Path) -> None:
    items = [
        scene("b51", "2021-07-08T11:00:00Z", 0, orbit=51),
        scene("a51", "2021-07-18T11:00:00Z", 90, orbit=51),
        scene("b94", "2021-07-11T11:00:00Z", 20, orbit=94),
        scene("a94", "2021-07-21T11:00:00Z", 20, orbit=94),
        scene("a37", "2021-07-20T11:00:00Z", 0, orbit=37),
    ]
    choice = choose(tmp_path, items, INSIDE)
    assert taken(choice) == [("b94", "a94")]
    assert choice.reasons[1].endswith("of 1 on MGRS-31TBF, orbit 94, the best of 2 orbits")


def test_the_empty_part_of_a_tile_counts_as_clouded(tmp_path: Path) -> None:
    strip = box(0.2, 40.2, 0.25, 40.4)  # a quarter of the area
    items = [
        scene("b51", "2021-07-08T11:00:00Z", 0, orbit=51, footprint=strip),
        scene("a51", "2021-07-18T11:00:00Z", 0, orbit=51, footprint=strip),
        scene("b94", "2021-07-11T11:00:00Z", 30, orbit=94),
        scene("a94", "2021-07-21T11:00:00Z", 30, orbit=94),
    ]
    assert taken(choose(tmp_path, items, INSIDE)) == [("b94", "a94")]
    edge = choose(tmp_path, items[:1] + items[3:] + [scene("a51", "2021-07-16T11:00:00Z")], INSIDE)
    assert "0.0 % cloud, 75.0 % empty" in edge.reasons[1]


def test_a_tie_goes_to_the_nearest(tmp_path: Path) -> None:
    items = [
        scene(name, when, None)
        for name, when in [
            ("b1", "2021-07-01T11:00:00Z"),
            ("b2", "2021-07-10T11:00:00Z"),
            ("a1", "2021-07-17T11:00:00Z"),
            ("a2", "2021-07-20T11:00:00Z"),
        ]
    ]
    choice = choose(tmp_path, items, INSIDE)
    assert taken(choice) == [("b2", "a1")]
    assert "cloud not stated" in choice.reasons[1]


def test_the_newest_version_of_an_acquisition_counts(tmp_path: Path) -> None:
    items = [
        scene("old", "2021-07-08T11:00:00Z", 0),
        scene("new", "2021-07-08T11:00:02Z", 40, s2__processing_baseline="05.00"),
        scene("b", "2021-07-03T11:00:00Z", 20),
        scene("a", "2021-07-18T11:00:00Z"),
    ]
    choice = choose(tmp_path, items, INSIDE)
    assert taken(choice) == [("b", "a")]
    assert choice.reasons[0].endswith("2 before, 1 after")


def test_what_tells_versions_from_parts() -> None:
    def read(*items: dict[str, Any]) -> list[Acquisition]:
        return [each for item in items if (each := Acquisition.read(Found(item, "")))]

    half = box(0, 40, 0.5, 41), box(0.45, 40, 1, 41)
    parts = [scene(f"part-{i}", f"2021-07-08T11:00:0{i}Z", footprint=half[i]) for i in (0, 1)]
    twin = scene("twin", "2021-07-08T11:00:30Z", platform="sentinel-2c")
    updated = scene("updated", "2021-07-08T11:00:00Z", updated="2023-01-01T00:00:00Z")
    assert len(newest(read(*parts))) == 2
    assert len(newest(read(SERIES[1], SERIES[2]))) == 2
    assert len(newest(read(SERIES[1] | {"id": "x"}, twin))) == 2
    assert [each.id for each in newest(read(SERIES[1], updated))] == ["updated"]


def test_no_orbit_with_both(tmp_path: Path) -> None:
    items = [
        scene("b", "2021-07-08T11:00:00Z", orbit=51),
        scene("a", "2021-07-18T11:00:00Z", orbit=94),
    ]
    with pytest.raises(InputError) as raised:
        choose(tmp_path, items, INSIDE)
    assert "before: MGRS-31TBF, orbit 51; after: MGRS-31TBF, orbit 94" in str(raised.value)


def test_halves_that_do_not_meet(tmp_path: Path) -> None:
    items = [
        scene("b", "2021-07-08T11:00:00Z", footprint=box(0, 40, 0.3, 41)),
        scene("a", "2021-07-18T11:00:00Z", footprint=box(0.3, 40, 1, 41)),
    ]
    with pytest.raises(InputError, match="no part of the area is covered both"):
        choose(tmp_path, items, INSIDE)


@pytest.mark.parametrize(
    ("properties", "tile", "orbit"),
    [
        ({"grid:code": "MGRS-7HFE", "sat:relative_orbit": 13}, "MGRS-07HFE", 13),
        ({"s2:mgrs_tile": "31TBF"}, "MGRS-31TBF", None),
        (
            {
                "sentinel:utm_zone": 28, "sentinel:latitude_band": "Q",
                "sentinel:grid_square": "CH",
                "sentinel:product_id": "S2A_MSIL2A_20200714T113321_N0214_R080_T28QCH_20200714T1",
            },
            "MGRS-28QCH",
            80,
        ),
        ({"landsat:wrs_path": "033", "landsat:wrs_row": "032"}, "WRS2-033032", 33),
        ({"s2:product_uri": "S2B_MSIL2A_20190629T212529_N0212_R043_T06VVN_20201006.SAFE"},
         "MGRS-06VVN", 43),
        ({}, None, None),
    ],
)  # fmt: skip
def test_where_tile_and_orbit_are_said(
    properties: dict[str, Any], tile: str | None, orbit: int | None
) -> None:
    item = scene("x", "") | {"properties": {"datetime": "2021-07-08T11:00:00Z"} | properties}
    read = Acquisition.read(Found(item, ""))
    assert read and (read.tile, read.orbit) == (tile, orbit)


def test_the_name_says_what_the_properties_do_not() -> None:
    properties = {"datetime": "2021-07-08T11:00:00Z"}
    for name, tile in [
        ("S2A_13TDE_20231008_0_L2A", "MGRS-13TDE"),
        ("S2A_T07HFE_2019", "MGRS-07HFE"),
    ]:
        read = Acquisition.read(Found(scene(name, "") | {"properties": properties}, ""))
        assert read and read.tile == tile


@pytest.mark.parametrize(
    "broken",
    [
        {"properties": None},
        {"properties": {}},
        {"properties": {"datetime": "soon"}},
        {"properties": {"datetime": 7}},
        {"id": 7},
        {"geometry": None, "bbox": None},
        {"geometry": {"type": "Polygon"}},
        {"geometry": {"type": "Polygon", "coordinates": [[["a", 1], [2, 3], [4, 5]]]}},
        {"geometry": {"type": "Polygon", "coordinates": [[[0, 0], [1e999, 0], [1, 1], [0, 0]]]}},
        {"geometry": {"type": "Point", "coordinates": [0.3, 40.3]}},
        {"geometry": ["x"]},
    ],
)
def test_an_item_that_says_too_little_is_left_out(broken: dict[str, Any]) -> None:
    assert Acquisition.read(Found(SERIES[0] | broken, "")) is None


def test_odd_properties_count_as_not_said() -> None:
    item = scene(
        "x\x1b[2J\n" + "y" * 500, "2021-07-08T11:00:00+02:00", cloud=-1, tile={}, orbit="north",
        platform=7, s2__processing_baseline=[], updated="never", landsat__wrs_path=1e999,
    )  # fmt: skip
    read = Acquisition.read(Found(item, ""))
    assert read and (read.cloud, read.tile, read.orbit, read.version[0]) == (
        None,
        None,
        None,
        (0, 0),
    )
    assert read.id.isprintable() and len(read.id) == 100
    assert read.when == dt.datetime(2021, 7, 8, 9, tzinfo=dt.timezone.utc)


def test_a_footprint_across_the_antimeridian() -> None:
    outline = [[179, -17], [-179, -17], [-179, -16], [179, -16], [179, -17]]
    geometry = {"type": "Polygon", "coordinates": [outline]}
    for item in ({"geometry": geometry}, {"geometry": None, "bbox": [179, -17, -179, -16]}):
        read = Acquisition.read(Found(SERIES[0] | item, ""))
        assert read and read.footprint.area == pytest.approx(2)
        assert read.footprint.equals(box(179, -17, 180, -16) | box(-180, -17, -179, -16))


# --- what is asked for


def test_an_event_is_a_day_or_a_moment() -> None:
    utc = dt.timezone.utc
    day = period("2021-07-14", 10)
    assert (day.begin, day.end) == (
        dt.datetime(2021, 7, 14, tzinfo=utc),
        dt.datetime(2021, 7, 15, tzinfo=utc),
    )
    assert (day.first.day, day.last.day) == (4, 25)
    moment = period("2021-07-14T15:20:00+02:00")
    assert moment.begin == moment.end == dt.datetime(2021, 7, 14, 13, 20, tzinfo=utc)
    assert period("2021-07-14T15:20Z").begin.hour == 15


@pytest.mark.parametrize(
    ("event", "window"),
    [("yesterday", 30), ("2021-02-30", 30), ("2021", 30), ("20210714", 30), ("", 30),
     ("2021-07-14", 0), ("2021-07-14", 10**6), ("9999-12-31", 30), ("2021-07-14T25:00:00Z", 30)],
)  # fmt: skip
def test_events_that_are_none(event: str, window: int) -> None:
    with pytest.raises(InputError):
        period(event, window)


@pytest.mark.parametrize(
    ("bbox", "said"),
    [
        ((500000, 4400000, 510000, 4410000), "in degrees"),
        ((179, -17, -179, -16), "antimeridian"),
        ((1, 40, 1, 41), "no area"),
        ((0, 41, 1, 40), "west south east north"),
        ((float("nan"), 0, 1, 1), "four numbers"),
    ],
)
def test_boxes_that_are_none(bbox: tuple[float, float, float, float], said: str) -> None:
    with pytest.raises(InputError, match=said):
        Area.from_bbox(*bbox)


def test_the_area_of_a_file_is_that_of_its_polygons(tmp_path: Path) -> None:
    path = tmp_path / "area.geojson"
    feature = {"type": "Feature", "properties": {}, "geometry": mapping(box(0, 40, 1, 41))}
    bow = {
        "type": "Polygon",
        "coordinates": [[[2, 40, 5], [3, 41, 5], [3, 40, 5], [2, 41, 5], [2, 40, 5]]],
    }
    point = {"type": "Point", "coordinates": [100, 0]}
    group = {"type": "GeometryCollection", "geometries": [bow, point]}
    other = feature | {"geometry": group}
    empty = feature | {"geometry": None}
    path.write_text(json.dumps({"type": "FeatureCollection", "features": [feature, other, empty]}))
    area = Area.from_file(path)
    assert area.shape.area == pytest.approx(1.5) and area.shape.is_valid
    assert area.bounds == (0, 40, 3, 41) and str(area) == "0.0000 40.0000 3.0000 41.0000"
    for document in (feature, feature["geometry"]):
        path.write_text(json.dumps(document))
        assert shape(Area.from_file(path).geometry).equals(box(0, 40, 1, 41))
    assert dataclasses.replace(area) == area


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "not JSON"),
        ("[]", "not GeoJSON"),
        ("{}", "not GeoJSON"),
        ('{"type": "FeatureCollection", "features": 7}', "not GeoJSON"),
        ('{"type": "FeatureCollection", "features": []}', "no Polygon"),
        ('{"type": "Point", "coordinates": [0, 0]}', "no Polygon"),
        ('{"type": "Polygon", "coordinates": [[[0, 0], ["x", 0], [1, 1]]]}', "not GeoJSON"),
        (json.dumps(mapping(box(500000, 4400000, 500010, 4400010))), "in degrees"),
        (json.dumps(mapping(box(-179, 0, 179, 1))), "antimeridian"),
        ("[" * 100_000, "not JSON"),
    ],
)
def test_files_that_hold_no_area(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "area.geojson"
    path.write_text(text)
    with pytest.raises(InputError, match=said):
        Area.from_file(path)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="No such file"):
        Area.from_file(tmp_path / "none.geojson")


# --- signing


SIGNERS = """
import time

def add_token(href):
    return href + "?sig=s3cret"

def fail(href):
    raise RuntimeError(f"no rights for {href}?sig=s3cret")

def hang(href):
    time.sleep(5)

def nothing(href):
    return None

constant = 7
"""


@pytest.fixture
def signers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A module of signers that can be imported."""
    (tmp_path / "some_signers.py").write_text(SIGNERS)
    monkeypatch.syspath_prepend(tmp_path)
    yield
    sys.modules.pop("some_signers", None)


def test_without_a_signer_hrefs_stay() -> None:
    assert signer(None)("https://h/B08.tif") == "https://h/B08.tif"


def test_any_function_can_sign(signers: None) -> None:
    sign = pickle.loads(pickle.dumps(signer("some_signers:add_token")))
    assert sign("https://h/B08.tif") == "https://h/B08.tif?sig=s3cret"


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("some_signers:fail", "failed .RuntimeError"),
        ("some_signers:nothing", "gave NoneType"),
        ("some_signers:hang", "failed .TimeoutError"),
    ],
)
def test_a_signer_that_fails(
    signers: None, monkeypatch: pytest.MonkeyPatch, name: str, said: str
) -> None:
    monkeypatch.setattr(sign_module, "PATIENCE", 0.1 if "hang" in name else 5)
    with pytest.raises(InputError, match=f"^https://h/B08.tif: the signer {name} {said}") as raised:
        signer(name)("https://u:s3cret@h/B08.tif?key=s3cret")
    assert "s3cret" not in str(raised.value)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("azure", "no such signer"),
        (":f", "no such signer"),
        ("no_such_module:f", "cannot be imported .ModuleNotFoundError"),
        ("some_signers:none", "cannot be imported .AttributeError"),
        ("some_signers:constant", "not a function"),
    ],
)
def test_signers_that_are_none(signers: None, name: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        signer(name)


def test_a_missing_package_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "planetary_computer", None)
    with pytest.raises(InputError, match=r"dask-claim\[planetary-computer\]"):
        signer("planetary-computer")


class Tokens(BaseHTTPRequestHandler):
    """Gives tokens for one account, as the token server of Planetary Computer does."""

    def do_GET(self) -> None:
        known = self.path == "/token/account/container"
        expiry = dt.datetime.now(dt.timezone.utc) + dt.timedelta(minutes=45)
        token = {"msft:expiry": expiry.isoformat(), "token": "se=x&sig=s3cret"}
        answer = json.dumps(token if known else {}).encode()
        self.send_response(200 if known else 403)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # planetary_computer's own
def test_planetary_computer_signs(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("planetary_computer")
    from planetary_computer.settings import Settings

    server = ThreadingHTTPServer(("127.0.0.1", 0), Tokens)
    url = f"http://127.0.0.1:{server.server_port}/token"
    monkeypatch.setattr(Settings, "get", staticmethod(lambda: Settings(sas_url=url)))
    with serving(server):
        sign = signer("planetary-computer")
        href = "https://account.blob.core.windows.net/container/B08.tif"
        assert sign(href) == f"{href}?se=x&sig=s3cret"
        assert sign("https://h/B08.tif") == "https://h/B08.tif"
        with pytest.raises(InputError, match="the token server answered 403"):
            sign("https://other.blob.core.windows.net/container/B08.tif")


@pytest.mark.parametrize(
    ("href", "shown"),
    [
        ("https://h:8080/a/B08.tif?sig=x#y", "https://h:8080/a/B08.tif"),
        ("https://user:p%40ss@h/B08.tif", "https://h/B08.tif"),
        ("https://user:p@ss@h/@B08.tif", "https://h/@B08.tif"),
        ("/vsicurl/https://u:p@h/B08.tif?sig=x", "/vsicurl/https://h/B08.tif"),
        ("/vsicurl?header.Authorization=x&url=https://h/B08.tif", "/vsicurl"),
        ("s3://bucket/key.tif", "s3://bucket/key.tif"),
        ("/data/scene #1/B08.tif", "/data/scene #1/B08.tif"),
        ("./B08.tif?sig=x", "./B08.tif"),
    ],
)
def test_what_may_be_shown_of_an_href(href: str, shown: str) -> None:
    assert public(href) == shown
