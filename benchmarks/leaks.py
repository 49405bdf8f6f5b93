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
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from tests.support.gateway import LIMITED, REFERENCE, VARIABLES, GatewayServer
from tests.support.launcher import PYTHON, Launcher, Running, processes_with, wait_for
from tests.support.proxy import Proxy
from tests.support.scenes import end_all, leases

LEASE_TIMEOUT = 10.0
LATEST = 8.0
PLACES = 5

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

SHORT = "from distributed import Client\nClient(timeout=120)\n"


@dataclass
class Outcome:
    """One row of the table."""

    name: str
    runs: int
    clusters: int = 0
    processes: int = 0
    failed: int = 0
    slowest: float = 0.0
    """Seconds from the end of a launcher until nothing was left of its run."""

    moments: Counter[str] = field(default_factory=Counter)
    """What the launchers were doing when they were ended."""

    @property
    def leaks(self) -> int:
        return self.clusters + self.processes + self.failed

    def row(self) -> str:
        return (
            f"| {self.name} | {self.runs} | {self.clusters} | {self.processes} | "
            f"{self.slowest:.1f} |"
        )


def phase(log: str) -> str:
    """How far a launcher has come, by its log."""
    for words, name in (
        ("Running ", "running"),
        ("is requested", "starting"),
        ("Claiming", "requesting"),
    ):
        if words in log:
            return name
    return "beginning"


class Bench:
    """Launchers against one gateway, some at a time."""

    def __init__(self, at_once: int) -> None:
        self._at_once = at_once
        self._folder = Path(tempfile.mkdtemp(prefix="leaks-"))

    def row(
        self,
        name: str,
        runs: int,
        end: Callable[[Running, Launcher, GatewayServer], None],
        program: str | None = None,
        options: str = REFERENCE,
    ) -> Outcome:
        """`runs` launchers, or programs, ended at a random moment of their first `LATEST` s."""
        outcome = Outcome(name, runs)
        server = GatewayServer(options)
        with Proxy(server, DELAY) as proxy:
            return self._row(outcome, server, proxy, end, program, options)

    def _row(
        self,
        outcome: Outcome,
        server: GatewayServer,
        proxy: Proxy,
        end: Callable[[Running, Launcher, GatewayServer], None],
        program: str | None,
        options: str,
    ) -> Outcome:
        name, runs = outcome.name, outcome.runs
        try:
            with ThreadPoolExecutor(self._at_once) as pool:
                ended = [
                    pool.submit(self._one, outcome, server, proxy, f"{name}-{number}", end, program)
                    for number in range(runs)
                ]
            for run in ended:
                if error := run.exception():
                    outcome.failed += 1
                    print(f"{name}: {error}", flush=True)
            # A cluster whose name no launcher has learned is found here.
            deadline = time.monotonic() + LEASE_TIMEOUT + 10 + (0 if options is REFERENCE else IDLE)
            while server.clusters() and time.monotonic() < deadline:
                time.sleep(0.2)
            outcome.clusters = len(server.clusters())
            outcome.processes += len([pid for pid in server.processes() if alive(pid, server)])
        finally:
            server.stop()
        return outcome

    def _one(
        self,
        outcome: Outcome,
        server: GatewayServer,
        proxy: Proxy,
        name: str,
        end: Callable[[Running, Launcher, GatewayServer], None],
        program: str | None,
    ) -> None:
        folder = self._folder / re.sub(r"\W", "-", name)
        folder.mkdir()
        launcher = Launcher(folder)
        claim = {
            "gateway_url": server.url, "min_workers": 0, "max_workers": 1,
            "lease_timeout": LEASE_TIMEOUT,
        }  # fmt: skip
        if program is None:
            run = launcher.start(PYTHON, "-c", PROGRAM, claim=claim, flags=("--grace", "2"))
        else:
            run = launcher.program(program, claim=proxy.claim(lease_timeout=LEASE_TIMEOUT))
        moment = random.uniform(0, LATEST)
        time.sleep(moment)
        outcome.moments[phase(run.err)] += 1
        ended = time.monotonic()
        end(run, launcher, server)
        run.process.stdout.close()

        def left() -> tuple[list[str], list[int]]:
            # A run that was ended before it knew the name of its cluster is found at the end.
            found = re.search(r"Cluster (\w+) is requested", run.err)
            mine = [found.group(1)] if found and found.group(1) in server.clusters() else []
            return mine, processes_with(launcher.marker)

        deadline = time.monotonic() + LEASE_TIMEOUT + 10 + (LATER if program else 0)
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


