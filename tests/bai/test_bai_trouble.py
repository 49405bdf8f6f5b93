"""Bad input: what is said, what may be tried again, and what is never shown."""

from __future__ import annotations

import json
import logging
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bai_example import access, rasters
from bai_example.access import InputError, Unavailable
from bai_example.blocks import compute_block, compute_blocks
from bai_example.sample import write_sample
from bai_example.scenes import Scene, read_scene, to_scene
from tests.bai.maps import computed, item, opened, windows
from tests.bai.servers import RasterServer, rasters_over_http
from tests.support.bai import logged

Scenes = tuple[tuple[Scene, ...], tuple[Scene, ...]]
SECRET = "sig=s3cr3t"


def scenes(folder: Path, sample: Path, **hrefs: str) -> Scenes:
    """The sample's scenes, with other files for some bands."""
    pair = []
    for event in ("pre", "post"):
        document = json.loads((sample / f"{event}.json").read_text())
        for band in ("B08", "B12"):
            href = hrefs.get(f"{event}_{band}", str(sample / f"{event}_{band}.tif"))
            document["assets"][band]["href"] = href
        pair.append((to_scene(document, str(folder / f"{event}.json")),))
    return pair[0], pair[1]


def first_block(pair: Any) -> Any:
    return compute_block(pair, "dnbr", windows(pair.grid.shape)[0])


# Files


