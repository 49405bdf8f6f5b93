"""What a local cluster's settings cost: `python -m benchmarks.local` prints four tables.

1. How workers get memory from the system, on three unlike workloads, in fresh processes: Dask's
   own setting, glibc's, and fixed thresholds. CPU time of the workers, their peak and what they
   still hold when the work is done.
2. One worker with all threads against Dask's own split, for work that holds the GIL and for
   arrays.
3. From the start of the launcher until the command runs, and until its first result.
4. What TLS with keys of this run costs: until the first result, its keys included, and to move
   arrays between workers and to the client.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.support.gateway import clean_environment
from tests.support.launcher import DASK_CLAIM, ONE_TASK, PYTHON

MIB = 2**20

TRIM, MAP = "MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_"
ALLOCATORS: dict[str, dict[str, int | None]] = {
    "Dask's": {TRIM: 65536},
    "glibc's": {TRIM: None},
    "fixed": {TRIM: 256 * MIB, MAP: 32 * MIB},
}


def arrays(client: Any) -> None:
    import dask.array as da

    for _ in range(6):
        x = da.random.default_rng(1).random((8000, 8000), chunks=(1000, 1000))
        (da.sqrt(x + x.T) - x.mean(axis=0)).std().compute()


def large_arrays(client: Any) -> None:
    import dask.array as da

    for _ in range(3):
        x = da.random.default_rng(1).random((12000, 12000), chunks=(3000, 3000))
        da.where(x > 0.5, x * 2 + 1, x / 3).sum().compute()


def _frame(seed: int) -> float:
    import numpy
    import pandas

    random = numpy.random.default_rng(seed)
    left = pandas.DataFrame(
        {
            "key": random.integers(0, 5000, 300_000),
            "name": random.integers(0, 300, 300_000).astype(str),
            "value": random.random(300_000),
        }
    )
    right = left.groupby("key").agg({"value": ["mean", "std"]}).droplevel(0, axis=1).reset_index()
    merged = left.merge(right, on="key").sort_values(["name", "value"])
    return float(merged.groupby("name")["mean"].sum().sum())


def dataframes(client: Any) -> None:
    client.gather(client.map(_frame, range(24), pure=False))


def tasks(client: Any) -> None:
    numbers = client.map(lambda number: number + 1, range(3000), pure=False)
    client.submit(sum, numbers, pure=False).result()


def _count(seed: int) -> int:
    found = 0
    for number in range(3_000_000):
        found += (number * seed) % 7 == 0
    return found


def gil(client: Any) -> None:
    client.gather(client.map(_count, range(1, 37), pure=False))


WORKLOADS: dict[str, Callable[[Any], None]] = {
    work.__name__: work for work in (arrays, large_arrays, dataframes, tasks, gil)
}


def _usage() -> tuple[float, float, float]:
    """CPU seconds, peak and present resident MiB of the process that is asked."""
    import os
    import resource

    used = resource.getrusage(resource.RUSAGE_SELF)
    with open("/proc/self/statm") as file:
        resident = int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return used.ru_utime + used.ru_stime, used.ru_maxrss / 1024, resident / MIB


def one(workload: str, workers: int, threads: int, allocator: str) -> None:
    """Print the figures of one workload on one cluster, as JSON."""
    import dask
    from distributed import Client, LocalCluster

    key = "distributed.nanny.pre-spawn-environ"
    with (
        dask.config.set({key: {**dask.config.get(key), **ALLOCATORS[allocator]}}),
        LocalCluster(
            n_workers=workers, threads_per_worker=threads, dashboard_address=None
        ) as cluster,
        Client(cluster) as client,
    ):
        before = client.run(_usage)
        began = time.perf_counter()
        WORKLOADS[workload](client)
        taken = time.perf_counter() - began
        after = client.run(_usage)
    figures = {
        "seconds": taken,
        "cpu": sum(cpu for cpu, _, _ in after.values()) - sum(cpu for cpu, _, _ in before.values()),
        "peak": sum(peak for _, peak, _ in after.values()),
        "held": sum(held for _, _, held in after.values()),
    }
    print(json.dumps(figures))


def measured(workload: str, workers: int, threads: int, allocator: str) -> dict[str, float]:
    """The figures of `one`, in a process of its own."""
    command = [PYTHON, "-m", "benchmarks.local", "--one", workload, str(workers), str(threads)]
    run = subprocess.run(
        [*command, allocator],
        env=clean_environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    if run.returncode:
        raise SystemExit(run.stderr)
    figures: dict[str, float] = json.loads(run.stdout)
    return figures


def compare(cases: list[tuple[str, int, int, str]], rounds: int) -> None:
    """Print the medians of the cases, taken in turn so that a slow moment meets all alike."""
    taken: dict[tuple[str, int, int, str], list[dict[str, float]]] = {case: [] for case in cases}
    for _ in range(rounds):
        for case in cases:
            taken[case].append(measured(*case))
    print("| workload | workers × threads | allocator | s | CPU s | peak MiB | held MiB |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for (workload, workers, threads, allocator), runs in taken.items():
        names = ("seconds", "cpu", "peak", "held")
        seconds, cpu, peak, held = (statistics.median(run[name] for run in runs) for name in names)
        print(
            f"| {workload} | {workers} × {threads} | {allocator} "
            f"| {seconds:.1f} | {cpu:.1f} | {peak:.0f} | {held:.0f} |",
            flush=True,
        )


def launching(rounds: int) -> None:
    """Print how long a local run takes to its command, and to its first result."""
    began_and_ended = "import time; print(time.time())\n" + ONE_TASK
    rows: dict[str, list[str]] = {
        "by hand": [
            PYTHON,
            "-c",
            "import time; print(time.time())\nfrom distributed import Client\n"
            "if __name__ == '__main__':\n"
            "    with Client(n_workers=1) as c: print(c.submit(sum, [20, 22]).result())",
        ],
        "ready": [DASK_CLAIM, "-q", "--", PYTHON, "-c", began_and_ended],
        "eager": [DASK_CLAIM, "-q", "--start", "eager", "--", PYTHON, "-c", began_and_ended],
    }
    print("| way | command starts after, s | whole run, s |")
    print("| --- | --- | --- |")
    taken: dict[str, list[tuple[float, float]]] = {row: [] for row in rows}
    for _ in range(rounds):
        for row, command in rows.items():
            began = time.time()
            run = subprocess.run(
                command, env=clean_environment(), capture_output=True, text=True, check=True
            )
            taken[row].append((float(run.stdout.split()[0]) - began, time.time() - began))
    for row, times in taken.items():
        start, whole = (statistics.median(part) for part in zip(*times, strict=True))
        print(f"| {row} | {start:.2f} | {whole:.2f} |", flush=True)


SECURED = """
import sys, tempfile, time
from pathlib import Path

