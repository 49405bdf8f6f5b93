"""Many launchers at once against a gateway that allows few clusters: the row `many` of `leaks`."""

from __future__ import annotations

import re
import statistics
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from tests.support.gateway import LIMITED, REFERENCE, GatewayServer
from tests.support.launcher import PYTHON, Launcher, processes_with, wait_for

PLACES = 5
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
