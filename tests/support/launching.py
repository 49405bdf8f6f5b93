"""Fixtures: the launcher, a scheduler to attach to, and the ways into a run."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.gateway import clean_environment
from tests.support.launcher import PYTHON, WAYS, Launcher


@pytest.fixture
def launcher(tmp_path: Path) -> Iterator[Launcher]:
    """Runs the installed `dask-claim`; fails where a process of the test outlives it."""
    made = Launcher(tmp_path)
    yield made
    made.end()


# With a worker; ends with its standard input.
SCHEDULER = """
import asyncio, sys, tempfile
from distributed import Scheduler, Worker
async def main(folder):
    async with (
        Scheduler(host="127.0.0.1", port=0, dashboard_address=":0", dashboard=False) as it,
        Worker(it.address, nthreads=1, dashboard=False, local_directory=folder),
    ):
        print(it.address, flush=True)
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
with tempfile.TemporaryDirectory() as folder:
    asyncio.run(main(folder))
"""


@pytest.fixture(scope="session")
def scheduler() -> Iterator[dict[str, str]]:
    """The variables that name a scheduler which is there already."""
    with subprocess.Popen(
        [PYTHON, "-c", SCHEDULER], env=clean_environment(),
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        yield {"DASK_SCHEDULER_ADDRESS": process.stdout.readline().strip()}
        process.stdin.close()


@pytest.fixture
def attached(launcher: Launcher, scheduler: dict[str, str]) -> Launcher:
    """A launcher whose runs use that scheduler: for what does not depend on the cluster's kind."""
    launcher.variables |= scheduler
    return launcher


@pytest.fixture
def attached_here(scheduler: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """This process itself uses that scheduler."""
    for name, value in scheduler.items():
        monkeypatch.setenv(name, value)


@pytest.fixture(params=WAYS)
def way_in(request: pytest.FixtureRequest, attached: Launcher) -> Launcher:
    """The same, by the command line and by each function of the library."""
    attached.way = request.param
    return attached
