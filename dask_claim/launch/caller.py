"""The program around this launcher, where `connect()` or `run()` has started it.

A socket leads there, and both sides write lines of JSON. The program first sends what is to be
done, and at its end, or where something interrupts it, one line more. The launcher sends its log,
and what became of it: `variables`, `receipt` or `error`.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import os
import pickle
import signal
import socket
import threading
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from loguru import logger

from dask_claim.claim.model import Claim, Resolved, load
from dask_claim.errors import ConfigurationError, DaskClaimError, Reason, our_error

if TYPE_CHECKING:
    from dask_claim.launch.session import Session

LOOK_EVERY = 0.5
"""Seconds between two looks at whether the program is still there."""

PATIENCE = 5.0
"""Seconds in which the program has to take a line; one that is stopped holds nothing up."""


class Caller:
    """The other end of the socket."""

    def __init__(self, descriptor: int) -> None:
        """Take over the `descriptor` of the socket, and read what is to be done."""
        os.set_inheritable(descriptor, False)
        self._socket = socket.socket(fileno=descriptor)
        # Without a buffer: what follows the first line stays in the socket.
        with self._socket.makefile("rb", buffering=0) as lines:
            line = lines.readline()
        if not line.startswith(b"{"):
            raise DaskClaimError("the program ended before it sent its request")
        order = json.loads(line)
        self._socket.settimeout(PATIENCE)
        self._pid: int = order.get("pid", os.getppid())
        self._claim = order.get("claim")
        self.options: dict[str, Any] = order.get("options", {})
        """The options of the run, as they were given."""

        self._writing = threading.Lock()
        self._listens = True

    def claim(self) -> Resolved:
        """Return the effective claim. Raises ClaimError."""
        return load() if self._claim is None else Resolved.of(Claim.take_over(self._claim))

    @property
    def alive(self) -> bool:
        """Whether the program still runs. A process that it has forked may hold its socket open."""
        return os.getppid() == self._pid

    def send(self, **message: Any) -> bool:
        """Send a line; return whether the program takes it."""
        line = json.dumps(message, default=str).encode() + b"\n"
        with self._writing:
            try:
                if self._listens:
                    self._socket.sendall(line)
            except OSError:
                self._listens = False
            return self._listens

    def log(self, level: str, text: str, fields: Mapping[str, Any]) -> bool:
        """Send a message of the log, as `send` does."""
        return self.send(log=[level, text, fields])

    def terminate(self) -> None:
        """Send SIGTERM to the program."""
        if self.alive:
            os.kill(self._pid, signal.SIGTERM)

    def watch(self, on_end: Callable[[int | None], None]) -> None:
        """Call `on_end` once, from the event loop, when the program wants no more or is gone.

        It is given the status of the program's block; None where the program is gone.
        """
        loop = asyncio.get_running_loop()

        def end(status: int | None) -> None:
            loop.remove_reader(self._socket)
            looking.cancel()
            on_end(status)

        def read() -> None:
            line = b""
            with contextlib.suppress(OSError):  # it was killed before it had read everything
                line = self._socket.recv(64)
            # Not by `alive`: where the program is killed its socket closes before it is gone.
            end(int(line.split()[1]) if line else None)

        async def look() -> None:
            while self.alive:
                await asyncio.sleep(LOOK_EVERY)
            end(None)

        loop.add_reader(self._socket, read)
        looking = loop.create_task(look())

    def answer(self, work: Callable[[], int]) -> int:
        """Do the `work`, and send the error that ends it; return the exit status."""
        try:
            return work()
        except (Exception, SystemExit) as error:
            answer = our_error(error)
            if answer.reason is Reason.DEFECT:
                logger.exception("A defect in dask-claim; please report it")
        pickled = base64.b64encode(pickle.dumps(answer)).decode()
        if not self.send(error=pickled):
            raise answer
        return answer.exit_status


class Block:
    """The block of `connect()`, in the place of a command (see `Child`)."""

    ended_by: int | None = None

    def __init__(self, caller: Caller, session: Session, variables: Mapping[str, str]) -> None:
        """Let the block begin, with what a command would find in its environment."""
        if session.cluster.scheduler_address is None:
            raise ConfigurationError("create is false in the claim: no cluster to connect to")
        keys = None
        if session.cluster.cluster_name is not None:
            security = session.provider.security()
            keys = security.tls_key, security.tls_cert
        self._caller = caller
        self._loop = asyncio.get_running_loop()
        self._done: asyncio.Future[int] = self._loop.create_future()
        caller.send(variables=variables, keys=keys)

    @property
    def running(self) -> bool:
        return not self._done.done()

    async def wait(self) -> int:
        """Return the block's status when it has ended, or the program has, or its time is over."""
        return await asyncio.shield(self._done)

    def end(self, grace: float, status: int = 0) -> None:
        """Let the block end within `grace` seconds; then it has no cluster any more."""
        self._loop.call_later(grace, self.finish, status)

    def end_for(self, cause: DaskClaimError, grace: float) -> None:
        """End it for a reason of the launcher's: the program itself ends with its job alone."""
        if cause.reason is Reason.WALLTIME:
            self._caller.terminate()
            self.end(grace)
        else:
            self.finish()

    def finish(self, status: int = 0) -> None:
        """The cluster is not needed any more."""
        if self.running:
            self.ended_by = status - 128 if status > 128 else None
            self._done.set_result(status)
