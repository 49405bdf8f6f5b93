"""Many runs that share clusters by a few keys, while some of all that they use is killed.

A seed, which is printed, decides what each run does and what befalls it; several are under way at a
time, so what they meet differs. SHARE_STRESS_SEED repeats it, SHARE_STRESS_SECONDS is how long runs
begin.
"""

from __future__ import annotations

import itertools
import os
import random
import secrets
import signal
import subprocess
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.support.forking import ForkedDask
from tests.support.gateway import PERSISTENT, VARIABLES, GatewayServer
from tests.support.launcher import PYTHON, Launcher, Run, Running, wait_for
from tests.support.scenes import end_all, guards, processes_of

SECONDS = float(os.environ.get("SHARE_STRESS_SECONDS", "600"))

FATES = {
    "": 12, "term": 2, "kill": 2, "guard": 2, "container": 2, "birth": 2, "scheduler": 2,
    "gateway": 1,
}  # fmt: skip
"""What befalls a run → how often. `term`, `kill`: of the launcher; `guard`: its guard is killed;
`container`: all its processes are, once its command runs; `birth`: at any time, and a cluster that
nobody has a lease on ends by its scheduler's idle timeout, after a minute; `scheduler`: its
cluster's is; `gateway`: that is killed and started again."""

KEYS = {"first": 10, "second": 3, "third": 2, "fourth": 1, "fifth": 1}
"""Key → how often: of the first there are nearly always several runs at a time."""

RECONNECT = 15
AT_ONCE = 5
PATIENCE = 300.0
ATTEMPTS = 5
LOST = 9
"""The program's status where its cluster is gone."""

# Prints the sum of squares. A gateway that is started again breaks all connections: then once more,
# until it says that the cluster is gone.
PROGRAM = f"""
import sys, time
from distributed import Client

def square(number):
    time.sleep(0.5)
    return number * number

until = time.monotonic() + 90
while time.monotonic() < until:
    try:
        with Client(timeout=10) as client:
            numbers = client.map(square, range(int(sys.argv[1])), pure=False)
            total = sum(client.gather(numbers))
    except BaseException as error:
        print(repr(error), file=sys.stderr)
        if "cannot be used" in str(error):
            break
        time.sleep(1)
    else:
        print(total)
        sys.exit(int(sys.argv[2]))
sys.exit({LOST})
"""


class Step(NamedTuple):
    """One run, and what befalls it `moment` seconds after its start."""

    number: int
    key: str
    other: bool
    """Whether it asks for what cannot be had on the same cluster."""

    tasks: int
    status: int
    fate: str
    moment: float

    @classmethod
    def drawn(cls, number: int, draw: random.Random) -> Step:
        return cls(
            number,
            key=draw.choices([*KEYS], weights=[*KEYS.values()])[0],
            other=draw.random() < 1 / 8,
            tasks=draw.randrange(1, 30),
            status=draw.choice([0, 0, 0, 3, 7]),
            fate=draw.choices([*FATES], weights=[*FATES.values()])[0],
            moment=draw.uniform(0, 8) * draw.choice([0.2, 1.0]),
        )


class Use(NamedTuple):
    """When a run's command has used which cluster; times of this machine's clock."""

    shared: tuple[str, bool]
    cluster: str
    claimed: float
    began: float
    ended: float