def many(runs: int) -> Outcome:
    """All launchers at once, against a gateway that allows their user a few clusters at a time."""
    outcome = Outcome(f"{runs} launchers at once, {PLACES} clusters allowed", runs)
    server = GatewayServer(options=REFERENCE + LIMITED + f"LIMIT = {PLACES}\n")
    folder = Path(tempfile.mkdtemp(prefix="leaks-"))
    launcher = Launcher(folder)
    try:
        began = time.monotonic()
        claim = {"gateway_url": server.url, "min_workers": 0, "max_workers": 1}
        flags = ("--start-timeout", "3000", "--stop-timeout", "60")
        started = [
            launcher.start(PYTHON, "-c", SHORT, claim=claim, flags=flags) for _ in range(runs)
        ]
        for run in started:
            ended = run.finish(3000)
            if ended.status or not ended.receipt or not ended.receipt["gone"]:
                outcome.failed += 1
                print(f"failed with status {ended.status}:\n{ended.err}", flush=True)
        took = time.monotonic() - began
        try:
            wait_for(lambda: not processes_with(launcher.marker), "end of the processes", 20)
        except AssertionError:
            outcome.processes = len(processes_with(launcher.marker))
        outcome.clusters = len(server.clusters())
        print_requests(server.log.read_text(), took, runs - outcome.failed)
    finally:
        launcher.end()
        server.stop()
    return outcome


REQUEST = re.compile(
    r"\[\w (?P<at>\S+ \S+)\.\d+ DaskGateway\]\S* (?P<status>\d{3}) (?P<method>[A-Z]+) "
    r"(?P<path>\S+)"
)


def print_requests(log: str, took: float, finished: int) -> None:
    """Requests of the launchers at the gateway, from its own log; its clusters' are left out."""
    per_second: Counter[datetime] = Counter()
    kinds: Counter[str] = Counter()
    for found in REQUEST.finditer(log):
        path = re.sub(r"/clusters/\w+", "/clusters/NAME", found["path"].partition("?")[0])
        if path.endswith(("/heartbeat", "/routes")):
            continue
        per_second[datetime.fromisoformat(found["at"])] += 1
        refused = " refused (422)" if found["status"] == "422" else ""
        challenge = " without credentials (401)" if found["status"] == "401" else ""
        kinds[f"{found['method']} {path}{refused}{challenge}"] += 1
    total = sum(per_second.values())
    busiest = sorted(per_second.values())
    seconds = (max(per_second) - min(per_second)).total_seconds() or 1
    print(f"\n{finished} finished in {took:.0f} s; {total} requests\n")
    print("| requests per second at the gateway | |\n| --- | ---: |")
    print(f"| peak | {busiest[-1]} |\n| 2nd to 10th | {busiest[-10:-1][::-1]} |")
    print(f"| mean | {total / seconds:.1f} |\n| median | {statistics.median(busiest):.0f} |\n")
    for kind, count in kinds.most_common(12):
        print(f"    {count:6} {kind}")
    print(flush=True)


ENDS = {"SIGTERM": terminated, "SIGINT": interrupted, "SIGKILL": killed}
PROGRAMS = {
    f"{name}-{signum}": (f"{signum} of a program in {name}()", end, code)
    for name, code in (("connect", CONNECT), ("run", RUN))
    for signum, end in ENDS.items()
}
ROWS = ("SIGKILL", "SIGTERM", "container", "container-early", "SIGSTOP", *PROGRAMS, "many")


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
    ways = {
        **PROGRAMS,
        "SIGKILL": ("SIGKILL of the launcher", killed),
        "SIGTERM": ("SIGTERM to the launcher", terminated),
        "container-early": (
            "SIGKILL of launcher, guard and command, also before the lease",
            container_killed,
            None,
            VARIABLES,
        ),
        "container": ("SIGKILL of launcher, guard and command, once leased", all_killed),
        "SIGSTOP": ("SIGSTOP of the launcher, once leased", stopped),
    }
    outcomes = []
    for row in rows:
        outcome = many(runs) if row == "many" else bench.row(ways[row][0], runs, *ways[row][1:])
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
