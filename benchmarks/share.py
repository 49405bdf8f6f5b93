"""What one cluster for a whole workflow saves: `python -m benchmarks.share` prints the table.

Against one real gateway on this machine whose schedulers and workers start some seconds late, as
pods whose images are pulled. Each step is an unmodified client with one task, so the table has the
cost of clusters and not that of work. Shared and not are taken in turn, so that a slow moment meets
both alike; seconds are wall time from the first step's start to the last one's end, medians of the
rounds. Cores are counted as worker processes that are there, and those of `keep` apart: between the
last step's end and the cluster's.
"""

from __future__ import annotations

import argparse
import itertools
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from tests.support.gateway import LIMITED, VARIABLES, Dask, GatewayServer
from tests.support.launcher import ONE_TASK, PYTHON, Launcher, Running, wait_for
from tests.support.scenes import processes_of

KEEP = 20
CLAIM = {"min_workers": 1, "max_workers": 1, "keep": KEEP}
PATIENCE = 1200.0
STEPS, SCATTERED, PLACES = 5, 8, 2
GOALS = {(STEPS, 0): 0.6, (STEPS, 10): 0.35, (STEPS, 20): 0.3, (SCATTERED, 10): 0.5}
"""Steps in sequence, or at once, and the seconds that a start takes → × not shared, at most. Those
at once start their clusters side by side, so they gain where a user may have fewer than steps."""

AT_MOST = LIMITED + f"LIMIT = {PLACES}\n"

JOIN_GOAL = 1.0

# Tells when it has imported what it needs, and its result.
TIMED = f"import time, distributed\nprint(time.time())\n{ONE_TASK}\nprint(time.time())"
HOLDING = ("sh", "-c", "echo ready; read line")


def delayed(seconds: float) -> Dask:
    """Return `dask`, with a start that takes so much longer."""
    wait = f'sleep {seconds:g}; exec dask "$@"'
    return lambda *arguments: ["sh", "-c", wait, "dask", *arguments]


@contextmanager
def serving(options: str, delay: float) -> Iterator[GatewayServer]:
    gateway = GatewayServer(options, dask=delayed(delay))
    try:
        yield gateway
    finally:
        gateway.stop()


@dataclass
class Cost:
    """What a workflow has taken: seconds, and core-seconds of its workers."""

    seconds: float
    cores: float
    kept: float


class WorkerCount:
    """Adds up the time for which worker processes are there; each has one core."""

    def __init__(self, gateway: GatewayServer) -> None:
        self._gateway, self._over, self.seconds = gateway, threading.Event(), 0.0
        self._thread = threading.Thread(target=self._count, daemon=True)

    def __enter__(self) -> WorkerCount:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _count(self) -> None:
        before = time.monotonic()
        while not self._over.wait(0.2):
            count, now = len(processes_of(self._gateway, "worker")), time.monotonic()
            self.seconds += count * (now - before)
            before = now


class Workflow:
    """Steps against one gateway."""

    def __init__(self, gateway: GatewayServer, count: int, how: str = "in sequence") -> None:
        self._gateway, self._count, self._how = gateway, count, how

    def cost(self, shared: bool) -> Cost:
        """Run all steps, and wait until nothing is left of them."""
        env = {"DASK_CLAIM_SHARE": "workflow"} if shared else {}
        launcher = Launcher(Path(tempfile.mkdtemp(prefix="share-")))
        with WorkerCount(self._gateway) as workers:
            began = time.perf_counter()
            if self._how != "in sequence":
                runs = [start(launcher, self._gateway, env) for _ in range(self._count)]
                ended = [run.finish(PATIENCE) for run in runs]
            else:
                ended = [
                    start(launcher, self._gateway, env).finish(PATIENCE) for _ in range(self._count)
                ]
            taken, cores = time.perf_counter() - began, workers.seconds
            for run in ended:
                if (run.status, run.out) != (0, b"42\n"):
                    raise SystemExit(f"a step failed with status {run.status}:\n{run.err}")
            wait_for(lambda: not self._gateway.clusters(), "end of the clusters", PATIENCE)
        return Cost(taken, cores, workers.seconds - cores)

    def row(self, delay: float, rounds: int) -> str:
        """Compare the two ways, in turn; a first round warms the caches where it is cheap."""
        taken: dict[bool, list[Cost]] = {False: [], True: []}
        for number in range(rounds + (delay == 0)):
            for shared, costs in taken.items():
                cost = self.cost(shared)
                if number or delay:
                    costs.append(cost)
        own, shared = (median(taken[way]) for way in (False, True))
        goal = GOALS[self._count, int(delay)]
        return (
            f"| {self._count} {self._how} | {delay:g} | {own.seconds:.1f} | {shared.seconds:.1f} | "
            f"{shared.seconds / own.seconds:.2f} | {goal} | {own.cores:.0f} | {shared.cores:.0f} | "
            f"{shared.kept:.0f} |"
        )


