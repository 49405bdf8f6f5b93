"""Many runs that share clusters by a few keys, some of them ended badly: what holds all the same.

A seed decides what each run does and what befalls it, one after the other; several are under way
at a time, so what they meet differs from one time to the next.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from tests.support.gateway import PERSISTENT, REFERENCE, VARIABLES, Dask, GatewayServer
from tests.support.launcher import PYTHON, Launcher, Run, Running, wait_for
from tests.support.scenes import end_all, guards, processes_of

FATES = {"": 12, "term": 2, "kill": 2, "guard": 2, "container": 2, "scheduler": 2, "gateway": 1}
"""What befalls a run → how often. `term`, `kill`: of the launcher; `guard`: its guard is killed;
`container`: all its processes are, once its command runs; `scheduler`: its cluster's is; `gateway`:
that is killed and started again."""

LONG = {**FATES, "birth": 2}
"""`birth`: all its processes are killed at any time. A cluster that nobody has a lease on ends by
its scheduler's idle timeout, after a minute."""

READY: dict[str, Callable[[dict[str, Any]], Any]] = {
    "scheduler": lambda receipt: receipt.get("cluster_name"),
    "container": lambda receipt: receipt.get("state") == "running",
}
"""What a run's receipt says before this befalls it."""

KEYS = {"first": 10, "second": 3, "third": 2, "fourth": 1, "fifth": 1}
"""Key → how often: of the first there are nearly always several runs at a time."""

KEEP = 3
RECONNECT = 15
AT_ONCE = 5
LATEST = 8.0
"""Seconds after its start within which something happens to a run."""

FIRST = 3
SETTLED = 60.0
"""Seconds after which two clusters for one key and request are more than a tie."""

PATIENCE = 300.0
LOST = 9
"""The program's status where its cluster is gone."""

REASONS = ("cluster_lost", "cluster_failed")

# Prints the sum of squares. A gateway that is started again breaks all connections: then once more,
# until it says that the cluster is gone.
PROGRAM = f"""
import sys, time
from distributed import Client

def square(number, seconds):
    time.sleep(seconds)
    return number * number

count, seconds, status = int(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3])
until = time.monotonic() + 90
while time.monotonic() < until:
    try:
        with Client(timeout=10) as client:
            numbers = client.map(square, range(count), [seconds] * count, pure=False)
            total = sum(client.gather(numbers))
    except BaseException as error:
        print(repr(error), file=sys.stderr)
        if "cannot be used" in str(error):
            break
        time.sleep(1)
    else:
        print(total)
        sys.exit(status)
sys.exit({LOST})
"""


@dataclass(frozen=True)
class Step:
    """One run, and what befalls it."""

    number: int
    key: str
    request: str
    tasks: int
    seconds: float
    status: int
    fate: str
    moment: float

    @classmethod
    def all_of(cls, seed: int, fates: dict[str, int]) -> Iterator[Step]:
        """What happens for a seed, without an end; it begins with three that only share."""
        for number in range(FIRST):
            yield cls(number, "first", "plain", 10, 1.0, 0, "", 0.0)
        draw = random.Random(seed)
        for number in itertools.count(FIRST):
            yield cls(
                number,
                key=draw.choices([*KEYS], weights=[*KEYS.values()])[0],
                # One of eight asks for what cannot be had on the same cluster.
                request=draw.choice(["plain"] * 7 + ["other"]),
                tasks=draw.randrange(1, 12),
                seconds=draw.choice([0.0, 0.3, 0.8, 1.5]),
                status=draw.choice([0, 0, 0, 3, 7]),
                fate=draw.choices([*fates], weights=[*fates.values()])[0],
                moment=draw.uniform(0, LATEST) * draw.choice([0.2, 1.0]),
            )

    @property
    def result(self) -> bytes:
        return b"%d\n" % sum(number * number for number in range(self.tasks))

    @property
    def one_cluster(self) -> tuple[str, str]:
        """Runs with the same of these use one cluster at a time."""
        return self.key, self.request


@dataclass(frozen=True)
class Use:
    """When a run's command has used which cluster; times of this machine's clock."""

    step: Step
    cluster: str
    claimed: float
    began: float
    ended: float


