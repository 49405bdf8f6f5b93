"""A cluster on this machine: its size, its environment, its start and its end."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from distributed import Client

from dask_claim.claim.model import Claim
from dask_claim.errors import ClusterFailed
from dask_claim.processes import group_runs
from dask_claim.providers import hosted
from dask_claim.providers.local.local_provider import LocalProvider
from dask_claim.providers.values import Outcome, Request, Ticket
from tests.support.gateway import clean_environment
from tests.support.launcher import ONE_TASK, PYTHON, Launcher
from tests.support.scenes import NOBODY_ELSE

pytestmark = pytest.mark.slow


@pytest.mark.needs("root")
@pytest.mark.parametrize("names", [{}, {"gateway_url": "URL"}], ids=["local", "own gateway"])
def test_other_users_are_refused(launcher: Launcher, names: dict[str, str]) -> None:
    claim = {"worker_cores": 1, "worker_memory": "512M", "max_workers": 1, "env": names}
    run = launcher(
        PYTHON, "-W", "ignore", "-c", NOBODY_ELSE, claim=claim, flags=("--start", "workers")
    )
    assert (run.status, run.out.split()) == (0, [b"42", b"0", b"0"]), run.err


def test_dashboard_wants_its_token(launcher: Launcher) -> None:
    program = """
import urllib.error, urllib.request
from distributed import Client
with Client() as client:
    link = client.dashboard_link
    print(link)
*_, token, page = link.split("/")
assert page == "status" and len(token) == 32
for path, code in (("status", 200), ("health", 200), ("nowhere", 404)):
    for wrong in (None, token[:-1], token + "x", token.upper(), "..", "%s/.." % token):
        url = link.replace(f"{token}/status", path if wrong is None else f"{wrong}/{path}")
        try:
            urllib.request.urlopen(url)
            raise SystemExit(url)
        except urllib.error.HTTPError as error:
            assert error.code == 404, url
    try:
        assert urllib.request.urlopen(link.replace("status", path)).status == code
    except urllib.error.HTTPError as error:
        assert error.code == code, path
"""
    program += """
from distributed import LocalCluster
with LocalCluster(n_workers=0, dashboard_address="127.0.0.1:0") as own:
    assert own.dashboard_link == f"http://127.0.0.1:{own.scheduler.http_server.port}/status"
"""
    run = launcher(PYTHON, "-c", program, claim={"max_workers": 1})
    assert run.status == 0, run.err
    assert f"Dask Dashboard: {run.out.decode().strip()}\n" in run.err


def test_launcher_imports_no_dask_and_still_reports(launcher: Launcher) -> None:
    run = launcher(
        PYTHON, "-c", ONE_TASK, claim={"max_workers": 1}, before=[PYTHON, "-X", "importtime"]
    )
    assert (run.status, run.out) == (0, b"42\n"), run.err
    imported = {line.rpartition("|")[2].strip() for line in run.err.splitlines()}
    assert "dask_claim.providers.hosted" in imported
    assert not imported & {"dask", "distributed", "tornado", "dask_gateway", "aiohttp"}
    assert (run.receipt["workers"]["peak"], run.receipt["tasks"]) == (1, {"done": 1, "failed": 0})


class Local:
    """A provider with what it has written and warned of."""

    def __init__(self, claim: dict[str, Any], environ: dict[str, str]) -> None:
        self._tickets: dict[str, Ticket] = {}
        self.warnings: list[str] = []
        sound = Claim.model_validate({"provider": "local", **claim})
        request = Request(sound, sound.plan(), environ)
        self.provider = LocalProvider(request, self._write, self.warnings.append)

    def _write(self, ticket: Ticket) -> None:
        """Each anew, when more is known."""
        self._tickets[ticket.id] = ticket

    @property
    def tickets(self) -> list[Ticket]:
        return list(self._tickets.values())

    async def end(self, timeout: float = 30) -> list[Outcome]:
        await self.provider.close()
        return [
            await LocalProvider.reclaim(ticket, timeout, self.warnings.append)
            for ticket in self.tickets
        ]


@contextlib.asynccontextmanager
async def running(
    claim: dict[str, Any] | None = None, **environ: str
) -> AsyncIterator[tuple[Local, Client]]:
    local = Local(claim or {}, clean_environment(**environ))
    try:
        await local.provider.submit()
        await local.provider.wait_until_running()
        address, security = local.provider.cluster.scheduler_address, local.provider.security()
        async with Client(address, security=security, asynchronous=True) as client:
            yield local, client
    finally:
        assert await local.end() == [Outcome.GONE]


STARTED = {
    "scheduler_address": "tls://127.0.0.1:1", "dashboard_url": None, "min_workers": 1,
    "max_workers": 1, "notice": "", "shortfall": "",
}  # fmt: skip


@pytest.mark.parametrize(
    ("host", "error"),
    [
        ("os.kill(os.getpid(), 9)", r"its process was killed by SIGKILL\. It was killed: memory"),
        ("sys.exit(3)", r"its process ended \(3\)\. Its own messages are above"),
        (f"print({json.dumps(STARTED)!r}, {json.dumps({'started': 1})!r}, sep='\\n')", None),
    ],
    ids=["killed", "ends", "ends between its start and the watch"],
)
def test_host_that_ends_by_itself(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    host: str,
    error: str | None,
) -> None:
    """What a site's start-up hook prints in it is not taken for an event."""
    script = tmp_path / "host.py"
    script.write_text(f"import os, sys\nprint('a hook', flush=True)\n{host}\n")
    monkeypatch.setattr(LocalProvider, "host", script)
    monkeypatch.setattr(
        hosted.MemoryLimit, "exceeded", lambda self, whom: f"{whom} was killed: memory"
    )
    local, came = Local({}, clean_environment()), []

    async def run() -> None:
        try:
            await local.provider.submit()
            await local.provider.wait_until_running()
            assert await local.provider.ended(5)
            local.provider.listen(lambda usage: None, came.append)
        finally:
            assert await local.end() == [Outcome.GONE]

    fails = pytest.raises(ClusterFailed, match=error)
    with fails if error else contextlib.nullcontext():
        asyncio.run(run())
    assert bool(came) is not bool(error)
    assert "a hook" in capfd.readouterr().err


