"""The sample pair: the same every time, and of known values."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from bai_example.sample import CORE, EVENTS, NOISE, burn, main, positions, write_sample
from tests.bai.maps import computed, finer, sample_pair

SIZE = 512
FILES = ["post.json", "post_B08.tif", "post_B12.tif", "pre.json", "pre_B08.tif", "pre_B12.tif"]


def hashes(folder: Path) -> dict[str, str]:
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(folder.iterdir())}


def test_same_files_every_time(sample: Path, tmp_path: Path) -> None:
    done = CliRunner().invoke(main, [str(tmp_path / "new"), "--size", "257"])
    assert done.exit_code == 0, done.output
    assert [*hashes(tmp_path / "new")] == FILES
    assert hashes(tmp_path / "new") == hashes(sample)
    assert f"--pre-event {tmp_path / 'new' / 'pre.json'}" in done.output
    for size in ("62", "x"):
        assert CliRunner().invoke(main, [str(tmp_path / "none"), "--size", size]).exit_code == 2


def test_values_are_known(tmp_path: Path) -> None:
    """The map of the sample is the dNBR it was made with, but for its noise; there is none beyond
    the swaths' edges."""
    write_sample(tmp_path, SIZE)
    actual = computed(sample_pair(tmp_path)).index
    known = finer(burn(positions(SIZE // 2)))
    at = positions(SIZE)
    for *_, (top, bottom) in EVENTS.values():
        known[at > top + (bottom - top) * at[:, np.newaxis]] = np.nan
    # A pixel of SWIR at the edge covers more than one of NIR.
    there = np.isfinite(actual)
    assert np.isfinite(known[there]).all()
    assert there.sum() > 0.995 * np.isfinite(known).sum()
    difference = (actual - known)[there]
    assert abs(difference.mean()) < 1e-3
    assert difference.std() < NOISE
    heart = there & (known == np.float32(CORE))
    assert 0.02 < heart.mean() < 0.3
    assert actual[heart].mean() == pytest.approx(CORE, abs=1e-3)
    assert actual[heart].std() < NOISE
    assert known[0, 0] < 0.66, "the corner is outside the scar"
