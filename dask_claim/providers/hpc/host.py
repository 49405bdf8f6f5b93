"""The process that holds the scheduler, and submits jobs. The launcher runs it; nobody imports it.

As with a local cluster, the pipe from the launcher ends it in whatever way the launcher ends. It
reads one JSON request from standard input and then waits for that input to close; its events,
one JSON object a line, go to standard output: the first when the scheduler is up, the second when
the minimum of jobs is submitted.
"""

from __future__ import annotations

import asyncio
import contextlib
import shlex
import sys
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

# Modules lying beside this file must not shadow anybody's.
sys.path[0:1] = []
sys.path.append(str(Path(__file__).resolve().parents[3]))

from dask_claim.providers.host_process import (  # noqa: E402
    NO_ROUTES,
    failure,
    launcher_left,
    serve,
    tell,
    until_over,
)
from dask_claim.providers.hpc.systems import passes  # noqa: E402


async def hold(request: dict[str, Any], events: Any) -> None:
    """Make the cluster and keep it until standard input closes."""
    left = launcher_left()
    # Job scripts hold the keys; they lie here until they are submitted.
    tempfile.tempdir = request["folder"]
    try:
        cluster = await make(request)
    except Exception as error:
        tell(events, **refusal(error))
        return
    async with cluster, watched(cluster, request, events):
        minimum, maximum = request["min_workers"], request["max_workers"]
        over = asyncio.ensure_future(until_over(cluster, left, events))
        tell(events, scheduler_address=cluster.scheduler_address)
        try:
            cluster.scale(minimum)
            await cluster  # until the jobs are submitted, not until they run
            if minimum < maximum:
                cluster.adapt(minimum=minimum, maximum=maximum)
        except Exception as error:
            tell(events, **refusal(error))
        else:
            tell(events, submitted=minimum)
        await over


@contextlib.asynccontextmanager
async def watched(cluster: Any, request: dict[str, Any], events: Any) -> AsyncIterator[None]:
    """Tell of jobs that end before their time, where the system says why."""
    if request["cluster"] != "SLURMCluster":
        yield
        return
    from dask_claim.providers.hpc.jobs import WorkerJobs

    jobs = WorkerJobs(cluster, lambda text: tell(events, warning=text))
    watching = asyncio.create_task(jobs.watch())
    try:
        yield
    finally:
        watching.cancel()
        await asyncio.wait({watching})
        await jobs.look()


async def make(request: dict[str, Any]) -> Any:
    """Return the cluster with its scheduler, whose first jobs are not submitted yet."""
    import dask
    import dask_jobqueue

    from dask_claim.providers import tls
    from dask_claim.providers.hpc.configured import with_configured

    folder = Path(request["folder"])
    tls.make_keys(folder)
    # A node may not see the folder, and `env` of a job is its user's alone.
    exported = {
        **request["environment"],
        **tls.as_text(folder, "worker"),
        "DASK_DISTRIBUTED__WORKER__HTTP__ROUTES": "[]",
    }
    dask.config.set(NO_ROUTES)
    cluster = getattr(dask_jobqueue, request["cluster"])
    run = {
        "quiet": request["quiet"],
        "job_extra_directives": request["directives"],
        "worker_extra_args": ["--no-dashboard"],
        "job_script_prologue": [
            f"export {name}={shlex.quote(value)}" for name, value in exported.items()
        ],
        "scheduler_options": {"dashboard": False, "dashboard_address": "127.0.0.1:0"},
    }
    return cluster(
        protocol="tls://",
        processes=1,
        death_timeout=request["death_timeout"],
        silence_logs="warning",
        asynchronous=True,
        **with_configured(cluster, run),
        **request["job"],
    )


def refusal(error: Exception) -> dict[str, object]:
    """Return the event for an error, with the batch system's own words where it has refused."""
    _, refused, words = str(error).rpartition("stderr:")
    if not refused:
        return failure(error)
    return {"error": words.strip() or repr(error), "lasting": not passes(words)}


if __name__ == "__main__":
    serve(hold)