def _environ() -> dict[str, str]:
    return dict(os.environ)


def test_variables_of_workers_and_scheduler() -> None:
    """The claim's and the operator's, and no claim."""

    async def found() -> Any:
        variables = {"GDAL_CACHEMAX": "256", "OMP_NUM_THREADS": "3"}
        claim = {"environment": variables, "max_workers": 1, "worker_memory": "4G"}
        environ = {
            # One that Dask cannot read, for it holds a text where a level is.
            "DASK_CLAIM": '{"create": true}',
            "DASK_CLAIM__MAX_WORKERS": "1",
            "DASK_CLAIM_GATEWAY_URL": "http://somewhere",
            "DASK_CLAIMANT": "kept",
            "OF_THE_SITE": "kept",
            "OPENBLAS_NUM_THREADS": "4",
        }
        async with running(claim, **environ) as (_, client):
            (worker,) = (await client.run(_environ)).values()
            return worker, await client.run_on_scheduler(_environ)

    worker, scheduler = asyncio.run(found())
    assert worker["GDAL_CACHEMAX"] == scheduler["GDAL_CACHEMAX"] == "256"
    assert [name for name in worker if name.startswith("DASK_CLAIM")] == ["DASK_CLAIMANT"]
    assert worker["OF_THE_SITE"] == "kept"
    # glibc sets its own thresholds.
    assert "MALLOC_TRIM_THRESHOLD_" not in worker
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    assert [worker[name] for name in names] == ["3", "4", "1"]


@pytest.mark.parametrize(
    ("memory", "environ", "threshold"),
    [
        # Where memory is short, freed memory goes back at once, as Dask has it.
        ("1G", {}, "65536"),
        (
            "4G",
            {"DASK_DISTRIBUTED__NANNY__PRE_SPAWN_ENVIRON": "{'MALLOC_TRIM_THRESHOLD_': 65536}"},
            "65536",
        ),
    ],
)
def test_thresholds_of_glibc(memory: str, environ: dict[str, str], threshold: str) -> None:
    async def found() -> Any:
        async with running({"max_workers": 1, "worker_memory": memory}, **environ) as (_, client):
            return await client.run(os.getenv, "MALLOC_TRIM_THRESHOLD_")

    assert list(asyncio.run(found()).values()) == [threshold]


