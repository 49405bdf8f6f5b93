"""The benchmark runs, its rivals make the same map, and its server is as far away as it says."""

from __future__ import annotations

import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import numpy as np
import pytest

from tests.support.missing import need

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True, scope="module")
def parts() -> None:
    """What the benchmark stands on: its extra, and a web server."""
    need("benchmarks", "nginx")


def benchmark(part: str, folder: Path) -> str:
    """What a part prints; the sample is tiny, so the goals say nothing."""
    command = [sys.executable, "-m", "benchmarks.bai", "--part", part, "--size", "256"]
    run = subprocess.run(
        [*command, "--rounds", "1", "--keep", str(folder)],
        capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert run.returncode in (0, 1), run.stderr
    assert "Traceback" not in run.stderr
    assert "| goal |" in run.stdout or part == "writers", run.stderr
    assert all(path.name.startswith("sample-") for path in folder.iterdir())
    return run.stdout


@pytest.mark.deep
def test_rivals_make_the_same_map(tmp_path: Path) -> None:
    # The benchmark itself ends with an error where two maps differ by more than 1e-6.
    table = benchmark("pair", tmp_path)
    assert table.count("\n| ") > 8
    assert "reference program's way" in table
    assert "× limit | ≤ 1.45" in table


@pytest.mark.deep
def test_writers_write_cogs(tmp_path: Path) -> None:
    table = benchmark("writers", tmp_path)
    assert table.count("| valid |") == 3


@pytest.mark.deep
def test_bytes_over_http_are_counted(tmp_path: Path) -> None:
    table = benchmark("http", tmp_path)
    assert "bytes fetched" in table


def test_the_server_is_a_round_trip_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from benchmarks.bai_http import ROUND_TRIP, Fetched, served

    monkeypatch.setenv("USER", "nobody-here")  # no word of who this is
    data = bytes(range(256)) * 4096
    (tmp_path / "some.tif").write_bytes(data)
    (tmp_path / "item.json").write_bytes(b"{}")
    with served(tmp_path) as site:
        began = time.perf_counter()
        with urllib.request.urlopen(f"{site.url}/some.tif") as answer:
            assert answer.read() == data
        # One round trip to connect, one to ask.
        assert time.perf_counter() - began >= 2 * ROUND_TRIP
        ranged = urllib.request.Request(f"{site.url}/some.tif", headers={"Range": "bytes=1-10"})
        with urllib.request.urlopen(ranged) as answer:
            assert answer.read() == data[1:11]
        urllib.request.urlopen(f"{site.url}/item.json").close()
        assert site.fetched() == Fetched(requests=2, bytes=len(data) + 10)
        assert site.fetched() == Fetched(requests=0, bytes=0)


def test_maps_that_differ_are_told_apart() -> None:
    from benchmarks.bai_maps import farthest

    one = np.array([[0.5, np.nan]], np.float32)
    assert farthest(one, one.copy()) == 0
    assert farthest(one, one + np.float32(0.25)) == 0.25
    assert farthest(one, np.array([[np.nan, 0.5]], np.float32)) == np.inf
    assert farthest(one, one[:, :1]) == np.inf
