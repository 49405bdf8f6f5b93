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


@pytest.mark.deep
def test_the_benchmark_runs(tmp_path: Path) -> None:
    """It ends with an error where two maps differ by more than 1e-6. The sample is tiny, so the
    goals say nothing."""
    need("benchmarks")
    command = [sys.executable, "-m", "benchmarks.bai", "--size", "256"]
    run = subprocess.run(
        [*command, "--rounds", "1", "--keep", str(tmp_path)],
        capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert run.returncode in (0, 1), run.stderr
    assert "Traceback" not in run.stderr
    assert all(path.name.startswith("sample-") for path in tmp_path.iterdir())
    for said in ("reference program's way", "× limit | ≤ 1.45", "2 × 2 tiles", "bytes fetched"):
        assert said in run.stdout


def test_the_server_is_a_round_trip_away(tmp_path: Path) -> None:
    from benchmarks.bai_http import ROUND_TRIP, served

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
        head = urllib.request.Request(f"{site.url}/some.tif", method="HEAD")
        for other in (head, f"{site.url}/item.json"):
            urllib.request.urlopen(other).close()
        assert (site.requests, site.bytes) == (3, len(data) + 10)


def test_maps_that_differ_are_told_apart() -> None:
    from benchmarks.bai import farthest

    one = np.array([[0.5, np.nan]], np.float32)
    assert farthest(one, one.copy()) == 0
    assert farthest(one, one + np.float32(0.25)) == 0.25
    assert farthest(one, np.array([[np.nan, 0.5]], np.float32)) == np.inf
    assert farthest(one, one[:, :1]) == np.inf
