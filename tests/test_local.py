"""A cluster on this machine: its size, its environment, its start and its end."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from distributed import Client

from dask_claim.claim.model import Claim
from dask_claim.errors import ClusterFailed
from dask_claim.processes import group_runs, members
from dask_claim.providers import hosted
from dask_claim.providers.local.local_provider import LocalProvider
from dask_claim.providers.values import Ended, Outcome, Request, Ticket
from dask_claim.threads import in_time
from tests.support.gateway import clean_environment
from tests.support.launcher import PYTHON, Launcher, shut_down, wait_for
from tests.support.scenes import NOBODY_ELSE

pytestmark = pytest.mark.slow


@pytest.mark.needs("root")
@pytest.mark.parametrize("names", [{}, {"gateway_url": "URL"}], ids=["local", "own gateway"])
def test_other_users_are_refused(launcher: Launcher, names: dict[str, str]) -> None:
    """Nor does the run end otherwise when the program shuts its cluster down."""
    claim = {"worker_cores": 1, "worker_memory": "512M", "max_workers": 1, "env": names}
    program = f"{NOBODY_ELSE}\n    client.shutdown()"
    run = launcher(PYTHON, "-W", "ignore", "-c", program, claim=claim, flags=("--start", "workers"))
    assert (run.status, run.out.split()) == (0, [b"42", b"0", b"0"]), run.err
    shut_down(run)
    # Neither a worker nor its nanny complains.
    assert names or not re.search("Traceback|ERROR", run.err), run.err


DASHBOARD = """
import os, urllib.error, urllib.request
from distributed import Client, LocalCluster

def on_a_worker():
    import mine
    return mine.answer(), os.getenv("MALLOC_TRIM_THRESHOLD_")

with Client() as client:
    print(*client.submit(on_a_worker).result())
    link = client.dashboard_link
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
with LocalCluster(n_workers=0, dashboard_address="127.0.0.1:0") as own:
    assert own.dashboard_link == f"http://127.0.0.1:{own.scheduler.http_server.port}/status"
print(link)
"""


def test_dashboard_wants_its_token(launcher: Launcher, tmp_path: Path) -> None:
    """The launcher imports no Dask, and the inputs' folder comes last for all of them."""
    (inputs := tmp_path / "inputs").mkdir()
    (inputs / "yaml.py").write_text("raise SystemExit(3)")
    (inputs / "mine.py").write_text("def answer(): return 42")
    (program := tmp_path / "program.py").write_text(DASHBOARD)
    run = launcher(
        PYTHON, str(program), claim={"max_workers": 1, "worker_memory": "4G"}, cwd=inputs,
        before=[PYTHON, "-X", "importtime"],
    )  # fmt: skip
    assert run.status == 0, run.err
    answer, link = run.out.decode().splitlines()
    # Where there is much memory, glibc sets its own thresholds.
    assert answer == "42 None"
    assert f"Dask Dashboard: {link}\n" in run.err
    imported = {line.rpartition("|")[2].strip() for line in run.err.splitlines()}
    assert "dask_claim.providers.hosted" in imported
    assert not imported & {"dask", "distributed", "tornado", "dask_gateway", "aiohttp"}
    assert (run.receipt["workers"]["peak"], run.receipt["tasks"]) == (1, {"done": 1, "failed": 0})


def test_local_cluster_honours_this_containers_limits(launcher: Launcher) -> None:
    """What its workers print stays off the command's output."""
    code = (
        "from distributed import Client\nimport os\nwith Client() as c:\n"
        "    c.wait_for_workers(1)\n"
        "    c.submit(print, 'from a worker').result()\n"
        "    workers = c.scheduler_info()['workers'].values()\n"
        "    print([(w['nthreads'], w['memory_limit']) for w in workers])\n"
        "    print(c.submit(os.getenv, 'MALLOC_TRIM_THRESHOLD_').result())"
    )
    claim = {"worker_cores": 2, "worker_memory": "4 G", "min_workers": 3, "max_workers": 4}
    running = launcher.start(
        PYTHON, "-c", code, claim=claim, before=("taskset", "-c", "0", "prlimit", f"--rss={2**30}")
    )
    run = running.finish()
    # Where memory is short, freed memory goes back at once, as Dask has it.
    assert run.out.decode().splitlines() == [f"[(1, {2**30})]", "65536"], run.err
    assert run.err.count("This machine gives") == 1
    assert "1 of 4 workers, 1 of 2 cores per worker, 1.0 GiB of 4.0 GiB per worker" in run.err
    # Written as the worker ends, which its launcher does not wait for.
    wait_for(lambda: "from a worker" in running.err, "what a worker has printed")


