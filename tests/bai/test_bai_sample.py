"""The sample pair: the same every time, valid, and of known values."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest

from bai_example.sample import (
    CORE,
    EVENTS,
    NOISE,
    burn,
    finer,
    main,
    outside,
    positions,
    write_sample,
)
from tests.bai.maps import computed, sample_pair

SIZE = 512
FILES = ["post.json", "post_B08.tif", "post_B12.tif", "pre.json", "pre_B08.tif", "pre_B12.tif"]


def hashes(folder: Path) -> dict[str, str]:
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(folder.iterdir())}


def test_same_files_every_time(
    sample: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(tmp_path / "new"), "--size", "256"]) == 0
    out, err = capsys.readouterr()
    assert [*hashes(tmp_path / "new")] == FILES
    assert hashes(tmp_path / "new") == hashes(sample)
    assert f"--pre-event {tmp_path / 'new' / 'pre.json'}" in out
    assert err == ""


def known_dnbr(size: int) -> np.ndarray:
    """The dNBR the pair was made with, before noise: NaN where there is no data."""
    coarse, fine = positions(range(size // 2), size // 2), positions(range(size), size)
    known = finer(burn(*coarse))
    for event in EVENTS:
        known[outside(event, *fine) | finer(outside(event, *coarse))] = np.nan
    return known


def test_values_are_known(tmp_path: Path) -> None:
    """The map of the sample is the dNBR it was made with, but for its noise."""
    write_sample(tmp_path, SIZE)
    actual = computed(sample_pair(tmp_path)).index
    known = known_dnbr(SIZE)
    assert actual.shape == known.shape == (SIZE, SIZE)
    assert np.array_equal(np.isnan(actual), np.isnan(known))
    difference = actual - known
    assert abs(np.nanmean(difference)) < 1e-3
    assert np.nanstd(difference) < NOISE
    heart = known == CORE
    assert 0.02 < heart.mean() < 0.3
    assert actual[heart].mean() == pytest.approx(CORE, abs=1e-3)
    assert actual[heart].std() < NOISE
    assert known[0, 0] < 0.66, "the corner is outside the scar"


def test_sizes_and_folders_that_do_not_do(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for size in ("62", "65", "x"):
        with pytest.raises(SystemExit) as caught:
            main([str(tmp_path), f"--size={size}"])
        assert caught.value.code == 2
        assert "--size" in capsys.readouterr().err
    assert not [*tmp_path.iterdir()]
    (tmp_path / "file").touch()
    assert main([str(tmp_path / "file"), "--size", "64"]) == 1
    assert "cannot be written" in capsys.readouterr().err