@dataclass
class Stress:
    """Runs against one gateway; `problems` are what must not be."""

    folder: Path
    seed: int
    dask: Dask
    fates: dict[str, int] = field(default_factory=lambda: FATES)
    marked: bool = True
    """Whether the gateway takes variables, so that a request says what it shares."""

    problems: list[str] = field(default_factory=list)
    happened: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        options = (VARIABLES if self.marked else REFERENCE) + PERSISTENT
        self._server = GatewayServer(options=options, dask=self.dask)
        self._lock, self._steps = threading.Lock(), Step.all_of(self.seed, self.fates)
        self._gateway, self._over = threading.Lock(), threading.Event()
        self._away: list[tuple[float, float]] = []
        self._killed: dict[str, float] = {}
        self._uses: list[Use] = []

    def run(self, seconds: float) -> None:
        """Begin runs for so long, and return when all have ended and nothing may be left."""
        looking = threading.Thread(target=self._look_for_twins)
        looking.start()
        try:
            with ThreadPoolExecutor(AT_ONCE) as pool:
                until = time.monotonic() + seconds
                for done in [pool.submit(self._steps_until, until) for _ in range(AT_ONCE)]:
                    done.result()
                self._check_uses()
                # The gateway ends with the thread that has started it again.
                self._check_end()
        finally:
            self._over.set()
            looking.join()
            self._server.stop()

    def _problem(self, text: str) -> None:
        with self._lock:
            self.problems.append(text)
            print(text, flush=True)

    def _steps_until(self, until: float) -> None:
        while time.monotonic() < until and not self.problems:
            with self._lock:
                step = next(self._steps)
                self.happened[step.fate or "undisturbed"] += 1
            try:
                self._take(step)
            except Exception as error:
                self._problem(f"{step}: {error!r}")

    # One run

    def _take(self, step: Step, attempt: int = 0) -> None:
        folder = self.folder / f"{step.number}-{attempt}"
        folder.mkdir()
        launcher = Launcher(folder)
        other: dict[str, Any] = {"environment": {"WHICH": "other"}}
        other = other if self.marked else {"worker_memory": "2 G"}
        claim = {
            "gateway_url": self._server.url, "min_workers": 1, "max_workers": 2,
            "keep": KEEP, "reconnect_timeout": RECONNECT,
            **(other if step.request == "other" else {}),
        }  # fmt: skip
        words = str(step.tasks), str(step.seconds), str(step.status)
        env = {"DASK_CLAIM_SHARE": step.key}
        began = time.time()
        run = launcher.start(PYTHON, "-c", PROGRAM, *words, claim=claim, env=env)
        ended_by_us = None if attempt else self._befall(step, run, launcher)
        ended = run.finish(PATIENCE)
        self._note_use(step, ended, ended_by_us or time.time())
        verdict = self._judge(step, ended, ended_by_us is not None, began)
        with self._lock:
            self.happened[verdict] += 1
            self.happened["joined"] += bool(
                ((ended.receipt or {}).get("shared") or {}).get("joined")
            )
        if verdict == "wrong":
            self._problem(f"{step}, attempt {attempt}: {_shown(ended)}")
        launcher.end(PATIENCE)
        if verdict == "lost its cluster":
            if attempt == 4:
                self._problem(f"{step} has lost its cluster {attempt + 1} times")
            else:
                self._take(step, attempt + 1)

    def _befall(self, step: Step, run: Running, launcher: Launcher) -> float | None:
        """Do what is to happen; return when the run itself was ended, if it was."""
        if ready := READY.get(step.fate):

            def is_ready() -> bool:
                return run.process.poll() is not None or bool(ready(run.receipt() or {}))

            wait_for(is_ready, f"moment for {step.fate}", PATIENCE)
        if not step.fate or self._ended_before(run, step.moment):
            return None
        now = time.time()
        if step.fate == "gateway":
            self._restart_gateway()
        elif step.fate == "scheduler":
            self._kill_scheduler((run.receipt() or {}).get("cluster_name"))
        elif step.fate == "guard":
            for pid in guards(launcher):
                _kill(pid)
        else:
            if step.fate in ("container", "birth"):
                end_all(launcher)
            run.process.send_signal(signal.SIGTERM if step.fate == "term" else signal.SIGKILL)
            return now
        return None

    @staticmethod
    def _ended_before(run: Running, moment: float) -> bool:
        until = time.monotonic() + moment
        while time.monotonic() < until and run.process.poll() is None:
            time.sleep(0.02)
        return run.process.poll() is not None

    def _kill_scheduler(self, cluster: str | None) -> None:
        for pid in processes_of(self._server, "scheduler"):
            if cluster is not None and cluster in _working_folder(pid):
                self._killed.setdefault(cluster, time.time())
                _kill(pid)

    def _restart_gateway(self) -> None:
        with self._gateway:
            began = time.time()
            self._away.append((began, began + PATIENCE))
            self._server.kill()
            self._server.restart()
            # What was cut meanwhile may need some time to be itself again.
            self._away[-1] = began, time.time() + RECONNECT

    # What must be

    def _judge(self, step: Step, ended: Run, by_us: bool, began: float) -> str:
        """Return a word for how a run has ended."""
        if (ended.status, ended.out) == (step.status, step.result):
            return "ended well"
        # Python itself is ended by a SIGTERM before the launcher can catch it.
        if by_us and ended.status in (128 + signal.SIGTERM, -signal.SIGTERM, -signal.SIGKILL):
            return "was ended"
        receipt = ended.receipt or {}
        cluster, reason = receipt.get("cluster_name"), receipt.get("reason")
        disturbed = cluster in self._killed or self._was_away(began, time.time())
        if disturbed and ended.status in (75, LOST) and reason in REASONS:
            return "lost its cluster"
        return "wrong"

    def _was_away(self, began: float, ended: float) -> bool:
        """Whether the gateway was away at a time between these."""
        return any(start < ended and began < end for start, end in self._away)

    def _note_use(self, step: Step, ended: Run, until: float) -> None:
        receipt = ended.receipt or {}
        times = {name: _seconds(at) for name, at in (receipt.get("timeline") or {}).items()}
        if (cluster := receipt.get("cluster_name")) and (began := times.get("command_start")):
            until = min(times.get("command_end") or until, until)
            with self._lock:
                self._uses.append(Use(step, cluster, times["claimed"] or began, began, until))

    def _check_uses(self) -> None:
        """Whether commands with one key and request, at one time, have used one cluster."""
        for one, other in itertools.combinations(self._uses, 2):
            began, ended = max(one.began, other.began), min(one.ended, other.ended)
            if (
                one.step.one_cluster != other.step.one_cluster
                or one.cluster == other.cluster
                or began >= ended
                or any(self._killed.get(use.cluster, ended) < ended for use in (one, other))
                or self._was_away(min(one.claimed, other.claimed), ended)
            ):
                continue
            text = f"used two clusters at one time:\n{one}\n{other}"
            if self.marked:
                self._problem(text)
            else:
                # Without a mark only a lease tells, and one that is late is not waited for.
                self.happened["two clusters at one time"] += 1
                print(text, flush=True)

    def _look_for_twins(self) -> None:
        """Note where two clusters for one key and request stay, side by side."""
        since: dict[frozenset[str], float] = {}
        while not self._over.wait(1.0):
            try:
                clusters = asyncio.run(_shared_clusters(self._server))
            except Exception:
                since.clear()  # the gateway is away
                continue
            pairs = {
                frozenset(pair)
                for names in clusters.values()
                for pair in itertools.combinations(sorted(set(names) - set(self._killed)), 2)
            }
            since = {pair: since.get(pair, time.monotonic()) for pair in pairs}
            for pair, began in since.items():
                if time.monotonic() - began > SETTLED:
                    self._problem(f"two clusters for one key and request stay: {sorted(pair)}")
                    return

    def _check_end(self) -> None:
        server = self._server

        def left() -> list[int]:
            return [pid for pid in server.processes() if "/clusters/" in _working_folder(pid)]

        try:
            wait_for(lambda: not server.clusters(), "end of all clusters", PATIENCE)
            wait_for(lambda: not left(), "end of their processes", PATIENCE)
        except AssertionError as error:
            self._problem(f"{error}: {server.clusters()}, {left()}")


def _shown(run: Run) -> str:
    names = "cluster_name", "timeline", "shared", "reason", "error", "gone", "tickets"
    receipt = {name: (run.receipt or {}).get(name) for name in names}
    return f"status {run.status}, {run.out!r}\n{run.err}\n{receipt}"


async def _shared_clusters(server: GatewayServer) -> dict[str, list[str]]:
    """Return the pending and running clusters, by what follows the run in their marks."""
    from dask_gateway import Gateway
    from dask_gateway.auth import BasicAuth

    found: dict[str, list[str]] = {}
    auth = BasicAuth(username="tester", password="")
    async with Gateway(server.private_url, auth=auth, asynchronous=True) as gateway:
        for report in await gateway.list_clusters(status=["PENDING", "RUNNING"]):
            if mark := report.options.get("environment", {}).get("CLAIMED_BY_RUN"):
                found.setdefault(mark.split(":", 3)[3], []).append(report.name)
    return found


def _working_folder(pid: int) -> str:
    try:
        return os.readlink(f"/proc/{pid}/cwd")
    except OSError:
        return ""


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def _seconds(at: Any) -> float | None:
    return datetime.fromisoformat(at).timestamp() if at else None
