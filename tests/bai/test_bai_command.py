"""The command line: what it logs, its exit status, what it leaves behind."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio

from bai_example import __main__ as command
from bai_example import index as bai
from bai_example.outputs import ALL
from tests.bai.maps import counts, nbr_of
from tests.support.launcher import wait_for

COMMAND = [sys.executable, "-m", "bai_example"]


def items(folder: Path) -> list[str]:
    return [f"--{event}-event={folder / event}.json" for event in ("pre", "post")]


@pytest.mark.slow
def test_map(sample: Path, client: Any, tmp_path: Path) -> None:
    """Relative paths, the output folder made on the way, the log of the reference program."""
    (tmp_path / "pair").symlink_to(sample)
    arguments = ["--pre_fire_url", "pair/pre.json", "--post_fire_url", "pair/post.json"]
    done = subprocess.run(
        [*COMMAND, *arguments, "--output-dir", "out/here"],
        env=os.environ | {"DASK_SCHEDULER_ADDRESS": client.scheduler.address},
        cwd=tmp_path, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    assert {path.name for path in (tmp_path / "out" / "here").iterdir()} == {*ALL}
    place = 0
    for line in (
        "pre event pair/pre.json",
        "post event pair/post.json",
        "Burnt area intensity shape: (256, 256)",
        "Burnt area intensity dims: ('y', 'x')",
        "Writing the result to a COG file",
        "High severity",
        "pre-event: masked: nothing",
        "pre-event: no value: no data ",
        "post-event: no value: no data ",
        *(f"out/here/{name}" for name in ALL),
    ):
        assert line in done.stderr[place:], f"{line!r} is missing or out of order"
        place = done.stderr.index(line, place)


@pytest.mark.slow
def test_sigterm_while_waiting(sample: Path, tmp_path: Path) -> None:
    """Ended while it waits for a worker: status 128 + 15, no file or folder is left, and the
    older files are as they were."""
    from distributed import LocalCluster

    out, log = tmp_path / "out", tmp_path / "log"
    out.mkdir()
    (out / "bai.tif").write_text("older")
    with (
        LocalCluster(n_workers=0, dashboard_address="127.0.0.1:0", silence_logs=50) as empty,
        log.open("wb") as stderr,
        subprocess.Popen(
            [*COMMAND, *items(sample), "--output-dir", "out", "--overwrite"],
            env=os.environ | {"DASK_SCHEDULER_ADDRESS": empty.scheduler_address},
            cwd=tmp_path, stderr=stderr,
        ) as process,
    ):  # fmt: skip
        try:
            wait_for(
                lambda: "Writing the result" in log.read_text() and [*out.glob(".bai-*")],
                "start of the map", context=log.read_text,
            )  # fmt: skip
            process.send_signal(signal.SIGTERM)
            assert process.wait(30) == 128 + signal.SIGTERM, log.read_text()
        finally:
            process.kill()
    assert [path.name for path in out.iterdir()] == ["bai.tif"]
    assert (out / "bai.tif").read_text() == "older"


# In this process


@pytest.fixture
def program(
    program: Callable[..., tuple[int, list[str]]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., tuple[int, list[str]]]:
    """The program in an empty folder."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return program


