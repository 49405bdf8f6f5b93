"""A command that the kernel kills for want of memory is told as such (real cgroup)."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.launcher import PYTHON, Launcher
from tests.support.missing import missing

MEMORY = Path("/sys/fs/cgroup/memory")
LIMIT = 256 * 2**20


@pytest.fixture
def small_cgroup(request: pytest.FixtureRequest) -> Iterator[Path]:
    """A cgroup with little memory, by default as little as a command can use up."""
    allowed = getattr(request, "param", LIMIT)
    v2 = not MEMORY.is_dir()
    folder = (MEMORY.parent if v2 else MEMORY) / f"dask-claim-test-{os.getpid()}"
    try:
        folder.mkdir()
    except OSError:
        missing("control groups")
    (folder / ("memory.max" if v2 else "memory.limit_in_bytes")).write_text(str(allowed))
    # Where swap is counted, it must not take what memory does not.
    with contextlib.suppress(OSError):
        swap = "memory.swap.max" if v2 else "memory.memsw.limit_in_bytes"
        (folder / swap).write_text("0" if v2 else str(allowed))
    yield folder
    folder.rmdir()


def inside(cgroup: Path) -> tuple[str, ...]:
    """Goes before a command that is to run in the cgroup."""
    return ("sh", "-c", f'echo $$ > {cgroup}/cgroup.procs && exec "$@"', "sh")


# On the scheduler, that is, in the process that holds the local cluster.
FILLS_SCHEDULER = """
from distributed import Client
with Client() as client:
    try:
        client.run_on_scheduler(lambda: bytearray(b"x") * 2**31)
    except OSError:
        pass
"""
# With Dask's own limit, the nanny would end it before the kernel does.
FILLS_WORKER = """
from distributed import Client
with Client() as client:
    client.submit(lambda: len(bytearray(b"x") * 2**31)).result()
"""
ONLY_THE_KERNEL = {
    "DASK_DISTRIBUTED__WORKER__MEMORY__TERMINATE": "False",
    "DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES": "0",
}


@pytest.mark.parametrize("small_cgroup", [2**30], indirect=True)
@pytest.mark.parametrize(
    ("program", "memory", "told"),
    [
        pytest.param(
            FILLS_SCHEDULER, "256M",
            "The local cluster has ended by itself: its process was killed",
            marks=pytest.mark.deep,
        ),
        (FILLS_WORKER, None, "a worker or another process here was killed by the kernel"),
    ],
    ids=["scheduler", "worker"],
)  # fmt: skip
def test_memory_limit_that_ends_a_part_of_a_local_cluster_is_named(
    launcher: Launcher, small_cgroup: Path, program: str, memory: str | None, told: str
) -> None:
    run = launcher(
        PYTHON, "-c", program, claim={"max_workers": 1, "worker_memory": memory},
        before=inside(small_cgroup), env=ONLY_THE_KERNEL,
    )  # fmt: skip
    assert run.status == (0 if memory else 1), run.err
    *_, warning = run.receipt["warnings"]  # after that of a lost worker, on a busy machine
    assert warning.startswith(told) and "memory limit of 1.00 GiB was reached" in warning


def test_memory_limit_is_named(launcher: Launcher, small_cgroup: Path) -> None:
    program = "x = bytearray(2**30); x[::4096] = b'x' * len(x[::4096])"
    run = launcher(PYTHON, "-c", program, claim={"create": False}, before=inside(small_cgroup))
    assert run.status == 137, run.err
    assert "memory limit of 0.25 GiB was reached" in run.err
    assert any("memory limit" in warning for warning in run.receipt["warnings"])
