"""What a process that hosts a cluster does, whatever cluster it is; see `hosted` for the launcher.

It reads one JSON request from standard input and then waits for that input to close. Its events,
one JSON object a line, go to standard output.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
import traceback
from collections.abc import Callable, Coroutine
from dataclasses import asdict
from time import time
from typing import Any

from dask_claim.providers.dask_report import report_here
from dask_claim.threads import cancel, in_time, run_loop

# The web server of a scheduler or worker answers every user of the machine: without routes it has
# nothing to show.
NO_ROUTES_OF_WORKERS: dict[str, list[str]] = {"distributed.worker.http.routes": []}
NO_ROUTES = {"distributed.scheduler.http.routes": [], **NO_ROUTES_OF_WORKERS}


def serve(hold: Callable[[dict[str, Any], Any], Coroutine[Any, Any, None]]) -> None:
    """Run `hold(request, events)` for the request of the launcher, if one comes."""
    # The launcher alone decides when the cluster ends.
    for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(signum, signal.SIG_IGN)
    # What workers print must not mix with the events, nor reach the command's own output.
    events = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    request = sys.stdin.readline()
    if request:
        try:
            run_loop(hold(json.loads(request), events))
        except (Exception, SystemExit) as error:
            tell(events, **failure(error))
            raise


def launcher_left() -> asyncio.Event:
    """Return what is set when standard input closes, or the launcher asks for Dask's report."""
    left, loop = asyncio.Event(), asyncio.get_running_loop()

    def leave() -> None:
        # Input that has closed stays ready: the loop would call this over and over.
        loop.remove_reader(0)
        left.set()

    loop.add_reader(0, leave)
    return left


REPORT_EVERY = 5.0


async def report(cluster: Any, events: Any) -> None:
    """Report what the cluster does, until cancelled: when something changes, and now and then."""
    from dask_claim.providers.meter import Meter

    changed, watched = asyncio.Event(), set[Any]()
    meter = Meter(changed.set)
    meter.start(cluster.scheduler)
    cluster.scheduler.add_plugin(meter, name="dask-claim-meter")
    try:
        while True:
            changed.clear()
            watch_processes(cluster, watched, meter.troubles.process_ended)
            tell(events, usage=meter.usage())
            with contextlib.suppress(asyncio.TimeoutError):
                await in_time(changed.wait(), REPORT_EVERY)
    finally:
        tell(events, usage=meter.usage())


def watch_processes(cluster: Any, watched: set[Any], on_end: Callable[[str, int], None]) -> None:
    """Have the nannies here call `on_end` with address and exit status of a worker that ends.

    Dask itself writes them to its log alone. `watched`: the processes of the last call.
    """
    processes: set[Any] = {getattr(nanny, "process", None) for nanny in cluster.workers.values()}
    for process in processes - watched:
        # Batch jobs have no process here.
        if (then := getattr(process, "on_exit", None)) is not None:

            def ended(status: int, process: Any = process, then: Any = then) -> None:
                on_end(process.worker_address, status)
                then(status)

            process.on_exit = ended
    watched.clear()
    watched.update(processes)


async def until_over(cluster: Any, left: asyncio.Event, events: Any, recorded: bool) -> None:
    """Report what the cluster does, and return when the launcher has left, or the scheduler ends.

    `recorded`: the scheduler remembers its tasks, for Dask's own report, which the launcher asks
    for when it leaves.

    A client that shuts the cluster down (`client.shutdown()`) waits until it is closed from here,
    workers first. A worker that its scheduler closes takes seconds, and complains.
    """
    scheduler, shut_down = cluster.scheduler, asyncio.Event()
    since = time()
    if recorded:
        scheduler.get_task_stream(start=0, stop=0)
    close = scheduler.handlers["terminate"]

    async def terminate(**_: Any) -> None:
        shut_down.set()
        await scheduler.finished()

    scheduler.handlers["terminate"] = terminate
    ends = [asyncio.ensure_future(end) for end in (left.wait(), shut_down.wait())]
    closed = asyncio.ensure_future(scheduler.finished())
    reporting = asyncio.create_task(report(cluster, events))
    try:
        await asyncio.wait({*ends, closed}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        scheduler.handlers["terminate"] = close
        for waiting in (*ends, closed):
            waiting.cancel()
        await cancel(reporting)
    if shut_down.is_set():
        tell(events, ended="was shut down by a client (client.shutdown())", ordinary=True)
    elif not left.is_set():
        # Or Dask would try for 30 s to reach it.
        cluster.shutdown_scheduler = False
        tell(events, ended="has ended by itself: its scheduler closed")
    elif os.read(0, 100):
        # While the workers are still there, which it asks for their profiles.
        tell(events, dask_report=asdict(await report_here(scheduler, since)))


# What fails again however often it is tried: a module, a setting or a file that is not there.
LASTING = (
    ImportError,
    SyntaxError,
    AttributeError,
    TypeError,
    ValueError,
    FileNotFoundError,
    NotADirectoryError,
    PermissionError,
)


def failure(error: BaseException) -> dict[str, object]:
    """Return the event for an error in whose place there is no cluster: its first cause."""
    causes = [error]
    # Dask raises errors of its own from those of a preload module or a worker.
    while (cause := causes[-1].__cause__) is not None and cause not in causes:
        causes.append(cause)
    first = next((each for each in causes if isinstance(each, LASTING)), causes[-1])
    if isinstance(first, SystemExit):
        # A program in a library's place, which ends when it is imported.
        file = traceback.extract_tb(first.__traceback__)[-1].filename
        return {"error": f"{file} ends Python (SystemExit: {first})", "lasting": True}
    text = f"{type(first).__name__}: {first}" if str(first) else repr(first)
    return {"error": text, "lasting": isinstance(first, LASTING)}


def tell(events: Any, **event: object) -> None:
    # They have no reader any more where the launcher has left.
    with contextlib.suppress(BrokenPipeError):
        print(json.dumps(event), file=events, flush=True)
