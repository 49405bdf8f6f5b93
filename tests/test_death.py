"""A command that the kernel kills for want of memory is told as such (real cgroup)."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.launcher import PYTHON, Launcher

MEMORY = Path("/sys/fs/cgroup/memory")
LIMIT = 256 * 2**20


@pytest.fixture
def small_cgroup(tmp_path: Path) -> Iterator[Path]:
    """A cgroup with little memory."""
    v2 = not MEMORY.is_dir()
    folder = (MEMORY.parent if v2 else MEMORY) / f"dask-claim-test-{os.getpid()}"
    folder.mkdir()
    (folder / ("memory.max" if v2 else "memory.limit_in_bytes")).write_text(str(LIMIT))
    # Where swap is counted, it must not take what memory does not.
    with contextlib.suppress(OSError):
        swap = "memory.swap.max" if v2 else "memory.memsw.limit_in_bytes"
        (folder / swap).write_text("0" if v2 else str(LIMIT))
    yield folder
    folder.rmdir()


@pytest.mark.slow
def test_memory_limit_is_named(launcher: Launcher, small_cgroup: Path) -> None:
    inside = ("sh", "-c", f'echo $$ > {small_cgroup}/cgroup.procs && exec "$@"', "sh")
    program = "x = bytearray(2**30); x[::4096] = b'x' * len(x[::4096])"
    run = launcher(PYTHON, "-c", program, claim={"create": False}, before=inside)
    assert run.status == 137, run.err
    assert "memory limit of 0.25 GiB was reached" in run.err
    assert any("memory limit" in warning for warning in run.receipt["warnings"])


def test_killed_by_somebody_else(launcher: Launcher) -> None:
    run = launcher("sh", "-c", "kill -9 $$", claim={"create": False})
    assert (run.status, run.receipt["warnings"]) == (137, [])
