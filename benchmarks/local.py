"""What a local cluster costs: `python -m benchmarks.local` prints two tables.

1. From the start of the launcher until the command runs, and until its first result.
2. What TLS with keys of this run costs: until the first result, its keys included, and to move
   arrays between workers and to the client.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

from tests.support.gateway import clean_environment
from tests.support.launcher import DASK_CLAIM, ONE_TASK, PYTHON


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


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--table", choices=["launch", "tls"], action="append")
    arguments = parser.parse_args()
    tables = arguments.table or ["launch", "tls"]
    if "launch" in tables:
        launching(arguments.rounds)
    if "tls" in tables:
        secured(arguments.rounds)
