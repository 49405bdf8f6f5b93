"""Drives the installed `dask-claim` as a user does, and looks at what it leaves."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from tests.support.gateway import clean_environment

if TYPE_CHECKING:
    import pexpect

T = TypeVar("T")

DASK_CLAIM = str(Path(sys.executable).with_name("dask-claim"))
PYTHON = sys.executable

PROMPT = "PROMPT# "

# Seconds for what goes well: a loaded machine takes ten times as long as a quiet one.
PATIENCE = 120.0

# One task through an unmodified client, wherever the cluster is.
ONE_TASK = (
    "from distributed import Client\nwith Client() as c: print(c.submit(sum, [20, 22]).result())"
)

# Where a program of the user's has what the launcher says.
LOGS = "import logging; logging.basicConfig(level=logging.INFO)\n"

# How a program of the user's comes into a run. What it is given are the words of a command.
COMMAND_LINE = "command line"
WAYS = {
    COMMAND_LINE: "",
    "run()": """
import dask_claim, sys
try:
    sys.exit(dask_claim.run(sys.argv[1:]).exit_status)
except dask_claim.DaskClaimError as error:
    print(error, file=sys.stderr)
    sys.exit(error.exit_status)
""",
    "run() in a notebook": """
import asyncio, dask_claim, sys
async def cell():
    return dask_claim.run(sys.argv[1:]).exit_status
sys.exit(asyncio.run(cell()))
""",
    "connect()": """
import dask_claim, subprocess, sys
with dask_claim.connect():
    status = subprocess.call(sys.argv[1:])
sys.exit(status)
""",
}
RUNS = [way for way in WAYS if way != "connect()"]


@dataclass
class Run:
    """A finished run."""

    status: int
    out: bytes
    err: str
    receipt: dict[str, Any] | None

    @property
    def cluster(self) -> str | None:
        found = re.search(r"Cluster (\w+) is requested", self.err)
        return found and found.group(1)


class Running:
    """A run that is under way, its log read as it comes."""

    def __init__(
        self,
        process: subprocess.Popen[bytes],
        log: Path,
        receipt: Path,
        environment: dict[str, str],
    ) -> None:
        self.process = process
        self.environment = environment
        self._log = log
        self._receipt = receipt

    @property
    def err(self) -> str:
        return self._log.read_text(errors="replace")

    def until(self, pattern: str, timeout: float = PATIENCE) -> re.Match[str]:
        """Wait until the log matches `pattern`."""

        def look() -> re.Match[str] | None:
            found = re.search(pattern, self.err)
            if not found and self.process.poll() is not None:
                raise AssertionError(f"ended before {pattern!r}:\n{self.err}")
            return found

        return wait_for(look, f"{pattern!r} in the log", timeout, lambda: self.err)

    def receipt(self) -> Any:
        """The receipt as it is now; None where there is none."""
        return json.loads(self._receipt.read_text()) if self._receipt.exists() else None

    def finish(self, timeout: float = PATIENCE) -> Run:
        try:
            out, _ = self.process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            self.process.send_signal(signal.SIGABRT)  # Python tells where its threads are
            self.process.communicate()
            raise AssertionError(f"not ended within {timeout} s\n{self.err}") from None
        return Run(self.process.returncode, out or b"", self.err, self.receipt())


class Launcher:
    """Starts `dask-claim` with a claim, in an environment that holds nothing else of Dask."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._started: list[Running] = []
        self._terminals: list[pexpect.spawn] = []
        # Whoever inherits it was started by this test, also where it has left its parents.
        self.marker = f"TEST_RUN={uuid.uuid4()}"
        self.variables = dict([self.marker.split("=")])
        """For all that is started."""

        self.way = COMMAND_LINE
        """One of `WAYS`."""

    def start(
        self,
        *command: str,
        flags: tuple[str, ...] = (),
        before: Sequence[str] = (),
        env: dict[str, str] | None = None,
        **more: Any,
    ) -> Running:
        receipt = self._folder / f"run{len(self._started)}.json"
        if self.way == COMMAND_LINE:
            own = [DASK_CLAIM, "--receipt", str(receipt), *flags, "--", *command]
        else:
            own = [PYTHON, "-c", LOGS + WAYS[self.way], *command]
            env = {"DASK_CLAIM_RECEIPT": str(receipt), **(env or {})}
        return self._start([*before, *own], receipt, env=env, **more)

    def program(self, code: str, *words: str, **more: Any) -> Running:
        """A Python program that uses the library, with no launcher around it."""
        return self._start([PYTHON, "-c", LOGS + code, *words], self._folder / "none", **more)

    def terminal(self, *words: str, **variables: str) -> pexpect.spawn:
        """Start a program on a terminal of its own."""
        import pexpect

        env = clean_environment(**{**self.variables, **variables})
        child = pexpect.spawn(
            words[0], list(words[1:]), env=env, echo=False, timeout=PATIENCE, encoding="utf-8"
        )
        child.logfile_read = sys.stdout
        self._terminals.append(child)
        return child

    def shell(self, **variables: str) -> pexpect.spawn:
        """Start an interactive bash on a terminal of its own."""
        bash = self.terminal("bash", "--norc", "--noprofile", "-i", PS1=PROMPT, **variables)
        bash.expect_exact(PROMPT)
        bash.sendline("bind 'set enable-bracketed-paste off'")
        bash.expect_exact(PROMPT)
        return bash

    def _start(
        self,
        arguments: list[str],
        receipt: Path,
        claim: dict[str, Any] | str | None = None,
        env: dict[str, str] | None = None,
        unset: Sequence[str] = (),
        **popen: Any,
    ) -> Running:
        log = self._folder / f"run{len(self._started)}.log"
        environment = clean_environment(
            **{"PYTHONFAULTHANDLER": "1", **self.variables, **(env or {})}
        )
        for name in unset:
            environment.pop(name, None)
        if claim is not None:
            environment["DASK_CLAIM"] = claim if isinstance(claim, str) else json.dumps(claim)
        popen.setdefault("stdin", subprocess.DEVNULL)
        with log.open("wb") as err:
            process = subprocess.Popen(
                arguments, env=environment, stdout=subprocess.PIPE, stderr=err, **popen
            )
        running = Running(process, log, receipt, environment)
        self._started.append(running)
        return running

    def end(self, patience: float = PATIENCE) -> None:
        """End what a failed test has left running; fail where anything else is left."""
        for running in self._started:
            if running.process.poll() is None:
                running.process.kill()
        for terminal in self._terminals:
            terminal.close(force=True)
        try:
            # Guards may have work to do.
            gone = "end of all processes of this test"
            wait_for(lambda: not processes_with(self.marker), gone, patience)
        finally:
            # Those in a container's namespace, too: its first process takes the others along.
            while left := processes_with(self.marker):
                for pid in left:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
                time.sleep(0.05)
            for running in self._started:
                running.process.wait()
                for pipe in (running.process.stdin, running.process.stdout):
                    if pipe is not None:
                        pipe.close()

    def __call__(self, *command: str, timeout: float = PATIENCE, **options: Any) -> Run:
        return self.start(*command, **options).finish(timeout)