def start(
    launcher: Launcher, gateway: GatewayServer, env: dict[str, str], program: str = ONE_TASK
) -> Running:
    claim = {"gateway_url": gateway.url, **CLAIM}
    flags = ("--start-timeout", "900", "--stop-timeout", "120")
    return launcher.start(PYTHON, "-c", program, claim=claim, env=env, flags=flags)


def median(costs: list[Cost]) -> Cost:
    def of(value: Callable[[Cost], float]) -> float:
        return statistics.median(map(value, costs))

    return Cost(of(lambda c: c.seconds), of(lambda c: c.cores), of(lambda c: c.kept))


def joins(gateway: GatewayServer, rounds: int) -> list[float]:
    """Seconds from a run's start until it has joined a warm cluster, from there until its command
    is started, until that has imported Dask, and until it has its first result."""
    env = {"DASK_CLAIM_SHARE": "workflow"}
    claim = {"gateway_url": gateway.url, **CLAIM}
    launcher = Launcher(Path(tempfile.mkdtemp(prefix="share-")))
    holder = launcher.start(
        *HOLDING, claim=claim, env=env, flags=("--start", "workers"), stdin=subprocess.PIPE
    )
    assert holder.process.stdout is not None
    holder.process.stdout.readline()
    taken = []
    for _ in range(rounds + 1):
        began = time.time()
        run = start(launcher, gateway, env, TIMED).finish(PATIENCE)
        assert run.status == 0 and run.receipt, run.err
        moments = [run.receipt["timeline"][stage] for stage in ("submitted", "command_start")]
        times = [began, *(datetime.fromisoformat(at).timestamp() for at in moments)]
        imported, _, done = run.out.split()
        times += [float(imported), float(done)]
        taken.append([after - before for before, after in itertools.pairwise(times)])
    holder.process.communicate(b"\n")
    return [statistics.median(each) for each in zip(*taken[1:], strict=True)]


def table(rounds: int, delays: list[int], scatter: bool) -> None:
    print(f"{os.cpu_count()} cores, Python {sys.version.split()[0]}, {rounds} rounds at 0 s\n")
    print(
        "| steps | a start takes, s | not shared, s | shared, s | × | goal | core-seconds "
        "not shared | shared | of `keep` |"
    )
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    for delay in delays:
        with serving(VARIABLES, delay) as gateway:
            print(Workflow(gateway, STEPS).row(delay, 1 if delay else rounds), flush=True)
            if scatter and delay == 10:
                print(Workflow(gateway, SCATTERED, "at once").row(delay, 1), flush=True)
    if scatter and 10 in delays:
        with serving(VARIABLES + AT_MOST, 10) as gateway:
            how = f"at once, {PLACES} clusters allowed"
            print(Workflow(gateway, SCATTERED, how).row(10, 1), flush=True)
    with serving(VARIABLES, 0) as gateway:
        found, started, imported, done = joins(gateway, 2 * rounds + 1)
    print(
        f"\nfrom joining a warm cluster to the first task's result: {started + done:.2f} s (goal "
        f"{JOIN_GOAL:g}), without the {imported:.2f} s in which the command imports Dask; before "
        f"it the launcher's own start and its finding of the cluster, {found:.2f} s"
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--delays", type=int, nargs="*", default=[0, 10, 20])
    parser.add_argument("--no-scatter", action="store_true")
    arguments = parser.parse_args()
    table(arguments.rounds, arguments.delays, not arguments.no_scatter)