def test_starts_from_a_working_directory_that_is_gone(launcher: Launcher, tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    run = launcher(
        PYTHON, "-c", ONE_TASK, cwd=gone, before=["sh", "-c", 'rmdir "$PWD"; exec "$@"', "sh"]
    )
    assert (run.status, run.out) == (0, b"42\n"), run.err


def test_modules_of_the_working_directory_come_last(launcher: Launcher, tmp_path: Path) -> None:
    (folder := tmp_path / "inputs").mkdir()
    (folder / "yaml.py").write_text("raise SystemExit(3)")
    (folder / "mine.py").write_text("def answer(): return 42")
    program = tmp_path / "program.py"
    asks = 'print(c.submit(lambda: __import__("mine").answer()).result())'
    program.write_text(f"from distributed import Client\nwith Client() as c: {asks}")
    run = launcher(PYTHON, str(program), cwd=folder, claim={"max_workers": 1})
    assert (run.status, run.out) == (0, b"42\n"), run.err


@pytest.fixture
def hanging(tmp_path: Path) -> dict[str, str]:
    """Variables with which workers never come up."""
    preload = tmp_path / "hang.py"
    preload.write_text("import time\ntime.sleep(600)\n")
    return clean_environment(DASK_DISTRIBUTED__WORKER__PRELOAD=f'["{preload}"]')


def _members(group: int) -> int:
    found = 0
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            with contextlib.suppress(OSError):
                found += (entry / "stat").read_text().rpartition(")")[2].split()[2] == str(group)
    return found


def _workers_start(local: Local) -> bool:
    # The host, multiprocessing's tracker of resources, and the first worker.
    return any(_members(ticket.process or 0) > 2 for ticket in local.tickets)


@pytest.mark.parametrize(
    "reached",
    [
        pytest.param(
            lambda local: local.tickets and local.tickets[0].process, id="its process is there"
        ),
        # Told before its workers are up.
        pytest.param(lambda local: local.provider.cluster.scheduler_address, id="scheduler is up"),
        pytest.param(_workers_start, id="workers start"),
    ],
)
def test_a_start_that_hangs_can_be_cancelled_at_any_moment(
    hanging: dict[str, str], reached: Callable[[Local], object]
) -> None:
    async def cancelled() -> None:
        local = Local({}, hanging)

        async def start() -> None:
            await local.provider.submit()
            await local.provider.wait_until_running()

        starting = asyncio.ensure_future(start())
        await asyncio.sleep(0)
        deadline = time.monotonic() + 30
        while not reached(local):
            assert time.monotonic() < deadline and not starting.done()
            await asyncio.sleep(0.01)
        starting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await starting
        began = time.monotonic()
        outcomes = await local.end()
        assert outcomes == [Outcome.GONE]
        # Well before the time after which `reclaim` kills what is left.
        assert time.monotonic() - began < 20
        assert local.tickets[0].process is not None
        assert not group_runs(local.tickets[0].process)

    asyncio.run(cancelled())


def test_a_host_whose_scheduler_hangs_ends_with_its_pipe(tmp_path: Path) -> None:
    preload = tmp_path / "hang.py"
    reached = tmp_path / "reached"
    preload.write_text(
        "import asyncio, pathlib\n"
        "async def dask_setup(scheduler):\n"
        f"    pathlib.Path({str(reached)!r}).touch()\n"
        "    await asyncio.sleep(600)\n"
    )
    environ = clean_environment(DASK_DISTRIBUTED__SCHEDULER__PRELOAD=f'["{preload}"]')

    async def start() -> None:
        local = Local({}, environ)
        starting = asyncio.ensure_future(local.provider.submit())
        deadline = time.monotonic() + 30
        while not reached.exists():
            assert time.monotonic() < deadline and not starting.done()
            await asyncio.sleep(0.01)
        starting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await starting
        began = time.monotonic()
        assert await local.end() == [Outcome.GONE]
        assert time.monotonic() - began < 20

    asyncio.run(start())


def test_workers_that_fail_fail_the_start(tmp_path: Path) -> None:
    preload = tmp_path / "fail.py"
    preload.write_text("raise OSError('no worker today')\n")

    async def start() -> None:
        local = Local({}, clean_environment(DASK_DISTRIBUTED__WORKER__PRELOAD=f'["{preload}"]'))
        try:
            await local.provider.submit()
            with pytest.raises(ClusterFailed, match="no worker today"):
                await local.provider.wait_until_running()
        finally:
            assert await local.end() == [Outcome.GONE]

    asyncio.run(start())
