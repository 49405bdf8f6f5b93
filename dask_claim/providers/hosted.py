"""Clusters that a process of the launcher's hosts: what the providers of such clusters share."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import sys
from abc import abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path
from time import monotonic
from typing import Any, ClassVar, Literal

from dask_claim.cgroup import MORE_MEMORY, MemoryLimit
from dask_claim.errors import ClusterFailed, ConfigurationError
from dask_claim.files import make_private_folder, private_path
from dask_claim.imports import dask_config
from dask_claim.processes import ended, kill_group
from dask_claim.providers import dask_report, tls
from dask_claim.providers.base import NO_WORKERS_TIMEOUT, Provider, tells_of_no_workers
from dask_claim.providers.usage import Usage
from dask_claim.providers.values import Ended, Request, Ticket, Warn, Write
from dask_claim.threads import in_time

KILLED_WITHIN = 5.0
"""Seconds that the kernel may take to end what was killed."""

LAST_WORDS = 1.0


class HostedProvider(Provider):
    """Starts the process that hosts a cluster, requests one, and closes its pipe at the end.

    The process reads one JSON object and answers with one event a line (see `host_process`).
    """

    asks_with_dask = False
    reports_usage = True
    host: ClassVar[Path]
    """The program that the process runs."""

    content: ClassVar[Literal["keys", "gateway"]] = "keys"
    """Of its private folder: the keys of the cluster, or what a gateway writes."""

    def __init__(self, request: Request, write: Write, warn: Warn) -> None:
        super().__init__(request, write, warn)
        self._host: asyncio.subprocess.Process | None = None
        self._reading: asyncio.Task[None] | None = None
        self._events: asyncio.Queue[dict[str, Any] | None] = asyncio.Queue()
        """Those of its start; None: it has ended."""

        self._on_usage: Callable[[Usage], None] = lambda usage: None
        self._on_end: Callable[[Ended], None] = lambda ended: None
        self._usage: Usage | None = None
        self._ended: Ended | None = None
        self._memory = MemoryLimit()
        self._closing = False
        self._folder = ""
        self._facts: dict[str, Any] = {}
        """What its ticket names besides."""

    async def submit(self) -> None:
        self.check()
        # The child's start is not to be interrupted half-way: `close` needs to know the process.
        start = asyncio.ensure_future(self._start())
        try:
            await asyncio.shield(start)
        except asyncio.CancelledError:
            await start
            raise
        assert self._host is not None and self._host.stdin is not None
        more = {"folder": self._folder, "report": self._wants_report}
        self._host.stdin.write(json.dumps({**self._host_request(), **more}).encode() + b"\n")
        self._reading = asyncio.create_task(self._read())
        await self._use(await self._event())

    async def wait_until_running(self) -> None:
        """Return at the second event: the minimum of workers is up, or in its queue."""
        await self._event()

    async def _start(self) -> None:
        """Start the process, with a ticket ahead of it: its jobs are found by their name.

        The process itself needs none so early: its pipe ends it however this process ends.
        """
        self._folder = private_path(self.content)
        ticket = Ticket(self.name, self._facts, folder=self._folder)
        self._write(ticket)
        make_private_folder(self._folder)
        self._write(self._held(ticket, await self._spawn()))

    def _held(self, ticket: Ticket, process: int) -> Ticket:
        """Return the ticket with the process that holds the cluster."""
        return ticket.with_(process=process)

    @abstractmethod
    def _host_request(self) -> dict[str, Any]:
        """Return what the process reads besides its folder: JSON types."""

    @abstractmethod
    async def _use(self, event: Mapping[str, Any]) -> None:
        """Set `cluster` by the first event, which has the scheduler's address."""

    async def _spawn(self) -> int:
        """Start the process, with more variables than the launcher's; return its pid."""
        claim, pipe, more = self.request.claim, asyncio.subprocess.PIPE, dict[str, str]()
        if claim.no_workers_timeout is not None and tells_of_no_workers():
            more[NO_WORKERS_TIMEOUT] = str(claim.no_workers_timeout)
        if self.content == "keys":
            more |= {**claim.environment, **tls.in_folder(self._folder, *tls.ROLES)}
        self._host = await asyncio.create_subprocess_exec(
            sys.executable, str(self.host), stdin=pipe, stdout=pipe,
            env={**_environment(self.request.environ), **more},
            # Neither Ctrl-C nor a signal to the launcher's group may reach the cluster.
            start_new_session=True,
            limit=2 * dask_report.LARGEST,  # of a line
        )  # fmt: skip
        return self._host.pid

    async def _read(self) -> None:
        """Pass on what the process reports, until it has ended."""
        assert self._host is not None and self._host.stdout is not None
        try:
            while line := await self._host.stdout.readline():
                if line.startswith(b"{"):
                    self._take(json.loads(line))
                else:  # of a site's start-up hook, before `serve` began
                    print(line.decode(errors="replace"), end="", file=sys.stderr)
        finally:
            self._events.put_nowait(None)
        if not self._closing and (ended := await self.ended(LAST_WORDS)):
            self._on_end(ended)

    def _take(self, event: dict[str, Any]) -> None:
        if "usage" in event:
            self._usage = Usage.of(event["usage"])
            if self._ended is None:  # what a process that was killed had still written
                self._on_usage(self._usage)
        elif "dask_report" in event:
            self.dask_report = dask_report.DaskReport(**event["dask_report"])
        elif "waiting" in event:
            self.obstacle = event["waiting"]
        elif "warning" in event:
            self._warn(event["warning"])
        else:
            if "ended" in event:
                self._ended = Ended(event["ended"], event.get("ordinary", False))
                self._on_end(self._ended)
                event = {"error": f"it {event['ended']}"}
            self._events.put_nowait(event)

    async def _event(self) -> dict[str, Any]:
        """The next event of a cluster that starts.

        Raises
        ------
        ConfigurationError
            There is no cluster, and trying again does not help.
        ClusterFailed
            There is none, for a reason that may pass or is unknown.
        """
        event = await self._events.get() or await self._silent_end()
        if "error" in event:
            kind = ConfigurationError if event.get("lasting") else ClusterFailed
            raise kind(f"{self.description} gives no cluster: {event['error']}")
        return event

    async def _silent_end(self) -> dict[str, Any]:
        """Stand in for the last event of a process that ended without one."""
        ended = await self.ended(LAST_WORDS)
        how, why = f"it {ended.how}" if ended else None, "Its own messages are above"
        if ended is not None and ended.killed:
            memory = self._memory.exceeded("It")
            why = f"{memory}. {MORE_MEMORY}" if memory else ""
        return {"error": ". ".join(filter(None, (how, why)))}

    def listen(self, on_usage: Callable[[Usage], None], on_end: Callable[[Ended], None]) -> None:
        self._on_usage, self._on_end = on_usage, on_end
        if self._usage is not None:
            on_usage(self._usage)
        if self._ended is not None:
            on_end(self._ended)

    async def ended(self, patience: float = 0.0) -> Ended | None:
        host = self._host
        if host is None:
            return None
        if not patience and ended(host.pid):
            # asyncio notices it a moment later.
            patience = LAST_WORDS
        deadline = monotonic() + patience
        while self._ended is None and host.returncode is None and monotonic() < deadline:
            await asyncio.sleep(0.02)
        if self._ended is None and (status := host.returncode) is not None:
            killed_by = f"was killed by {signal.Signals(-status).name}" if status < 0 else ""
            how = killed_by or f"ended ({status})"
            killed = status == -signal.SIGKILL
            self._ended = Ended(f"has ended by itself: its process {how}", killed=killed)
        return self._ended

    @property
    def _wants_report(self) -> bool:
        return self.request.report and self.reports_usage

    def security(self) -> Any:
        return tls.client_security(self._folder) if self.content == "keys" else None

    def hurry(self) -> None:
        if self._wants_report:
            self.dask_report = dask_report.IN_HASTE

    async def close(self) -> None:
        await self._close(self.request.stop_timeout)

    async def _close(self, patience: float) -> None:
        """Close the pipe, on which the process ends its cluster and itself, within `patience` s."""
        host = self._host
        if host is None:
            return
        assert host.stdin is not None
        self._closing = True
        if self._wants_report and self.dask_report is None:
            host.stdin.write(b"report\n")
            patience += dask_report.PATIENCE
        host.stdin.close()
        try:
            await in_time(host.wait(), patience)
        except asyncio.TimeoutError:
            kill_group(host.pid)
            with contextlib.suppress(asyncio.TimeoutError):
                await in_time(host.wait(), KILLED_WITHIN)
        if self._reading is not None:
            # The last report; another process may still hold the other end of the pipe.
            await asyncio.wait({self._reading}, timeout=LAST_WORDS)
            self._reading.cancel()


def _environment(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the host's variables: the launcher's, as workers would have them without it.

    The claim is the launcher's alone, and a text of it can be one that Dask does not read.
    """
    kept = {
        name: value
        for name, value in environ.items()
        if name != "DASK_CLAIM" and not name.startswith("DASK_CLAIM_")
    }
    return {**kept, **dask_config(environ)}
