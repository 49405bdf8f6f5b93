"""The process that hosts the scheduler, and submits jobs. The launcher runs this file.

As with a local cluster, the pipe from the launcher ends it (see `host_process`). Its first event
comes when the scheduler is up, the second when the minimum of jobs is submitted.
"""

from __future__ import annotations

import asyncio
import contextlib
import shlex
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    # Modules lying beside this file must not shadow anybody's.
    sys.path[0:1] = []
    sys.path.append(str(Path(__file__).resolve().parents[3]))

from dask_claim.providers import tls
from dask_claim.providers.host_process import (
    NO_ROUTES,
    failure,
    launcher_left,
    serve,
    tell,
    until_over,
)
from dask_claim.providers.hpc import condor
from dask_claim.providers.hpc.jobs import WorkerJobs
from dask_claim.providers.hpc.systems import passes
from dask_claim.threads import cancel


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
    async with contextlib.AsyncExitStack() as end:
        await end.enter_async_context(cluster)
        if request["cluster"] == "SLURMCluster":
            jobs = WorkerJobs(
                cluster,
                lambda text: tell(events, warning=text),
                lambda text: tell(events, waiting=text),
            )
            end.push_async_callback(jobs.look)
            end.push_async_callback(cancel, asyncio.create_task(jobs.watch()))
        minimum, maximum = request["min_workers"], request["max_workers"]
        over = asyncio.ensure_future(until_over(cluster, left, events, request["report"]))
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


async def make(request: Mapping[str, Any]) -> Any:
    """Return the cluster with its scheduler, whose first jobs are not submitted yet."""
    import dask
    import dask_jobqueue

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
    exports = [f"export {name}={shlex.quote(value)}" for name, value in exported.items()]
    described = request["cluster"] == "HTCondorCluster"
    run = {
        "worker_extra_args": ["--no-dashboard"],
        "job_script_prologue": [] if described else exports,
        "job_extra_directives": request["directives"],
        "scheduler_options": {"dashboard": False, "dashboard_address": "127.0.0.1:0"},
    }
    arguments = {**with_configured(cluster, run, request["quiet"]), **request["job"]}
    if described:
        condor.as_description(arguments, exports, folder)
    return cluster(
        protocol="tls://", processes=1, silence_logs="warning", asynchronous=True, **arguments
    )


# The second names are those of older releases.
CONFIGURED = {
    "worker_extra_args": ("worker-extra-args", "extra"),
    "job_script_prologue": ("job-script-prologue", "env-extra"),
    "job_extra_directives": ("job-extra-directives", "job-extra"),
}


def with_configured(cluster: Any, run: Mapping[str, Any], quiet: list[str]) -> dict[str, Any]:
    """Return the arguments of `run` for a class of dask-jobqueue's, after a site's own.

    An argument would take the whole place of `jobqueue.slurm.…` and its like. `quiet`: directives
    that discard the jobs' output, for sites that are not configured to keep it.
    """
    import dask.config

    def configured(*names: str) -> Any:
        keys = (f"jobqueue.{cluster.job_cls.config_name}.{name}" for name in names)
        return next(filter(None, (dask.config.get(key, None) for key in keys)), None)

    def lines(value: Any) -> list[str]:
        """HTCondor's directives are a mapping."""
        if isinstance(value, Mapping):
            return [f"{name} = {each}" for name, each in value.items()]
        return list(value or ())

    merged = {name: lines(configured(*CONFIGURED[name])) + run[name] for name in CONFIGURED}
    if not configured("log-directory"):
        merged["job_extra_directives"][:0] = quiet
    options = {**(configured("scheduler-options") or {}), **run["scheduler_options"]}
    return {**merged, "scheduler_options": options}


def refusal(error: Exception) -> dict[str, object]:
    """Return the event for an error, with the batch system's own words where it has refused."""
    _, refused, words = str(error).rpartition("stderr:")
    if not refused:
        return failure(error)
    return {"error": words.strip() or repr(error), "lasting": not passes(words)}


if __name__ == "__main__":
    serve(hold)
