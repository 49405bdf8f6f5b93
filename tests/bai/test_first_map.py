"""The first example of the README makes the map that it says."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.bai.maps import assert_map, counts, nbr_of

PROGRAM = Path(__file__).resolve().parents[2] / "examples" / "first_map.py"


@pytest.mark.slow
def test_first_map(sample: Path, client: Any, tmp_path: Path) -> None:
    """The same dNBR as by hand, in a program that fits on a screen."""
    out = tmp_path / "dnbr.tif"
    subprocess.run(
        [sys.executable, PROGRAM, sample, out], check=True, timeout=60,
        env={**os.environ, "DASK_SCHEDULER_ADDRESS": client.scheduler.address},
    )  # fmt: skip
    pre, post = nbr_of(sample, -0.1)
    assert_map(counts(out, None), pre - post)
    text = PROGRAM.read_text()
    assert len(text.splitlines()) <= 60
    assert np.isfinite(pre).any()
    assert "import bai_example" not in text
    assert "from bai_example" not in text
