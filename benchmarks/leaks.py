"""What is left of runs that end badly: `python -m benchmarks.leaks [--runs N] [ROW …]`.

Each row starts launchers against one real gateway on this machine, ends them in its own way, and
counts the clusters and processes that are left after the lease's timeout and ten seconds; where the
gateway's answers are late, after 40 seconds more, for a cluster whose name nobody has heard is only
ended once it is clear that nobody holds it. Exits with status 1 where anything is left, or where a
run of the row `many` fails.
"""

from __future__ import annotations

import argparse
import os
import random
import re
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from benchmarks.many import Outcome, many
from tests.support.gateway import REFERENCE, VARIABLES, GatewayServer
from tests.support.launcher import PYTHON, Launcher, Running, processes_with, wait_for
from tests.support.proxy import Proxy
from tests.support.scenes import end_all, leases

LEASE_TIMEOUT = 10.0
LATEST = 8.0

# As a small program: it computes, works on its own side, and would go on for longer than any run.
PROGRAM = (
    "import time\nfrom distributed import Client\n"
    "client = Client()\nclient.submit(sum, [20, 22]).result()\ntime.sleep(300)\n"
)

# The same from Python, without the launcher around it.
CONNECT = "import dask_claim, time\nwith dask_claim.connect() as client:\n    time.sleep(300)\n"
RUN = "import dask_claim\ndask_claim.run(['sleep', '300'], grace=2)\n"
DELAY = 3.0
"""Seconds by which the gateway's answers to those two are delayed at most."""

IDLE = 60.0 + 60.0
"""Seconds after which a scheduler that nobody uses ends, and until its gateway has seen it."""

LATER = 40.0
"""Seconds more that a guard may need which has to find a cluster whose name was never told."""


End = Callable[[Running, Launcher, GatewayServer], None]


class Way(NamedTuple):
    """A way in which runs end."""

    name: str
    end: End
    program: str | None = None
    """A program that calls the library; None: the launcher with `PROGRAM`."""
    options: str = REFERENCE
    """The gateway's."""


def phase(log: str) -> str:
    """How far a launcher has come, by its log."""
    names = {"Running ": "running", "is requested": "starting", "Claiming": "requesting"}
    return next((name for words, name in names.items() if words in log), "beginning")


class Bench:
    """Launchers against one gateway, some at a time."""

    def __init__(self, at_once: int) -> None:
        self._at_once = at_once
        self._folder = Path(tempfile.mkdtemp(prefix="leaks-"))

    def row(self, way: Way, runs: int) -> Outcome:
        """`runs` launchers, or programs, ended at a random moment of their first `LATEST` s."""
        outcome = Outcome(way.name, runs)
        server = GatewayServer(way.options)
        with Proxy(server, DELAY) as proxy:
            self._row(way, outcome, server, proxy)
        return outcome

    def _row(self, way: Way, outcome: Outcome, server: GatewayServer, proxy: Proxy) -> None:
        try:
            with ThreadPoolExecutor(self._at_once) as pool:
                ended = [
                    pool.submit(self._one, way, outcome, server, proxy, f"{way.name}-{number}")
                    for number in range(outcome.runs)
                ]
            for run in ended:
                if error := run.exception():
                    outcome.failed += 1
                    print(f"{way.name}: {error}", flush=True)
            # A cluster whose name no launcher has learned is found here.
            more = 0 if way.options is REFERENCE else IDLE
            deadline = time.monotonic() + LEASE_TIMEOUT + 10 + more
            while server.clusters() and time.monotonic() < deadline:
                time.sleep(0.2)
            outcome.clusters = len(server.clusters())
            outcome.processes += len([pid for pid in server.processes() if alive(pid, server)])
        finally:
            server.stop()

    def _one(
        self, way: Way, outcome: Outcome, server: GatewayServer, proxy: Proxy, name: str
    ) -> None:
        folder = self._folder / re.sub(r"\W", "-", name)
        folder.mkdir()
        launcher = Launcher(folder)
        claim = {
            "gateway_url": server.url, "min_workers": 0, "max_workers": 1,
            "lease_timeout": LEASE_TIMEOUT,
        }  # fmt: skip
        if way.program is None:
            run = launcher.start(PYTHON, "-c", PROGRAM, claim=claim, flags=("--grace", "2"))
        else:
            run = launcher.program(way.program, claim=proxy.claim(lease_timeout=LEASE_TIMEOUT))
        moment = random.uniform(0, LATEST)
        time.sleep(moment)
        outcome.moments[phase(run.err)] += 1
        ended = time.monotonic()
        way.end(run, launcher, server)
        run.process.stdout.close()

        def left() -> tuple[list[str], list[int]]:
            # A run that was ended before it knew the name of its cluster is found at the end.
            found = re.search(r"Cluster (\w+) is requested", run.err)
            mine = [found.group(1)] if found and found.group(1) in server.clusters() else []
            return mine, processes_with(launcher.marker)

        deadline = time.monotonic() + LEASE_TIMEOUT + 10 + (LATER if way.program else 0)
        while any(left()) and time.monotonic() < deadline:
            time.sleep(0.2)
        outcome.slowest = max(outcome.slowest, time.monotonic() - ended)
        processes = len(left()[1])
        if any(left()):
            print(f"{name}, ended after {moment:.2f} s, has left {left()}:\n{run.err}", flush=True)
        outcome.processes += processes
        run.process.poll()
        launcher.end()