def nothing_untrue(run: Run) -> None:
    """The launcher has confirmed the end, and does not say that it was its own doing."""
    assert run.receipt is None or run.receipt["gone"] is True
    assert "was already gone" in run.err and "stopped after" not in run.err, run.err


def shut_down(run: Run) -> None:
    """Its program has ended the cluster, which is told once."""
    words = r"(The local cluster|Cluster \w+) was shut down by a client \(client.shutdown\(\)\)"
    assert len(re.findall(words, run.err)) == 1, run.err
    assert run.receipt is None or run.receipt["warnings"] == []
    nothing_untrue(run)


def wait_for(
    condition: Callable[[], T | None],
    what: str,
    timeout: float = PATIENCE,
    context: Callable[[], str] = lambda: "",
) -> T:
    """Poll until `condition` gives something true; fail with `what` at the deadline."""
    deadline = time.monotonic() + timeout
    while True:
        asked = time.monotonic()
        if found := condition():
            return found
        now = time.monotonic()
        if now > deadline:
            raise AssertionError(f"no {what} within {timeout} s\n{context()}")
        # What is costly to ask for is asked for less often: other tests run beside this one.
        time.sleep(min(max(0.02, 9 * (now - asked)), 0.5))


def processes_with(marker: str) -> list[int]:
    """Processes in whose environment `marker` stands: also those that left their parents."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal() and int(entry.name) != os.getpid():
            try:
                environ = (entry / "environ").read_bytes()
                state = (entry / "stat").read_text().rpartition(")")[2].split()[0]
            except OSError:
                continue
            if marker.encode() in environ and state != "Z":
                found.append(int(entry.name))
    return found