class Local:
    """A provider with what it has written and warned of; at the end all of it is gone."""

    def __init__(self, claim: dict[str, Any], **environ: str) -> None:
        self.tickets: dict[str, Ticket] = {}
        self.warnings: list[str] = []
        sound = Claim.model_validate({"provider": "local", **claim})
        request = Request(sound, sound.plan(), clean_environment(**environ), stop_timeout=600)
        self.provider = LocalProvider(request, self._write, self.warnings.append)

    def _write(self, ticket: Ticket) -> None:
        """Each anew, when more is known."""
        self.tickets[ticket.id] = ticket

    @property
    def group(self) -> int | None:
        """Of its processes, as soon as it is known."""
        return next((ticket.process for ticket in self.tickets.values()), None)

    async def start(self) -> None:
        await self.provider.submit()
        await self.provider.wait_until_running()

    async def __aenter__(self) -> Local:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.provider.close()
        (ticket,) = self.tickets.values()
        assert await LocalProvider.reclaim(ticket, 30, self.warnings.append) == Outcome.GONE


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
async def test_host_that_ends_by_itself(
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
    came: list[Ended] = []
    fails = pytest.raises(ClusterFailed, match=error)
    async with Local({}) as local:
        with fails if error else contextlib.nullcontext():
            await local.start()
            assert await local.provider.ended(5)
            local.provider.listen(lambda usage: None, came.append)
    assert bool(came) is not bool(error)
    assert "a hook" in capfd.readouterr().err


def _environ() -> dict[str, str]:
    return dict(os.environ)


async def test_variables_of_workers_and_scheduler() -> None:
    """The claim's and the operator's, and no claim."""
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
        "DASK_DISTRIBUTED__NANNY__PRE_SPAWN_ENVIRON": "{'MALLOC_TRIM_THRESHOLD_': 65536}",
    }
    async with Local(claim, **environ) as local:
        await local.start()
        address, security = local.provider.cluster.scheduler_address, local.provider.security()
        async with Client(address, security=security, asynchronous=True) as client:
            (worker,) = (await client.run(_environ)).values()
            scheduler = await client.run_on_scheduler(_environ)
    assert worker["GDAL_CACHEMAX"] == scheduler["GDAL_CACHEMAX"] == "256"
    assert [name for name in worker if name.startswith("DASK_CLAIM")] == ["DASK_CLAIMANT"]
    assert worker["OF_THE_SITE"] == "kept"
    assert worker["MALLOC_TRIM_THRESHOLD_"] == "65536"
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    assert [worker[name] for name in names] == ["3", "4", "1"]


HANGS = """
import asyncio, pathlib, time
async def dask_setup(scheduler):
    pathlib.Path({reached!r}).touch()
    await asyncio.sleep(600)
if {role!r} == "WORKER":
    time.sleep(600)
"""


@pytest.mark.parametrize(
    ("role", "reached"),
    [
        pytest.param(
            "WORKER", lambda local, _: local.group,
            id="its process is there", marks=pytest.mark.deep,
        ),
        pytest.param("SCHEDULER", lambda _, path: path.exists(), id="scheduler hangs"),
        # Told before its workers are up.
        pytest.param(
            "WORKER", lambda local, _: local.provider.cluster.scheduler_address,
            id="scheduler is up",
        ),
        # The host, multiprocessing's tracker of resources, and the first worker.
        pytest.param(
            "WORKER", lambda local, _: local.group and len(members(local.group)) > 2,
            id="workers start",
        ),
    ],
)  # fmt: skip
async def test_a_start_that_hangs_can_be_cancelled_at_any_moment(
    tmp_path: Path, role: str, reached: Callable[[Local, Path], object]
) -> None:
    """Its process ends by itself: it is not killed after the stop timeout."""
    (preload := tmp_path / "hang.py").write_text(
        HANGS.format(role=role, reached=str(tmp_path / "reached"))
    )
    environ = {f"DASK_DISTRIBUTED__{role}__PRELOAD": f'["{preload}"]'}
    async with Local({}, **environ) as local:
        starting = asyncio.ensure_future(local.start())
        await asyncio.sleep(0)
        deadline = time.monotonic() + 30
        while not reached(local, tmp_path / "reached"):
            assert time.monotonic() < deadline and not starting.done()
            await asyncio.sleep(0.01)
        starting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await starting
        await in_time(local.provider.close(), 60)
    assert local.group is not None and not group_runs(local.group)


WAITS_TO_BE_LEFT = """
import asyncio
from dask_claim.providers.host_process import launcher_left
async def main():
    await launcher_left().wait()
    print("still read" if asyncio.get_running_loop().remove_reader(0) else "left")
asyncio.run(main())
"""


def test_closed_pipe_is_noticed_once() -> None:
    """A loop that still read it would take a core until the cluster has ended."""
    done = subprocess.run(
        [PYTHON, "-c", WAITS_TO_BE_LEFT], input=b"", capture_output=True, timeout=60
    )
    assert done.stdout == b"left\n", done.stderr


async def test_workers_that_fail_fail_the_start(tmp_path: Path) -> None:
    preload = tmp_path / "fail.py"
    preload.write_text("raise OSError('no worker today')\n")
    async with Local({}, DASK_DISTRIBUTED__WORKER__PRELOAD=f'["{preload}"]') as local:
        with pytest.raises(ClusterFailed, match="no worker today"):
            await local.start()
