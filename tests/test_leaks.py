"""docs/guarantees.md names the tests that prove it; they exist."""

from __future__ import annotations

import re
from pathlib import Path

TESTS = Path(__file__).resolve().parent
GUARANTEES = TESTS.parent / "docs" / "guarantees.md"


def test_the_guarantees_name_tests_that_exist() -> None:
    named = set(re.findall(r"`(test_\w+(?:\.py)?)`", GUARANTEES.read_text()))
    files = {path.name for path in TESTS.rglob("test_*.py")}
    functions = {
        name
        for path in TESTS.rglob("test_*.py")
        for name in re.findall(r"^def (test_\w+)", path.read_text(), re.MULTILINE)
    }
    assert len(named) > 30
    assert named - files - functions == set()


def test_every_failure_that_is_tested_stands_in_the_guarantees() -> None:
    text = GUARANTEES.read_text()
    for name in ("test_guard.py", "test_lease.py", "test_faults.py", "test_slurm.py"):
        for test in re.findall(r"^def (test_\w+)", (TESTS / name).read_text(), re.MULTILINE):
            assert f"`{test}`" in text, test