def alive(pid: int, server: GatewayServer) -> bool:
    """Whether a process belongs to a cluster; the gateway's own proxy does not."""
    try:
        return "clusters" in os.readlink(f"/proc/{pid}/cwd")[len(str(server.folder)) :]
    except OSError:
        return False


def killed(run: Running, launcher: Launcher, server: GatewayServer) -> None:
    run.process.kill()
    run.process.wait()


def interrupted(run: Running, launcher: Launcher, server: GatewayServer) -> None:
    run.process.send_signal(signal.SIGINT)
    run.process.wait(120)


def until_held(run: Running, server: GatewayServer) -> str:
    """Wait for the lease, without which nobody outside the container would know; the cluster."""
    name = run.until(r"Cluster (\w+) is requested").group(1)
    run.until("Running ")
    wait_for(lambda: "up (" in run.err or leases(server).get(name) == "live", "lease", 60)
    return name


def all_killed(run: Running, launcher: Launcher, server: GatewayServer) -> None:
    until_held(run, server)
    end_all(launcher)
    run.process.wait()


def container_killed(run: Running, launcher: Launcher, server: GatewayServer) -> None:
    """The whole container, at any moment: also before there is a lease."""
    end_all(launcher)
    run.process.wait()


def terminated(run: Running, launcher: Launcher, server: GatewayServer) -> None:
    run.process.send_signal(signal.SIGTERM)
    run.process.wait(120)


def stopped(run: Running, launcher: Launcher, server: GatewayServer) -> None:
    """Nobody is told, and only the missing renewals show it."""
    name = until_held(run, server)
    run.process.send_signal(signal.SIGSTOP)
    try:
        wait_for(lambda: name not in server.clusters(), "end of a stopped run", LEASE_TIMEOUT + 10)
    finally:
        run.process.kill()
        run.process.wait()


ENDS = {"SIGTERM": terminated, "SIGINT": interrupted, "SIGKILL": killed}
WAYS = {
    "SIGKILL": Way("SIGKILL of the launcher", killed),
    "SIGTERM": Way("SIGTERM to the launcher", terminated),
    "container": Way("SIGKILL of launcher, guard and command, once leased", all_killed),
    "container-early": Way(
        "SIGKILL of launcher, guard and command, also before the lease",
        container_killed, None, VARIABLES,
    ),
    "SIGSTOP": Way("SIGSTOP of the launcher, once leased", stopped),
} | {
    f"{name}-{signum}": Way(f"{signum} of a program in {name}()", end, code)
    for name, code in (("connect", CONNECT), ("run", RUN))
    for signum, end in ENDS.items()
}  # fmt: skip
ROWS = (*WAYS, "many")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=100)
    parser.add_argument("--at-once", type=int, default=4)
    parser.add_argument("rows", nargs="*", metavar="ROW", help=", ".join(ROWS))
    arguments = parser.parse_args()
    rows = arguments.rows or ROWS
    if unknown := set(rows) - set(ROWS):
        parser.error(f"no such row: {', '.join(sorted(unknown))}")
    bench, runs = Bench(arguments.at_once), arguments.runs
    outcomes = []
    for row in rows:
        outcome = many(runs) if row == "many" else bench.row(WAYS[row], runs)
        if outcome.moments:
            print(f"{outcome.name}: ended while {dict(outcome.moments)}", flush=True)
        outcomes.append(outcome)
        print(outcome.row(), flush=True)
    print(f"\n{os.cpu_count()} cores, Python {sys.version.split()[0]}, lease_timeout "
          f"{LEASE_TIMEOUT:g} s\n")  # fmt: skip
    print("| ended by, 0–8 s after the start | runs | clusters left | processes left | slowest s |")
    print("| --- | ---: | ---: | ---: | ---: |")
    print("\n".join(outcome.row() for outcome in outcomes))
    return 1 if any(outcome.leaks for outcome in outcomes) else 0


if __name__ == "__main__":
    sys.exit(main())