def test_raster_that_is_cut_off_or_vanishes(sample: Path, client: Any, tmp_path: Path) -> None:
    """The worker's error names the file, in one line, and is not of a kind that goes away."""
    for damage, said in (
        (lambda path: os.truncate(path, path.stat().st_size // 2), ""),
        (Path.unlink, r".*No such file"),
    ):
        bad = tmp_path / "bad.tif"
        shutil.copy(sample / "post_B12.tif", bad)
        pair = opened(*scenes(tmp_path, sample, post_B12=str(bad)))
        damage(bad)
        with pytest.raises(InputError, match=rf"bad\.tif: cannot be read{said}") as caught:
            list(compute_blocks(pair, "dnbr", client))
        assert type(caught.value) is InputError
        assert len(str(caught.value).splitlines()) == 1


def test_rasters_that_cannot_be_opened(
    sample: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All of them are reported at once; with one that will not come back, all fail for good."""
    text = tmp_path / "text.tif"
    text.write_text("no raster")
    nobody = "http://127.0.0.1:9/B08.tif"
    files = {"pre_B08": "missing.tif", "post_B12": str(text), "post_B08": nobody}
    with pytest.raises(InputError) as caught:
        opened(*scenes(tmp_path, sample, **files))
    first, second, third = caught.value.args
    assert first.startswith(f"pre-event NIR: {tmp_path / 'missing.tif'}: cannot be read (")
    assert f"{nobody}: cannot be read" in second
    assert third.startswith(f"post-event SWIR: {text}: cannot be read (")
    assert not any("\n" in problem for problem in caught.value.args)
    assert type(caught.value) is InputError
    with pytest.raises(Unavailable):
        opened(*scenes(tmp_path, sample, post_B08=nobody))


def bands(make_raster: Callable[..., Path]) -> dict[str, Path]:
    """Two bands of 8 by 8 and of 4 by 4 pixels."""
    return {
        "B08": make_raster("B08.tif", np.full((8, 8), 3000, np.uint16)),
        "B12": make_raster("B12.tif", np.full((4, 4), 2000, np.uint16), 20),
    }


def test_mask_that_is_missing_or_none(make_raster: Callable[..., Path]) -> None:
    """A missing file, and one of other numbers under the mask's name."""
    assets = bands(make_raster)
    scene = to_scene(item("a", assets | {"SCL": "/nowhere/SCL.tif"}), "/item.json")
    with pytest.raises(InputError) as caught:
        opened([scene], [scene])
    problems = caught.value.args
    assert [problem.split(":")[0] for problem in problems] == [
        "pre-event scl", "post-event scl",
    ]  # fmt: skip
    assert all("SCL.tif" in problem and "--no-mask" in problem for problem in problems)
    assert opened([scene], [scene], masked=False).grid.shape == (8, 8)
    mask = make_raster("SCL.tif", np.full((4, 4), 0.5, np.float32), 20)
    scene = to_scene(item("a", assets | {"SCL": mask}), "/item.json")
    with pytest.raises(InputError, match=r"SCL\.tif: a mask of kind scl holds .*, not float32"):
        computed(opened([scene], [scene]))


# Servers


@pytest.fixture(scope="module")
def larger(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sample whose rasters are more than what is read with their headers."""
    folder = tmp_path_factory.mktemp("larger")
    write_sample(folder, 512)
    return folder


@pytest.fixture
def server(larger: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[RasterServer]:
    """A server of that sample, and a GDAL that does not wait long."""
    monkeypatch.setitem(rasters.SETTINGS, "GDAL_HTTP_RETRY_DELAY", 0.02)
    monkeypatch.setattr(access, "BACKOFF", 0.02)
    folder = tmp_path / "served"
    shutil.copytree(larger, folder)
    with rasters_over_http(folder) as server:
        yield server


def remote(server: RasterServer, query: str = "") -> Scenes:
    """The sample's scenes, with their rasters on the server."""
    hrefs = {
        f"{event}_{band}": f"{server.url}/{event}_{band}.tif{query}"
        for event in ("pre", "post")
        for band in ("B08", "B12")
    }
    return scenes(server.folder, server.folder, **hrefs)


def test_server_that_is_busy_for_a_while(server: RasterServer) -> None:
    """503 at the header, and at the pixels: GDAL sits it out."""
    expected = computed(opened(*scenes(server.folder, server.folder))).index
    for begin, failures in ((0, 4), (2, 3)):
        server.asked.clear()
        server.trouble = lambda name, n, first=begin + 1, last=begin + failures: (
            503 if "B12" in name and first <= n <= last else None
        )
        # Another address: GDAL remembers what it has read of a file.
        made = computed(opened(*remote(server, f"?{begin}{failures}")))
        assert np.array_equal(made.index, expected, equal_nan=True)
        assert server.asked["pre_B12.tif"] > failures


def test_server_that_refuses_or_stays_busy(
    server: RasterServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Busy: perhaps later. Refused: nothing to wait for, asked once or twice; but of a signed URL
    the signature may have expired, and another run signs anew."""
    monkeypatch.setitem(rasters.SETTINGS, "GDAL_HTTP_MAX_RETRY", 1)
    signed = f"?{SECRET}&"
    for status, query, kind in (
        (429, signed, Unavailable), (503, signed, Unavailable), (403, "", InputError),
        (404, signed, InputError), (403, signed, Unavailable),
    ):  # fmt: skip
        server.asked.clear()
        server.trouble = lambda name, n, status=status: status if name == "post_B12.tif" else None
        with pytest.raises(kind) as caught:
            opened(*remote(server, query and f"{query}{status}"))
        assert type(caught.value) is kind
        (problem,) = caught.value.args
        assert problem.startswith(f"post-event SWIR: {server.url}/post_B12.tif: cannot be read (")
        assert str(status) in problem and SECRET not in problem
        assert ("signature may have expired" in problem) == (status == 403 and bool(query))
        assert kind is Unavailable or server.asked["post_B12.tif"] <= 3


def test_a_login_page_in_place_of_a_raster(server: RasterServer) -> None:
    """Is named as what it is; another run would meet it, too."""
    (server.folder / "post_B12.tif").write_text("<!DOCTYPE html><title>Sign in</title>")
    with pytest.raises(
        InputError, match="sends a web page in its place, perhaps to log in"
    ) as caught:
        opened(*remote(server))
    assert type(caught.value) is InputError


@pytest.mark.slow
def test_server_that_stalls(server: RasterServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Half of a body, then silence: the run ends, and another may succeed."""
    monkeypatch.setitem(rasters.SETTINGS, "GDAL_HTTP_LOW_SPEED_TIME", 1)
    # curl's speed is that of the last seconds: what came before must not count long.
    monkeypatch.setitem(rasters.SETTINGS, "GDAL_HTTP_LOW_SPEED_LIMIT", 10**9)
    monkeypatch.setitem(rasters.SETTINGS, "GDAL_HTTP_MAX_RETRY", 0)
    pair = opened(*remote(server))
    server.trouble = lambda name, n: "stall" if name == "pre_B08.tif" else None
    with pytest.raises(Unavailable, match=r"/pre_B08\.tif: cannot be read"):
        first_block(pair)


# Secrets


@pytest.fixture
def said(caplog: pytest.LogCaptureFixture) -> Iterator[list[str]]:
    """All that is logged here, by this program, GDAL, Dask."""
    caplog.set_level(logging.WARNING, "matplotlib")  # a line for each font there is
    caplog.set_level(logging.DEBUG)  # last, for it is also that of what is kept
    with logged("{message}\n{exception}", "TRACE") as lines:
        yield lines
    lines += [record.getMessage() for record in caplog.records]


@pytest.mark.parametrize("trouble", [503, 403])
def test_the_query_of_a_signed_url_is_never_shown(
    server: RasterServer, said: list[str], caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch, trouble: int,
) -> None:  # fmt: skip
    """Neither by us nor by GDAL, whose warnings name the URL. Of a server that fails amid pixels
    it says no more than that bytes are missing: that may pass."""
    monkeypatch.setitem(rasters.SETTINGS, "GDAL_HTTP_MAX_RETRY", 0)
    pair = opened(*remote(server, f"?{SECRET}"))
    assert any(SECRET in target for target in server.targets), "it is used"
    server.trouble = lambda name, n: trouble
    with pytest.raises(Unavailable, match=r"/pre_B08\.tif: cannot be read") as caught:
        first_block(pair)
    assert SECRET not in repr(caught.value)
    assert SECRET not in str(caught.value.__cause__) + str(caught.value.__context__)
    assert SECRET not in repr(pair), "Dask shows a task's arguments in its log"
    assert SECRET not in caplog.text
    assert not any(SECRET in line for line in said)


def test_no_secret_in_the_log_of_a_worker(server: RasterServer, client: Any) -> None:
    """Dask logs a task that failed, with its arguments."""
    pair = opened(*remote(server, f"?{SECRET}"))
    server.trouble = lambda name, n: 403
    with pytest.raises(InputError, match="cannot be read"):
        list(compute_blocks(pair, "dnbr", client))
    logs = [line for lines in client.get_worker_logs().values() for _, line in lines]
    assert not any(SECRET in line for line in logs)


def test_no_secret_in_what_is_said_of_an_item(server: RasterServer, said: list[str]) -> None:
    url = f"{server.url}/signed.json"
    lacking = json.dumps(item("a", {"B08": "x.tif"}))
    for document in ("not json", "[1]", '{"type": "Feature"}', lacking, "503"):
        (server.folder / "signed.json").write_text(document)
        server.trouble = lambda name, n, document=document: 503 if document == "503" else None
        with pytest.raises(InputError) as caught:
            read_scene(f"{url}?{SECRET}")
        assert SECRET not in str(caught.value)
        assert (url in str(caught.value)) == (document != lacking)
        assert isinstance(caught.value, Unavailable) == (document == "503")
    assert not any(SECRET in line for line in said)


BARE = """
import sys
sys.modules["bai_example"] = None
from distributed import LocalCluster
with LocalCluster(
    n_workers=1, processes=False, protocol="tcp://", host="127.0.0.1", dashboard_address=":0",
    silence_logs=60,
) as cluster:
    print(cluster.scheduler_address, flush=True)
    sys.stdin.read()
"""


@pytest.mark.slow
def test_a_cluster_without_the_package(
    sample: Path, program: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Is told in one line."""
    with subprocess.Popen(
        [sys.executable, "-c", BARE], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as cluster:
        assert cluster.stdin and cluster.stdout
        try:
            monkeypatch.setenv("DASK_SCHEDULER_ADDRESS", cluster.stdout.readline().strip())
            pair = [f"--{event}-event={sample / event}.json" for event in ("pre", "post")]
            status, lines = program(*pair, "--output-dir", "out")
        finally:
            cluster.stdin.close()
    assert status == 1
    assert (
        "scheduler and workers need bai_example and what it imports (No module named" in lines[-1]
    )


# The whole program, in this process


def signed_items(server: RasterServer) -> list[str]:
    """The sample's items on the server, their rasters with a secret in the URL."""
    for event in ("pre", "post"):
        document = json.loads((server.folder / f"{event}.json").read_text())
        for asset in document["assets"].values():
            asset["href"] += f"?{SECRET}"
        (server.folder / f"{event}.json").write_text(json.dumps(document))
    return [
        f"--pre-event={server.url}/pre.json?{SECRET}",
        f"--post-event={server.url}/post.json?{SECRET}",
    ]


def test_signed_items_make_a_map_without_secrets(
    server: RasterServer, program: Callable[..., Any], said: list[str],
    caplog: pytest.LogCaptureFixture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """A server that answers 503 twice does not matter; the secret is in no line and no file."""
    arguments = signed_items(server)
    monkeypatch.setattr("sys.argv", ["bai_example", *arguments])
    server.trouble = lambda name, n: 503 if n <= 2 else None
    status, lines = program(*arguments, "--output-dir", "out")
    assert status == 0
    assert lines
    assert SECRET not in caplog.text
    assert not any(SECRET in line for line in said)
    written = [*(tmp_path / "out").iterdir()]
    assert len(written) == 6
    for path in written:
        assert SECRET.encode() not in path.read_bytes(), path.name


def test_a_busy_server_ends_with_75(
    server: RasterServer, program: Callable[..., Any], tmp_path: Path
) -> None:
    server.trouble = lambda name, n: 503 if name == "pre_B12.tif" else None
    pair = signed_items(server)
    status, lines = program(*pair, "--output-dir", "out")
    assert status == 75
    assert lines[-1] == (
        f"pre-event SWIR: {server.url}/pre_B12.tif: cannot be read (HTTP response code: 503)"
    )
    assert not any(SECRET in line for line in lines)
    assert not (tmp_path / "out").exists()
    # An item: temporary where both are.
    for other, expected in ((503, 75), (404, 1)):
        server.trouble = lambda name, n, other=other: other if name == "post.json" else 503
        status, lines = program(*pair)
        told = [f"pre.json: the server answered {503}", f"post.json: the server answered {other}"]
        assert status == expected
        assert all(any(text in line for line in lines) for text in told), lines
        assert not any(SECRET in line for line in lines)


def test_everything_cloudy(
    program: Callable[..., Any], make_raster: Callable[..., Path], tmp_path: Path
) -> None:
    """Says what the masks took from each event, leaves nothing; and the way out that it names is
    one. (An item that is named twice counts once.)"""
    classes = np.full((4, 4), 9, np.uint8)
    classes[3] = 3
    assets = bands(make_raster)
    cloudy = assets | {"SCL": make_raster("SCL.tif", classes, 20)}
    for event, its in (("pre", assets), ("post", cloudy)):
        (tmp_path / f"{event}.json").write_text(json.dumps(item(event, its)))
    pair = ["--pre-event", "pre.json", "--post-event", "post.json", "--output-dir", "out"]
    status, lines = program(*pair)
    assert status == 1
    assert lines[-1].startswith("the map is empty: no pixel has a value in both events (post-event")
    assert "post-event: cloud 75.0 %, shadow 25.0 %" in lines[-1]
    assert "pre-event" not in lines[-1]
    assert "--no-mask" in lines[-1]
    assert not [*(tmp_path / "out").iterdir()]
    status, _ = program(*pair, "--no-mask", "--pre-event", "pre.json")
    assert status == 0
    made = json.loads((tmp_path / "out" / "bai.json").read_text())
    assert made["properties"]["bai:masked"] == {"pre_event": [], "post_event": []}
