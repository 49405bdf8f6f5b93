"""What claiming costs: `python -m benchmarks.launch` prints the tables of docs/benchmarks.md.

Against one real gateway on this machine, in turn, so that a slow moment meets every row alike:
a script that does by hand what most programs do, the same followed by a look whether the cluster
is really gone, and an unmodified client under the launcher; each also with a program that imports
rioxarray. Times are wall time of the whole process, medians of the rounds.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from tests.support.gateway import GatewayServer, clean_environment
from tests.support.launcher import DASK_CLAIM, ONE_TASK, PYTHON

BY_HAND = """
from dask_gateway import Gateway
gateway = Gateway()
cluster = gateway.new_cluster(worker_memory="1 G")
cluster.adapt(minimum=1, maximum=2)
with cluster.get_client() as client:
    print(client.submit(sum, [20, 22]).result())
name = cluster.name
cluster.shutdown()
"""
VERIFIED = """
import time
while gateway.get_cluster(name).status.name not in ("STOPPED", "FAILED"):
    time.sleep(0.05)
"""
LAUNCHED = [DASK_CLAIM, "-q", "--worker-memory", "1 G", "--max-workers", "2"]


def seconds(command: list[str], env: dict[str, str]) -> float:
    began = time.perf_counter()
    run = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    taken = time.perf_counter() - began
    if run.returncode:
        raise SystemExit(f"{command} failed:\n{run.stderr}")
    return taken


def emptied(gateway: GatewayServer) -> None:
    """What a row leaves behind must not slow the next one down."""
    while gateway.clusters():
        time.sleep(0.05)


def resident_megabytes(gateway: GatewayServer) -> float:
    """The launcher's resident memory while its command runs and the cluster is metered."""
    env = clean_environment(DASK_CLAIM_GATEWAY_URL=gateway.url)
    process = subprocess.Popen(
        [*LAUNCHED, "--start", "workers", "--", "sh", "-c", "echo ready; sleep 6"],
        env=env,
        stdout=subprocess.PIPE,
    )
    assert process.stdout is not None
    process.stdout.readline()
    time.sleep(4)
    status = Path(f"/proc/{process.pid}/status").read_text()
    process.communicate()
    line = next(line for line in status.splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) / 1024


def table(rounds: int) -> None:
    gateway = GatewayServer()
    print(f"{os.cpu_count()} cores, Python {sys.version.split()[0]}, {rounds} rounds, medians\n")
    try:
        compare(gateway, "one task through a gateway", "", rounds)
        compare(gateway, "a program that imports rioxarray", "import rioxarray\n", rounds)
        memory = resident_megabytes(gateway)
    finally:
        gateway.stop()
    print(f"launcher's resident memory while the command runs: {memory:.0f} MB")


def compare(gateway: GatewayServer, title: str, imports: str, rounds: int) -> None:
    """Print the table of the ways to run one program, whose first lines are `imports`."""
    env = clean_environment(DASK_GATEWAY__ADDRESS=gateway.url)
    by_hand, task = imports + BY_HAND, [PYTHON, "-c", imports + ONE_TASK]
    rows: dict[str, Callable[[], float]] = {
        "by hand": lambda: seconds([PYTHON, "-c", by_hand], env),
        "by hand, confirmed gone": lambda: seconds([PYTHON, "-c", by_hand + VERIFIED], env),
        "dask-claim --start ready": lambda: seconds([*LAUNCHED, "--", *task], env),
        "dask-claim --start eager": lambda: seconds(
            [*LAUNCHED, "--start", "eager", "--", *task], env
        ),
    }
    taken: dict[str, list[float]] = {name: [] for name in rows}
    for number in range(rounds + 1):
        for name, row in rows.items():
            spent = row()
            emptied(gateway)
            if number:  # the first round warms the caches
                taken[name].append(spent)
    base = statistics.median(taken["by hand"])
    confirmed = statistics.median(taken["by hand, confirmed gone"])
    print(f"| {title} | seconds | × by hand | × by hand, confirmed gone |")
    print("| --- | ---: | ---: | ---: |")
    for name, times in taken.items():
        median = statistics.median(times)
        print(f"| {name} | {median:.2f} | {median / base:.2f} | {median / confirmed:.2f} |")
    print()


def cheap(rounds: int) -> None:
    env = clean_environment()
    commands = {
        "python -c pass": [PYTHON, "-c", "pass"],
        "python -c 'import dask_claim'": [PYTHON, "-c", "import dask_claim"],
        "dask-claim show": [DASK_CLAIM, "show"],
    }
    taken: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(4 * rounds):
        for name, command in commands.items():
            taken[name].append(seconds(command, env))
    for name, times in taken.items():
        print(f"{name}: {1000 * statistics.median(times):.0f} ms")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args()
    table(arguments.rounds)
    cheap(arguments.rounds)
