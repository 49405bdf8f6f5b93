"""The command line: what it logs, its exit status, what it leaves behind."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio

from bai_example import __main__ as command
from bai_example import index as bai
from tests.bai.maps import counts, expected_nbr, finer

COMMAND = [sys.executable, "-m", "bai_example"]
FILES = {
    "catalog.json",
    "bai.tif",
    "bai-severity.tif",
    "bai-severity.tif.aux.xml",
    "bai.json",
    "bai.png",
}


@pytest.fixture
def environment(client: Any, tmp_path: Path) -> dict[str, str]:
    """As under the launcher: the address of a running scheduler, and an empty HOME."""
    (tmp_path / "home").mkdir()
    kept = {k: v for k, v in os.environ.items() if not k.startswith("DASK_")}
    return kept | {
        "DASK_SCHEDULER_ADDRESS": client.scheduler.address,
        "HOME": str(tmp_path / "home"),
    }


def run(
    arguments: list[str], environment: dict[str, str], folder: Path
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *arguments],
        env=environment, cwd=folder, capture_output=True, text=True, timeout=60,
    )  # fmt: skip


def items(folder: Path) -> list[str]:
    return [f"--{event}-event={folder / event}.json" for event in ("pre", "post")]


def test_map(sample: Path, environment: dict[str, str], tmp_path: Path) -> None:
    """Relative paths, the output folder made on the way, the log of the reference program."""
    shutil.copytree(sample, tmp_path / "pair")
    arguments = ["--pre_fire_url", "pair/pre.json", "--post_fire_url", "pair/post.json"]
    done = run([*arguments, "--output-dir", "out/here"], environment, tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    folder = tmp_path / "out" / "here"
    assert {path.name for path in folder.iterdir()} == FILES
    place = 0
    for line in (
        "pre event pair/pre.json",
        "post event pair/post.json",
        "Burnt area intensity shape: (256, 256)",
        "Burnt area intensity dims: ('y', 'x')",
        "Writing the result to a COG file",
        "High severity",
        "no value pre-event: no data ",
        "no value post-event: no data ",
        "dNBR -",
        "out/here/bai.tif",
        "out/here/bai-severity.tif",
        "out/here/bai.png",
        "out/here/bai.json",
        "out/here/catalog.json",
        "done in ",
    ):
        assert line in done.stderr[place:], f"{line!r} is missing or out of order"
        place = done.stderr.index(line, place)
    assert "Traceback" not in done.stderr
    assert not [*(tmp_path / "home").iterdir()]


def test_wrong_input(environment: dict[str, str], tmp_path: Path) -> None:
    """One line for each problem, status 1, no cluster asked for, nothing written."""
    environment["DASK_SCHEDULER_ADDRESS"] = "tcp://127.0.0.1:9"  # nobody there
    arguments = ["--pre-event", "no.json", "--post-event", "nor.json", "--output-dir", "out"]
    done = run(arguments, environment, tmp_path)
    assert done.returncode == 1
    errors = [line for line in done.stderr.splitlines() if "ERROR" in line]
    assert len(errors) == 2
    assert "pre-event item: " in errors[0]
    assert "no.json: no such file" in errors[0]
    assert "nor.json: no such file" in errors[1]
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()


def test_wrong_claim(sample: Path, environment: dict[str, str], tmp_path: Path) -> None:
    """Without a launcher the program claims for itself, and ends as dask-claim would."""
    del environment["DASK_SCHEDULER_ADDRESS"]
    environment["DASK_CLAIM"] = '{"worker_core": 1, "max_workers": -1}'
    done = run(items(sample), environment, tmp_path)
    assert done.returncode == 78, done.stderr
    assert "worker_core" in done.stderr
    assert "max_workers" in done.stderr
    assert "Traceback" not in done.stderr
    assert not [path for path in tmp_path.iterdir() if path.name != "home"]


def test_light_import() -> None:
    """The package itself, and the command up to its arguments, load no heavy library."""
    code = (
        "import sys, bai_example, bai_example.__main__ as m\n"
        "m.parse(['--pre-event', 'a', '--post-event', 'b'])\n"
        "heavy = {'numpy', 'rasterio', 'shapely', 'dask', 'distributed', 'matplotlib', 'pystac'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_sigterm_while_waiting(sample: Path, environment: dict[str, str], tmp_path: Path) -> None:
    """Ended while it waits for a worker: status 128 + 15, no file or folder is left, and the
    older files are as they were."""
    from distributed import Client, LocalCluster

    out = tmp_path / "out"
    out.mkdir()
    (out / "bai.tif").write_text("older")
    with (
        LocalCluster(n_workers=0, dashboard_address="127.0.0.1:0") as empty,
        Client(empty) as other,
    ):
        environment["DASK_SCHEDULER_ADDRESS"] = other.scheduler.address
        process = subprocess.Popen(
            [*COMMAND, *items(sample), "--output-dir", "out", "--overwrite"],
            env=environment, cwd=tmp_path, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert process.stderr is not None
        lines = []
        for line in process.stderr:
            lines.append(line)
            if "Writing the result" in line:
                break
        else:
            pytest.fail("".join(lines))
        deadline = time.monotonic() + 10
        while not [*out.glob(".bai-*")]:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        process.send_signal(signal.SIGTERM)
        _, rest = process.communicate(timeout=30)
    assert process.returncode == 128 + signal.SIGTERM, rest
    assert [path.name for path in out.iterdir()] == ["bai.tif"]
    assert (out / "bai.tif").read_text() == "older"


# In this process: a second less for each.


@pytest.fixture
def program(
    program: Callable[..., tuple[int, list[str]]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., tuple[int, list[str]]]:
    """The program in an empty folder."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return program


