"""The process that holds the LocalCluster. The launcher runs this file; no module imports it.

A process of its own, for three reasons: the scheduler's work never delays a signal to the command;
workers start anew from this file, never from the user's script; and the pipe from the launcher
ends it, and with it every worker, in whatever way the launcher ends (see `host_process`). Its first
event comes when the scheduler is up, the second when the minimum of workers is.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

# Modules lying beside this file must not shadow anybody's. Workers find the modules of the working
# directory, as in a program that starts its own LocalCluster, after all installed ones.
sys.path[0:1] = []
sys.path.append(str(Path(__file__).resolve().parents[3]))
try:
    sys.path.append(os.getcwd())
except FileNotFoundError:
    # It was deleted; Dask and multiprocessing want one that exists.
    os.chdir("/")

from dask_claim.providers.host_process import (  # noqa: E402
    NO_ROUTES_OF_WORKERS,
    launcher_left,
    serve,
    tell,
    until_over,
)

if TYPE_CHECKING:
    from dask_claim.providers.hpc.step import Step
    from dask_claim.providers.local.size import LocalSize

# Workers load this file, too: none logs the heartbeat that the cluster's end has cut off.
logging.getLogger("distributed.worker").addFilter(
    lambda record: "during heartbeat" not in str(record.msg)
)

# A cluster that was still starting when its launcher left is closed when it is up, or so late.
PATIENCE = 5.0
SCHEDULER_POLL = 0.01

# Bytes of a worker, from which on it does not matter that glibc keeps some freed memory at hand.
ROOMY = 2 * 2**30
SCRATCH = "temporary-directory"
SPAWN_ENVIRON = "distributed.nanny.pre-spawn-environ"
TRIM = "MALLOC_TRIM_THRESHOLD_"


async def hold(request: dict[str, Any], events: Any) -> None:
    """Make the cluster and keep it until standard input closes."""
    left = launcher_left()

    from dask_claim.files import letters, remove_private_folder
    from dask_claim.imports import without_numpy
    from dask_claim.providers.local.dashboard import dashboard

    with without_numpy():
        from distributed import LocalCluster

    folder, token, report = request.pop("folder"), letters(), request.pop("report")
    configure(Path(folder), token)
    size, step, plan = await divide(request)
    leave_memory_to_glibc(size.memory)
    cluster = LocalCluster(
        n_workers=size.min_workers,
        threads_per_worker=size.threads,
        memory_limit=size.memory,
        host=step.address if step else "127.0.0.1",
        protocol="tls://",
        dashboard_address="127.0.0.1:0",
        scheduler_kwargs={"http_prefix": token, "dashboard": False},
        processes=True,
        asynchronous=True,
    )
    opening = asyncio.ensure_future(cluster)
    over: asyncio.Future[None] | None = None
    try:
        if not await scheduler_runs(cluster, opening, left):
            return
        over = asyncio.ensure_future(until_over(cluster, left, events, report))
        address, link = cluster.scheduler_address, dashboard(cluster.scheduler, token)
        tell(events, scheduler_address=address, dashboard_url=link, **plan)
        if step:
            await step.start(address, Path(folder), lambda text: tell(events, warning=text))
        await asyncio.wait({opening, over}, return_when=asyncio.FIRST_COMPLETED)
        if opening.done():
            opening.result()
            if size.min_workers < size.max_workers:
                cluster.adapt(minimum=size.min_workers, maximum=size.max_workers)
            tell(events, workers=size.min_workers)
            await over
    finally:
        if over is not None:
            over.cancel()
        if step:
            await step.end(cluster.scheduler)
        await end(cluster, opening)
        remove_private_folder(folder)


async def scheduler_runs(cluster: Any, opening: asyncio.Future[Any], left: asyncio.Event) -> bool:
    """Return when the scheduler is up, with True, or when the launcher has left.

    A command that starts at once needs the scheduler's address, not yet the workers.
    """
    while cluster.status.name != "running" and not left.is_set():
        if opening.done():
            opening.result()
        await asyncio.sleep(SCHEDULER_POLL)
    return not left.is_set()


def configure(folder: Path, token: str) -> None:
    """Set what Dask is to find in this process: keys, and nothing to see without `token`."""
    import dask

    from dask_claim.providers import tls
    from dask_claim.providers.local.dashboard import answer_only_below

    # Dask finds the keys by its variables.
    tls.make_keys(folder)
    dask.config.set(NO_ROUTES_OF_WORKERS)
    if dask.config.get(SCRATCH, None) is None:
        # Dask's own choice can be the working directory, and stays.
        dask.config.set({SCRATCH: str(folder)})
    answer_only_below(token)


async def divide(request: dict[str, Any]) -> tuple[LocalSize, Step | None, dict[str, Any]]:
    """Return this machine's share, the step on an allocation's other nodes, and the plan's event.

    `request` has the fields of `LocalRequest`, and `others` where there are other nodes.
    """
    from dask_claim.providers.local.size import LocalRequest, fit_here

    others, step, shortfall = request.pop("others", None), None, None
    share = LocalRequest(**request)
    minimum = share.min_workers
    if others:
        from dask_claim.providers.hpc.step import Step

        try:
            step = await Step.plan(share, others, os.environ)
        except OSError as error:
            shortfall = f"Of the allocation's nodes only this one is used: {error}"
        else:
            share, shortfall = step.here, step.shortfall
    size = fit_here(share)
    total = size.max_workers + (step.workers if step else 0)
    return (
        size,
        step,
        {
            "min_workers": min(minimum, total) if step and not share.unsaid else size.min_workers,
            "max_workers": total,
            "notice": f"{size.notice}. {step}" if step else size.notice,
            "shortfall": ". ".join(filter(None, (size.shortfall, shortfall))),
        },
    )


def leave_memory_to_glibc(worker: float) -> None:
    """Undo Dask's setting that workers give freed memory back at once, unless it is configured.

    That is for workers of many bytes: where there are few, each counts.

    As a side effect, glibc no longer raises the size from which an array is mapped from the system,
    128 kB: the kernel then clears every page of every array anew, which takes up to a third of the
    CPU time of a worker. A variable of the environment wins over Dask's setting by itself.
    """
    import dask

    if worker < ROOMY:
        return
    chosen = dask.config.get(SPAWN_ENVIRON, {}, config=dask.config.collect())
    if isinstance(chosen, dict) and TRIM not in chosen:
        # None: not set at all.
        dask.config.set({SPAWN_ENVIRON: {**dask.config.get(SPAWN_ENVIRON), TRIM: None}})


async def end(cluster: Any, opening: asyncio.Future[Any]) -> None:
    """Close the cluster; one that hangs is killed with all its workers."""
    await asyncio.wait({opening}, timeout=PATIENCE)
    if not opening.done():
        # This process leads its own session, so its group is itself and its workers.
        os.killpg(0, signal.SIGKILL)
    await cluster.close()


if __name__ == "__main__":
    serve(hold)
