"""docs/guarantees.md names the tests that prove it; they exist."""

from __future__ import annotations

import re
from pathlib import Path

TESTS = Path(__file__).resolve().parent
NAMED = set(re.findall(r"`(test_\w+(?:\.py)?)", (TESTS.parent / "docs/guarantees.md").read_text()))


def functions(pattern: str) -> set[str]:
    text = "\n".join(path.read_text() for path in TESTS.rglob(pattern))
    return set(re.findall(r"^(?:async )?def (test_\w+)", text, re.MULTILINE))


def test_the_guarantees_name_tests_that_exist_and_all_of_some_files() -> None:
    assert len(NAMED) > 30
    assert NAMED - {path.name for path in TESTS.rglob("test_*.py")} <= functions("test_*.py")
    for name in ("test_guard.py", "test_lease.py", "test_faults.py", "test_slurm.py"):
        assert functions(name) <= NAMED