def nbr_of(sample: Path) -> tuple[np.ndarray, np.ndarray]:
    pre, post = (
        expected_nbr(
            counts(sample / f"{event}_B08.tif"), finer(counts(sample / f"{event}_B12.tif")),
            1e-4, offset,
        )
        for event, offset in (("pre", 0), ("post", -0.1))
    )  # fmt: skip
    return pre, post


def test_relative_items_below_a_folder(sample: Path, program: Callable[..., Any]) -> None:
    """As a CWL tool finds a staged folder: the items by name, the working directory elsewhere.
    And another index: the classes stay those of dNBR, and what the result says of itself fits."""
    pair = ["--items", sample, "--pre-event", "pre.json", "--post-event", "post.json"]
    status, _ = program(*pair, "--index", "rbr")
    assert status == 0
    pre, post = nbr_of(sample)
    values, classes = counts(Path("bai.tif")), counts(Path("bai-severity.tif"), None)
    expected = (pre - post) / (pre + 1.001)
    np.testing.assert_allclose(values, expected, rtol=2e-7, atol=1e-6)
    wrong = classes != bai.classify((pre - post).astype(np.float32))
    assert np.count_nonzero(wrong) <= 2, "but for values at a threshold"
    with rasterio.open("bai.tif") as file:
        assert file.descriptions == ("RBR",)
        assert "Parks" in file.tags()["TIFFTAG_IMAGEDESCRIPTION"]
    made = json.loads(Path("bai.json").read_text())
    assert made["properties"]["bai:index"] == "rbr"
    assert "RBR" in made["assets"]["bai"]["title"]


def test_files_that_are_there(sample: Path, program: Callable[..., Any]) -> None:
    """Refused before anything is computed, each by name; replaced all together on demand."""
    for name in ("bai.tif", "bai.png"):
        Path(name).write_text("older")
    status, lines = program(*items(sample), "--index", "rdnbr")
    assert status == 1
    refused = [line for line in lines if "exists already; --overwrite replaces it" in line]
    assert [line.split(":")[0] for line in refused] == ["bai.tif", "bai.png"]
    assert not any("Writing" in line for line in lines)
    assert {path.name for path in Path().iterdir()} == {"bai.tif", "bai.png"}
    assert {Path(name).read_text() for name in ("bai.tif", "bai.png")} == {"older"}
    status, _ = program(*items(sample), "--index", "rdnbr", "--overwrite")
    assert status == 0
    assert {path.name for path in Path().iterdir()} == FILES
    pre, post = nbr_of(sample)
    expected = (pre - post) / np.sqrt(np.maximum(np.abs(pre), 0.001))
    np.testing.assert_allclose(counts(Path("bai.tif")), expected, rtol=2e-7, atol=1e-6)


