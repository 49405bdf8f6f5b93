"""Through a gateway, where blocks travel compressed, the map is the same."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.bai.maps import computed, counts, sample_pair
from tests.support.gateway import REFERENCE, GatewayServer, clean_environment


@pytest.mark.deep
@pytest.mark.slow
def test_the_same_map_through_a_gateway(sample: Path, tmp_path: Path) -> None:
    gateway = GatewayServer(REFERENCE)
    try:
        claim = {"gateway_url": gateway.url, "max_workers": 1}
        items = [f"--{event}-event={sample / event}.json" for event in ("pre", "post")]
        done = subprocess.run(
            [sys.executable, "-m", "bai_example", *items, "--output-dir", tmp_path / "out"],
            env=clean_environment(DASK_CLAIM=json.dumps(claim)),
            capture_output=True, text=True, timeout=120,
        )  # fmt: skip
    finally:
        gateway.stop()
    assert done.returncode == 0, done.stderr
    made = json.loads((tmp_path / "out" / "bai.json").read_text())
    assert made["properties"]["bai:claim"]["gateway_url"] == gateway.url
    expected = computed(sample_pair(sample)).index
    assert np.array_equal(counts(tmp_path / "out" / "bai.tif", None), expected, equal_nan=True)