class Stress:
    """Runs against one gateway; `problems` are what must not be."""

    def __init__(self, folder: Path, seed: int, dask: ForkedDask) -> None:
        self.problems: list[str] = []
        self.happened: Counter[str] = Counter()
        self._server = GatewayServer(options=VARIABLES + PERSISTENT, dask=dask)
        self._folder, draw = folder, random.Random(seed)
        self._steps = (Step.drawn(number, draw) for number in itertools.count())
        self._lock, self._gateway = threading.Lock(), threading.Lock()
        self._away: list[tuple[float, float]] = []
        self._killed: dict[str, float] = {}
        self._uses: list[Use] = []

    def run(self, seconds: float) -> None:
        """Begin runs for so long, and return when all have ended and nothing may be left."""
        try:
            # The gateway ends with the thread that has started it again.
            with ThreadPoolExecutor(AT_ONCE) as pool:
                until = time.monotonic() + seconds
                for done in [pool.submit(self._steps_until, until) for _ in range(AT_ONCE)]:
                    done.result()
                self._check_uses()
                wait_for(lambda: not self._left(), "end of all clusters", PATIENCE)
        finally:
            self._server.stop()

    def _left(self) -> list[Any]:
        server = self._server
        processes = [processes_of(server, role) for role in ("scheduler", "worker")]
        return [*server.clusters(), *itertools.chain(*processes)]

    def _problem(self, text: str) -> None:
        self.problems.append(text)
        print(text, flush=True)

    def _steps_until(self, until: float) -> None:
        while time.monotonic() < until and not self.problems:
            with self._lock:
                step = next(self._steps)
            self.happened.update([step.fate or "undisturbed"])
            try:
                self._take(step)
            except Exception as error:
                self._problem(f"{step}: {error!r}")

    # One run

    def _take(self, step: Step) -> None:
        """Let it run, once more where its cluster was lost; it is disturbed the first time only."""
        claim = {
            "gateway_url": self._server.url, "min_workers": 1, "max_workers": 2, "keep": 3,
            "reconnect_timeout": RECONNECT, "environment": {"WHICH": "other"} if step.other else {},
        }  # fmt: skip
        words, env = (str(step.tasks), str(step.status)), {"DASK_CLAIM_SHARE": step.key}
        for attempt in range(ATTEMPTS):
            (folder := self._folder / f"{step.number}-{attempt}").mkdir()
            launcher, began = Launcher(folder), time.time()
            run = launcher.start(PYTHON, "-c", PROGRAM, *words, claim=claim, env=env)
            ended_by_us = None if attempt else self._befall(step, run, launcher)
            ended = run.finish(PATIENCE)
            receipt = ended.receipt or {}
            self._note_use(step, receipt, ended_by_us or time.time())
            verdict = self._judge(step, ended, ended_by_us is not None, began)
            self.happened.update([verdict])
            self.happened["joined"] += bool((receipt.get("shared") or {}).get("joined"))
            if verdict == "wrong":
                self._problem(f"{step}, attempt {attempt}: {ended}")
            launcher.end(PATIENCE)
            if verdict != "lost its cluster":
                return
        self._problem(f"{step} has lost its cluster {ATTEMPTS} times")

    def _befall(self, step: Step, run: Running, launcher: Launcher) -> float | None:
        """Do what is to happen; return when the run itself was ended, if it was."""

        def is_ready() -> bool:
            receipt = run.receipt() or {}
            ready = {
                "scheduler": receipt.get("cluster_name"),
                "container": receipt.get("state") == "running",
            }
            return run.process.poll() is not None or bool(ready.get(step.fate, True))

        wait_for(is_ready, f"moment for {step.fate}", PATIENCE)
        with suppress(subprocess.TimeoutExpired):
            run.process.wait(step.moment)
        if not step.fate or run.process.poll() is not None:
            return None
        if step.fate == "gateway":
            self._restart_gateway()
        elif step.fate == "scheduler":
            self._kill_scheduler((run.receipt() or {}).get("cluster_name"))
        elif step.fate == "guard":
            for pid in guards(launcher):
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        else:
            now = time.time()
            if step.fate in ("container", "birth"):
                end_all(launcher)
            run.process.send_signal(signal.SIGTERM if step.fate == "term" else signal.SIGKILL)
            return now
        return None

    def _kill_scheduler(self, cluster: str | None) -> None:
        for pid in processes_of(self._server, "scheduler"):
            with suppress(OSError):
                if cluster is not None and cluster in os.readlink(f"/proc/{pid}/cwd"):
                    self._killed.setdefault(cluster, time.time())
                    os.kill(pid, signal.SIGKILL)

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
        result = sum(number * number for number in range(step.tasks))
        if (ended.status, ended.out) == (step.status, b"%d\n" % result):
            return "ended well"
        # Python itself is ended by a SIGTERM before the launcher can catch it.
        if by_us and ended.status in (128 + signal.SIGTERM, -signal.SIGTERM, -signal.SIGKILL):
            return "was ended"
        receipt = ended.receipt or {}
        disturbed = receipt.get("cluster_name") in self._killed
        lost = receipt.get("reason") in ("cluster_lost", "cluster_failed")
        if (disturbed or self._was_away(began, time.time())) and lost:
            return "lost its cluster" if ended.status in (75, LOST) else "wrong"
        return "wrong"

    def _was_away(self, began: float, ended: float) -> bool:
        """Whether the gateway was away at a time between these."""
        return any(start < ended and began < end for start, end in self._away)

    def _note_use(self, step: Step, receipt: dict[str, Any], until: float) -> None:
        times = {
            name: datetime.fromisoformat(at).timestamp() if at else None
            for name, at in (receipt.get("timeline") or {}).items()
        }
        if (cluster := receipt.get("cluster_name")) and (began := times.get("command_start")):
            until = min(times.get("command_end") or until, until)
            shared = step.key, step.other
            self._uses.append(Use(shared, cluster, times["claimed"] or began, began, until))

    def _check_uses(self) -> None:
        """Commands with one key and request, at one time, have used one cluster."""
        for one, other in itertools.combinations(self._uses, 2):
            began, ended = max(one.began, other.began), min(one.ended, other.ended)
            if (
                one.shared == other.shared
                and one.cluster != other.cluster
                and began < ended
                and all(self._killed.get(use.cluster, ended) >= ended for use in (one, other))
                and not self._was_away(min(one.claimed, other.claimed), ended)
            ):
                self._problem(f"used two clusters at one time:\n{one}\n{other}")


@pytest.mark.deep
def test_runs_that_share_through_all_that_is_killed(
    tmp_path: Path, forked_dask: ForkedDask
) -> None:
    """Those that are not killed end with their own status; one cluster at a time; none is left."""
    seed = int(os.environ.get("SHARE_STRESS_SEED") or secrets.randbelow(10**6))
    print(f"SHARE_STRESS_SEED={seed}", flush=True)
    stress = Stress(tmp_path, seed, forked_dask)
    stress.run(SECONDS)
    print(dict(stress.happened))
    assert not stress.problems, f"seed {seed}: " + "\n".join(stress.problems)
    assert stress.happened["joined"] and stress.happened["ended well"]
