"""The first example of the README makes the map that it says."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

from tests.bai.maps import assert_map, counts, expected_nbr, finer

PROGRAM = Path(__file__).resolve().parents[2] / "examples" / "first_map.py"


def test_first_map(sample: Path, client: Any, tmp_path: Path) -> None:
    """The same dNBR as by hand, in a program that fits on a screen."""
    out = tmp_path / "dnbr.tif"
    subprocess.run(
        [sys.executable, PROGRAM, sample, out], check=True, timeout=60,
        env={**os.environ, "DASK_SCHEDULER_ADDRESS": client.scheduler.address},
    )  # fmt: skip
    pre, post = (
        expected_nbr(
            counts(sample / f"{event}_B08.tif"), finer(counts(sample / f"{event}_B12.tif")),
            1e-4, offset,
        )
        for event, offset in (("pre", 0), ("post", -0.1))
    )  # fmt: skip
    assert_map(counts(out, None), pre - post)
    text = PROGRAM.read_text()
    assert len(text.splitlines()) <= 60
    assert np.isfinite(pre).any()
    assert "import bai_example" not in text
    assert "from bai_example" not in text
