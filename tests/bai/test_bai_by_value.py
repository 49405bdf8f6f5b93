"""Workers need not have the example: a gateway whose schedulers and workers cannot import it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.bai.maps import computed, counts, sample_pair
from tests.support.gateway import REFERENCE, GatewayServer, clean_environment

COMMAND = [sys.executable, "-m", "bai_example"]


@pytest.mark.deep
@pytest.mark.slow
def test_workers_without_the_example(sample: Path, tmp_path: Path) -> None:
    blocked = tmp_path / "blocked"
    blocked.mkdir()
    refusal = "raise ImportError('this image has no bai_example')\n"
    (blocked / "bai_example.py").write_text(refusal)
    without = ["env", f"PYTHONPATH={blocked}", "dask"]
    options = f"""{REFERENCE}
c.ClusterConfig.scheduler_cmd = {[*without, "scheduler"]!r}
c.ClusterConfig.worker_cmd = {[*without, "worker"]!r}
"""
    tried = subprocess.run(
        ["env", f"PYTHONPATH={blocked}", sys.executable, "-c", "import bai_example"],
        env=clean_environment(), capture_output=True, text=True, cwd=tmp_path,
    )  # fmt: skip
    assert "this image has no bai_example" in tried.stderr
    gateway = GatewayServer(options)
    try:
        claim = {"gateway_url": gateway.url, "max_workers": 1}
        items = [f"--{event}-event={sample / event}.json" for event in ("pre", "post")]
        done = subprocess.run(
            [*COMMAND, *items, "--output-dir", tmp_path / "out"],
            env=clean_environment(DASK_CLAIM=json.dumps(claim)),
            capture_output=True, text=True, timeout=120,
        )  # fmt: skip
    finally:
        gateway.stop()
    assert done.returncode == 0, done.stderr
    assert f"Dask Gateway at {gateway.url}" in done.stderr
    expected = computed(sample_pair(sample)).index
    assert np.array_equal(counts(tmp_path / "out" / "bai.tif", None), expected, equal_nan=True)