def test_a_failed_run_leaves_the_older_files(
    sample: Path, program: Callable[..., Any], tmp_path: Path
) -> None:
    """A raster that turns out to be cut off when its pixels are read."""
    shutil.copytree(sample, tmp_path / "cut")
    whole = (tmp_path / "cut" / "post_B12.tif").read_bytes()
    (tmp_path / "cut" / "post_B12.tif").write_bytes(whole[: len(whole) // 2])
    Path("bai.tif").write_text("older")
    status, lines = program(*items(tmp_path / "cut"), "--overwrite")
    assert status == 1
    assert "post_B12.tif: cannot be read" in lines[-1]
    assert [path.name for path in Path().iterdir()] == ["bai.tif"]
    assert Path("bai.tif").read_text() == "older"


def test_crop(sample: Path, program: Callable[..., Any], tmp_path: Path) -> None:
    """A polygon: smaller than its box, smaller than the scenes, and in the map where it is."""
    west, south, east, north = -8.285, 39.998, -8.275, 40.006
    ring = [[west, south], [east, south], [west, north], [west, south]]
    outline = tmp_path / "area.geojson"
    outline.write_text(json.dumps({"type": "Polygon", "coordinates": [ring]}))
    with rasterio.open(sample / "pre_B08.tif") as file:
        whole, crs = file.transform, file.crs
        bounds = rasterio.warp.transform_bounds(crs, "EPSG:4326", *file.bounds)
    assert bounds[0] < west < east < bounds[2] and bounds[1] < south < north < bounds[3]
    status, lines = program(*items(sample), "--geometry", outline)
    assert status == 0
    with rasterio.open("bai.tif") as file:
        (west_x,), _ = rasterio.warp.transform("EPSG:4326", crs, [west], [south])
        top = round((whole.f - file.transform.f) / 10)
        left = round((file.transform.c - whole.c) / 10)
        assert file.transform.c - 10 < west_x < file.transform.c + 30
        values = file.read(1).astype(float)
    pre, post = nbr_of(sample)
    rows, columns = values.shape
    expected = (pre - post)[top : top + rows, left : left + columns]
    known = ~np.isnan(values)
    assert 0.4 < known.mean() < 0.6, "a triangle"
    assert np.abs(values - expected)[known].max() <= 1e-6
    # What is outside is not counted as missing.
    assert any("100.0 % of the pixels have a value" in line for line in lines)


# Usage

PAIR = ["--pre-event", "a.json", "--post-event", "b.json"]
API = ["--api", "https://x/", "--collection", "c", "--event", "2021-07-14"]
BOX = ["--bbox", "-8.5", "39", "-8", "40"]
WRONG = [
    ([], "give --pre-event and --post-event, or --api to search them"),
    ([*PAIR, *API, *BOX], "give the items, or --api to search them, not both"),
    ([*API[:4], *BOX], "--api needs --collection and --event"),
    (API, "--api needs --bbox or --geometry: the area of the map"),
    ([*PAIR, "--event", "2021-07-14"], "--collection and --event need --api"),
    ([*PAIR, *BOX, "--geometry", "x.json"], "not allowed with argument --bbox"),
    ([*PAIR, "--index", "nbr"], "--index: invalid choice: 'nbr' (choose from "),
]


@pytest.mark.parametrize(("options", "message"), WRONG)
def test_wrong_usage(options: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Status 2, and the last line says what is wrong."""
    with pytest.raises(SystemExit) as caught:
        command.parse(options)
    assert caught.value.code == 2
    assert message in capsys.readouterr().err.splitlines()[-1]


def test_the_indices_offered_are_those_there_are() -> None:
    assert (*bai.INDICES,) == command.INDICES


def test_help(environment: dict[str, str], tmp_path: Path) -> None:
    """Fits a terminal, says what each option is for, and shows the usual ones."""
    done = run(["--help"], environment | {"COLUMNS": "80"}, tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert max(map(len, lines)) <= 80
    for option in (
        "--pre-event", "--post-event", "--items", "--sign", "--api", "--collection", "--event",
        "--window", "--max-cloud", "--bbox", "--geometry", "--index", "--no-mask", "--output-dir",
        "--overwrite",
    ):  # fmt: skip
        (first,) = [n for n, line in enumerate(lines) if line.startswith(f"  {option}")]
        # Its text stands beside it or below.
        assert len(lines[first].split("  ")) > 2 or lines[first + 1].startswith(" " * 20), option