def test_wrong_input(program: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """One line for each problem, status 1, no cluster asked for, nothing written."""
    monkeypatch.setenv("DASK_SCHEDULER_ADDRESS", "tcp://127.0.0.1:9")  # nobody there
    arguments = ["--pre-event", "no.json", "--post-event", "nor.json", "--output-dir", "out"]
    status, lines = program(*arguments)
    assert status == 1
    first, second = lines[-2:]
    assert "no.json: no such file" in first
    assert "nor.json: no such file" in second
    assert not Path("out").exists()


@pytest.mark.slow
def test_wrong_claim(
    sample: Path, program: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a launcher the program claims for itself, and ends as dask-claim would."""
    monkeypatch.delenv("DASK_SCHEDULER_ADDRESS")
    monkeypatch.setenv("DASK_CLAIM", '{"worker_core": 1, "max_workers": -1}')
    status, lines = program(*items(sample))
    assert status == 78
    assert all(any(name in line for line in lines) for name in ("worker_core", "max_workers"))
    assert not [*Path().iterdir()]


def test_relative_items_below_a_folder(sample: Path, program: Callable[..., Any]) -> None:
    """As a CWL tool finds a staged folder: the items by name, the working directory elsewhere.
    And another index: the classes stay those of dNBR, and what the result says of itself fits."""
    pair = ["--items", sample, "--pre-event", "pre.json", "--post-event", "post.json"]
    status, _ = program(*pair, "--index", "rbr")
    assert status == 0
    pre, post = nbr_of(sample, -0.1)
    values, classes = counts(Path("bai.tif")), counts(Path("bai-severity.tif"), None)
    expected = (pre - post) / (pre + 1.001)
    np.testing.assert_allclose(values, expected, rtol=2e-7, atol=1e-6)
    wrong = classes != bai.classify((pre - post).astype(np.float32))
    assert np.count_nonzero(wrong) <= 2, "but for values at a threshold"
    with rasterio.open("bai.tif") as file:
        assert file.descriptions == ("RBR",)
    made = json.loads(Path("bai.json").read_text())
    assert made["properties"]["bai:index"] == "rbr"
    assert "RBR" in made["assets"]["bai"]["title"]


def test_files_that_are_there(sample: Path, program: Callable[..., Any], tmp_path: Path) -> None:
    """Refused before anything is computed, each by name; kept where a run fails (here a raster
    turns out to be cut off when its pixels are read); replaced all together on demand."""
    older = ("bai.tif", "bai.png")
    for name in older:
        Path(name).write_text("older")

    def assert_kept() -> None:
        assert {path.name: path.read_text() for path in Path().iterdir()} == dict.fromkeys(
            older, "older"
        )

    status, lines = program(*items(sample), "--index", "rdnbr")
    assert status == 1
    refused = [line for line in lines if "exists already; --overwrite replaces it" in line]
    assert [line.split(":")[0] for line in refused] == [f"./{name}" for name in older]
    assert not any("Writing" in line for line in lines)
    assert_kept()
    shutil.copytree(sample, tmp_path / "cut")
    os.truncate(tmp_path / "cut" / "post_B12.tif", (sample / "post_B12.tif").stat().st_size // 2)
    status, lines = program(*items(tmp_path / "cut"), "--overwrite")
    assert status == 1
    assert "post_B12.tif: cannot be read" in lines[-1]
    assert_kept()
    status, _ = program(*items(sample), "--index", "rdnbr", "--overwrite")
    assert status == 0
    assert {path.name for path in Path().iterdir()} == {*ALL}
    pre, post = nbr_of(sample, -0.1)
    expected = (pre - post) / np.sqrt(np.maximum(np.abs(pre), 0.001))
    np.testing.assert_allclose(counts(Path("bai.tif")), expected, rtol=2e-7, atol=1e-6)


def test_crop(sample: Path, program: Callable[..., Any], tmp_path: Path) -> None:
    """A polygon: smaller than its box (what is outside is not counted as missing), smaller than the
    scenes. (Where it lies in the map: test_bai_mosaic.)"""
    ring = [[-8.285, 39.998], [-8.275, 39.998], [-8.285, 40.006], [-8.285, 39.998]]
    outline = tmp_path / "area.geojson"
    outline.write_text(json.dumps({"type": "Polygon", "coordinates": [ring]}))
    status, _ = program(*items(sample), "--geometry", outline)
    assert status == 0
    values = counts(Path("bai.tif"))
    assert max(values.shape) < 128
    assert 0.4 < np.isfinite(values).mean() < 0.6, "a triangle"
    made = json.loads(Path("bai.json").read_text())
    assert made["assets"]["bai"]["bands"][0]["statistics"]["valid_percent"] == 100


def test_an_offset_that_is_off_the_counts_already(
    sample: Path, program: Callable[..., Any], tmp_path: Path
) -> None:
    """As dozens of items of a catalogue have it: told, and mended by an option."""
    shutil.copytree(sample, tmp_path / "wrong")
    document = json.loads((tmp_path / "wrong" / "pre.json").read_text())
    document["properties"]["s2:processing_baseline"] = "05.11"
    for band in ("B08", "B12"):
        with rasterio.open(
            tmp_path / "wrong" / f"pre_{band}.tif", "r+", IGNORE_COG_LAYOUT_BREAK="YES"
        ) as file:
            file.write(np.where(file.read(1) > 0, file.read(1) // 3 + 1, 0).astype(np.uint16), 1)
    (tmp_path / "wrong" / "pre.json").write_text(json.dumps(document))
    status, lines = program(*items(tmp_path / "wrong"))
    (warned,) = [line for line in lines if "negative reflectance" in line]
    assert status == 0
    assert warned.startswith("pre-event: ") and "--offset pre=0" in warned
    status, lines = program(*items(tmp_path / "wrong"), "--offset", "pre=0", "--overwrite")
    assert not any("negative reflectance" in line for line in lines)
    assert any("25.0 days between the scenes" in line for line in lines)


# Usage

PAIR = ["--pre-event", "a.json", "--post-event", "b.json"]
API = ["--api", "https://x/", "--collection", "c", "--event", "2021-07-14"]
BOX = ["--bbox", "-8.5", "39", "-8", "40"]
ONE_WAY = "give --pre-event and --post-event; or --api, --collection, --event, and --bbox or"
WRONG = [
    ([], ONE_WAY),
    (PAIR[:2], ONE_WAY),
    ([*PAIR, *API, *BOX], ONE_WAY),
    ([*API[:4], *BOX], ONE_WAY),
    (API, ONE_WAY),
    ([*PAIR, "--event", "2021-07-14"], ONE_WAY),
    ([*API[:4], "--before", "2021-07-06", *BOX], "give --event, or both --before and --after"),
    ([*PAIR, "--mask", "cloud,fog"], "--mask: invalid classes value: 'cloud,fog'"),
    ([*PAIR, "--mask", "cloud", "--no-mask"], "not allowed with argument --mask"),
    ([*PAIR, "--offset", "during=0"], "--offset: invalid offset value: 'during=0'"),
    ([*PAIR, "--offset", "much"], "--offset: invalid offset value: 'much'"),
    ([*PAIR, *BOX, "--geometry", "x.json"], "not allowed with argument --bbox"),
    ([*PAIR, "--index", "nbr"], "--index: invalid choice: 'nbr' (choose from "),
]


def test_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    """Status 2, and the last line says what is wrong."""
    for options, message in WRONG:
        with pytest.raises(SystemExit) as caught:
            command.parse(options)
        assert caught.value.code == 2
        assert message in capsys.readouterr().err.splitlines()[-1]


def test_options_that_say_several_things() -> None:
    dates = ["--before", "2021-07-06", "--after", "2021-08-14"]
    assert command.parse([*API[:4], *dates, *BOX]).event == "2021-07-06/2021-08-14"
    assert command.parse([*PAIR, "--offset", "0"]).offset == {"pre": 0, "post": 0}
    assert command.parse([*PAIR, "--offset", "pre=-0.1,post=0"]).offset == {"pre": -0.1, "post": 0}
    pre, post = command.parse(PAIR).masked
    assert (pre - post, post - pre) == ({"water"}, set())
    assert post == {*bai.CLASSES} - {"water"} | {"saturated"}
    some = command.parse([*PAIR, "--mask", "cloud,water"]).masked
    assert some[0] == some[1] == {"cloud", "water", "saturated"}
    assert command.parse([*PAIR, "--no-mask"]).masked == (frozenset(), frozenset())
