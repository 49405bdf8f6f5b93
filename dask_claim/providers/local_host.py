"""The process that holds the LocalCluster. The launcher runs this file; nobody imports it.

A process of its own, for three reasons: the scheduler's work never delays a signal to the command;
workers start anew from this file, never from the user's script; and the pipe from the launcher
ends it, and with it every worker, in whatever way the launcher ends.

It reads one JSON order from standard input and then waits for that input to close. Its events,
one JSON object a line, go to standard output.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path

# Modules lying beside this file must not shadow anybody's. Workers find the modules of the working
# directory, as in a program that starts its own LocalCluster, after all installed ones.
sys.path[0:1] = []
sys.path += [str(Path(__file__).resolve().parents[2]), os.getcwd()]


def main() -> None:
    # The launcher alone decides when the cluster ends.
    for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(signum, signal.SIG_IGN)
    # What workers print must not mix with the events, nor reach the command's own output.
    events = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    order = json.loads(sys.stdin.readline())

    from dask.system import cpu_count
    from distributed import LocalCluster
    from distributed.system import memory_limit

    from dask_claim.providers.local_size import Wish, fit

    # Both functions know the cgroup's limits besides the machine's size.
    size = fit(Wish(**order), cpu_count(), memory_limit())
    cluster = LocalCluster(
        n_workers=size.min_workers,
        threads_per_worker=size.threads,
        memory_limit=size.memory,
        host="127.0.0.1",
        dashboard_address="127.0.0.1:0",
        processes=True,
    )
    try:
        if size.min_workers < size.max_workers:
            cluster.adapt(minimum=size.min_workers, maximum=size.max_workers)
        event = {
            "scheduler_address": cluster.scheduler_address,
            "dashboard_url": cluster.dashboard_link,
            "min_workers": size.min_workers,
            "max_workers": size.max_workers,
            "shortfall": size.shortfall,
        }
        print(json.dumps(event), file=events, flush=True)
        sys.stdin.read()
    finally:
        cluster.close()


if __name__ == "__main__":
    main()
