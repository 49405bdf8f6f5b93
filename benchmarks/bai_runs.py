"""Programs run and measured, each in a process of its own, on workers as fresh as itself."""

from __future__ import annotations

import logging
import os
import resource
import statistics
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from distributed import LocalCluster

from tests.support.gateway import clean_environment
from tests.support.launcher import DASK_CLAIM, PYTHON

#: What a program sees. Taken before the first cluster: Dask's nanny leaves its workers' malloc
#: settings in this process, and they make numpy twice as slow.
ENVIRONMENT = clean_environment()
#: What the reference deployment gives a worker.
WORKER_MEMORY = "4 GB"
#: Seconds between two looks at a process's memory.
EVERY = 0.05


class Run(NamedTuple):
    """What one run of a program took."""

    seconds: float
    """Wall time of the process."""
    cpu: float
    """Processor seconds of the process, its children and the workers: unlike the wall time, these
    hardly change when others use the machine, too."""
    client: float
    """Its peak memory, MB; 0 where it is not known."""
    worker: float
    """The largest peak among the workers, MB; 0 where there are none."""

    @property
    def columns(self) -> str:
        """All of it, as columns of a table."""
        peaks = " | ".join(f"{peak:.0f}" if peak else "–" for peak in (self.client, self.worker))
        return f"{self.seconds:.1f} | {self.cpu:.1f} | {peaks}"


def cpu_seconds(pid: int) -> float:
    """The processor seconds that a process has used; 0 if it has ended."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def children_seconds() -> float:
    """The processor seconds of the children that have ended, and of theirs."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def median(runs: Sequence[Run]) -> Run:
    """The median of each figure."""
    return Run(*(statistics.median(figure) for figure in zip(*runs, strict=True)))


def peak_megabytes(pid: int) -> float:
    """The largest resident memory that a process has had; 0 if it has ended."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0.0
    return sum(int(line.split()[1]) for line in status.splitlines() if "VmHWM" in line) / 1024


def measure(command: list[str], workers: Sequence[int] = (), **env: str) -> Run:
    """Run a program to its end.

    Args:
        command: the program and its arguments.
        workers: process ids of the workers that compute for it.
        env: variables that it sees besides the common ones.

    Raises:
        SystemExit: it failed; with what it said.
    """
    ended = threading.Event()
    client = 0.0
    before = children_seconds() + sum(map(cpu_seconds, workers))
    began = time.perf_counter()
    process = subprocess.Popen(
        command,
        env={**ENVIRONMENT, **env},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )

    # Not the kernel's account of an ended child: it counts the parent's memory at the fork, too.
    def watch() -> None:
        nonlocal client
        while not ended.wait(EVERY):
            client = max(client, peak_megabytes(process.pid))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        said, _ = process.communicate()
        seconds = time.perf_counter() - began
    finally:
        process.kill()
        ended.set()
        watcher.join()
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} failed ({process.returncode}):\n{said}")
    after = children_seconds() + sum(map(cpu_seconds, workers))
    worker = max(map(peak_megabytes, workers), default=0.0)
    return Run(seconds, after - before, client, worker)


@contextmanager
def two_workers() -> Iterator[tuple[str, list[int]]]:
    """A local cluster of two workers with one thread each: its address, and their process ids."""
    with LocalCluster(
        n_workers=2,
        threads_per_worker=1,
        memory_limit=WORKER_MEMORY,
        dashboard_address="127.0.0.1:0",
        silence_logs=logging.CRITICAL,  # of workers that see their scheduler go
    ) as cluster:
        yield cluster.scheduler_address, [worker.pid for worker in cluster.workers.values()]


def on_cluster(command: list[str]) -> Run:
    """Run a program that finds its ready cluster by DASK_SCHEDULER_ADDRESS."""
    with two_workers() as (address, workers):
        return measure(command, workers, DASK_SCHEDULER_ADDRESS=address)


def module(name: str, *arguments: object) -> list[str]:
    """The command `python -m NAME …`."""
    return [PYTHON, "-m", name, *map(str, arguments)]


def example(pre: object, post: object, folder: Path) -> list[str]:
    """The command of `bai_example`."""
    items = ("--pre-event", pre, "--post-event", post)
    return module("bai_example", *items, "--output-dir", folder)


def claimed(command: list[str]) -> list[str]:
    """The same command with a cluster of its own, claimed and given back."""
    size = ["--worker-cores", "1", "--min-workers", "2", "--max-workers", "2"]
    return [DASK_CLAIM, "-q", "--provider", "local", *size, "--start", "workers", "--", *command]