began = time.perf_counter()
import dask
from distributed import Client, LocalCluster

def main():
    more = {}
    if sys.argv[1] == "tls":
        from dask_claim.providers import tls
        folder = Path(tempfile.mkdtemp())
        tls.make_keys(folder)
        dask.config.refresh(env=tls.in_folder(folder, *tls.ROLES))
        more = {"protocol": "tls://"}
    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None, host="127.0.0.1",
                      **more) as cluster, Client(cluster) as client:
        assert client.submit(sum, [20, 22]).result() == 42
        first = time.perf_counter() - began
        import numpy
        one, other = client.scheduler_info()["workers"]
        array = client.submit(numpy.ones, 50_000_000, workers=[one])
        client.submit(len, [array]).result()
        began_move = time.perf_counter()
        client.submit(numpy.sum, array, workers=[other]).result()
        moved = time.perf_counter() - began_move
        began_gather = time.perf_counter()
        array.result()
        gathered = time.perf_counter() - began_gather
    print(first, moved, gathered)

if __name__ == "__main__":
    main()
"""


def secured(rounds: int) -> None:
    """Print what the same cluster takes with and without TLS, and the median of the differences."""
    taken: dict[str, list[list[float]]] = {"plain": [], "tls": []}
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder, "secured.py")
        script.write_text(SECURED)
        for turn in range(rounds):
            # Whoever comes second finds warm files.
            for way in sorted(taken, reverse=turn % 2 == 1):
                run = subprocess.run(
                    [PYTHON, script, way],
                    env=clean_environment(TMPDIR=folder),
                    capture_output=True,
                    text=True,
                    check=True,
                )
                taken[way].append([float(part) for part in run.stdout.split()])
    print("| way | first result, s | 400 MB to another worker, s | 400 MB to the client, s |")
    print("| --- | --- | --- | --- |")
    for way, rows in taken.items():
        _row(way, rows)
    pairs = zip(taken["tls"], taken["plain"], strict=True)
    _row("difference", [[a - b for a, b in zip(*pair, strict=True)] for pair in pairs])


def _row(name: str, rows: list[list[float]]) -> None:
    cells = (f"{statistics.median(part):.2f}" for part in zip(*rows, strict=True))
    print(f"| {name} | {' | '.join(cells)} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--table", choices=["memory", "split", "launch", "tls"], action="append")
    parser.add_argument("--one", nargs=4, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        workload, workers, threads, allocator = arguments.one
        one(workload, int(workers), int(threads), allocator)
        return
    from dask.system import cpu_count
    from distributed.deploy.utils import nprocesses_nthreads

    cores = cpu_count()
    tables = arguments.table or ["memory", "split", "launch", "tls"]
    if "memory" in tables:
        works = ("arrays", "large_arrays", "dataframes", "tasks")
        compare([(w, 1, cores, a) for w in works for a in ALLOCATORS], arguments.rounds)
    if "split" in tables:
        splits = [(1, cores), nprocesses_nthreads(cores)]
        compare([(w, *s, "Dask's") for w in ("gil", "arrays") for s in splits], arguments.rounds)
    if "launch" in tables:
        launching(arguments.rounds)
    if "tls" in tables:
        secured(arguments.rounds)


if __name__ == "__main__":
    sys.exit(main())
