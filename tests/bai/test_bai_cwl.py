"""The CWL document is an Earth observation application package, as OGC 20-089r1 asks for."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

DOCUMENT = Path(__file__).resolve().parents[2] / "cwl" / "bai.cwl"
BIN = Path(sys.executable).parent


@pytest.mark.slow
@pytest.mark.needs("Python 3.11")  # eoap-validator
@pytest.mark.parametrize("translated", [False, True])
def test_it_is_an_application_package(tmp_path: Path, translated: bool) -> None:
    """As it is published, and as `dask-claim cwl translate` gives it."""
    path = DOCUMENT
    if translated:
        path = tmp_path / "bai.cwl"
        subprocess.run([BIN / "dask-claim", "cwl", "translate", DOCUMENT, "-o", path], check=True)
    done = subprocess.run(
        [
            BIN / "eoap-validator", f"{path}#burned-area", "--profile=eoap-package",
            "--profile=metadata",
        ],
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "'failed': 0" in done.stdout
