"""The library: `connect()` for a program's Dask client, `run()` for what the command line does.

Both start the command line as a child and leave nothing of it in the program: no handler, no loop,
no descriptor; a thread only as long as the child lives. A socket leads to the child. The program's
signals are its own: whatever becomes of the program, the child sees it and releases the cluster.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import queue
import socket
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from dask_claim.errors import DaskClaimError, from_dict

if TYPE_CHECKING:
    from distributed import Client

    from dask_claim.claim.model import Claim

LOG = logging.getLogger("dask_claim")

# The working directory, where `-c` would look first, may have a module of any name.
_MAIN = (
    "import sys; '' in sys.path and sys.path.remove(''); sys.path.append(sys.argv.pop(1)); "
    "from dask_claim.cli.main import main; main()"
)


@dataclass(frozen=True)
class Result:
    """How a run ended."""

    exit_status: int
    """The command's own, or 128 + n where signal n ended it."""

    receipt: Mapping[str, Any]
    """The receipt as it is (or would be) written."""


def run(
    command: Sequence[str],
    claim: Claim | None = None,
    *,
    start: Literal["ready", "workers", "eager"] | None = None,
    start_timeout: float | None = None,
    stop_timeout: float | None = None,
    grace: float | None = None,
    receipt: str | os.PathLike[str] | None = None,
) -> Result:
    """Run `command` on a claimed cluster and stop the cluster, as `dask-claim -- …` does.

    An exception that a signal raises here, such as KeyboardInterrupt, ends the run: the command
    gets SIGINT, and SIGKILL `grace` seconds later. It goes on when all is released.

    Parameters
    ----------
    command : sequence of str
        Program and arguments.
    claim : Claim, optional
        In the place of `DASK_CLAIM`; by default what the environment says, as for the command line.
    start, start_timeout, stop_timeout, grace, receipt
        See `RunOptions`; times in seconds. By default what the environment says, too.

    Returns
    -------
    Result
        The command ran, whatever its exit status is.

    Raises
    ------
    ClaimError, ConfigurationError
        The claim or the site's configuration is wrong; nothing was created.
    TemporaryError
        The cluster could not be had now.
    CommandNotFound, CommandNotExecutable
        From `dask_claim.errors`; no cluster is left behind.
    """
    launcher = _Launcher()
    try:
        options = {
            "start": start,
            "start_timeout": start_timeout,
            "stop_timeout": stop_timeout,
            "grace": grace,
            "receipt": os.fspath(receipt) if receipt is not None else None,
        }
        launcher.start(claim, options, list(command))
        ended = launcher.answer()["receipt"]
    finally:
        launcher.end()
    return Result(ended["exit_status"], ended)


@contextmanager
def connect(
    claim: Claim | None = None,
    *,
    start_timeout: float | None = None,
    stop_timeout: float | None = None,
    grace: float | None = None,
    **client_options: Any,
) -> Iterator[Client]:
    """A connected client, for the length of a `with` block.

    Under the launcher, or wherever `DASK_SCHEDULER_ADDRESS` names a scheduler, it is connected to
    that one. Alone, the claim is fulfilled here and the cluster stopped at the end of the block,
    also when the block raises, or the process is ended or killed at any moment. In a job of Slurm
    the program gets SIGTERM `grace` seconds before its walltime ends.

    Parameters
    ----------
    claim : Claim, optional
        What to claim when alone, in the place of `DASK_CLAIM`.
    start_timeout, stop_timeout, grace : float
        Seconds, as for `run()`.
    **client_options
        For `distributed.Client`.

    Yields
    ------
    distributed.Client

    Raises
    ------
    ClaimError, ConfigurationError
        The claim or the site's configuration is wrong; nothing was created.
    TemporaryError
        The cluster could not be had now.
    """
    address = os.environ.get("DASK_SCHEDULER_ADDRESS", "").strip()
    if claim is None and address:
        # By name: Dask reads this variable only once, when it is imported, and a client that knows
        # of no scheduler would start a cluster of its own.
        with _client(address, client_options) as client:
            yield client
        return
    launcher = _Launcher()
    try:
        options = {"start_timeout": start_timeout, "stop_timeout": stop_timeout, "grace": grace}
        launcher.start(claim, options)
        # Beside the cluster's start, for it takes most of a second.
        with contextlib.suppress(DaskClaimError):
            _import("distributed")
        cluster = launcher.answer()
        client_options.setdefault("security", _security(**cluster))
        address = cluster["variables"]["DASK_SCHEDULER_ADDRESS"]
        with _client(address, client_options) as client:
            yield client
    finally:
        launcher.end()


def _import(module: str) -> Any:
    from dask_claim.providers.base import import_quietly

    return import_quietly(module)


def _client(address: str, options: Mapping[str, Any]) -> Client:
    client: Client = _import("distributed").Client(address, **options)
    return client


def _security(variables: Mapping[str, str], keys: Sequence[str] | None) -> Any:
    """Of a gateway's cluster with its `keys`; None where Dask's own configuration says it all."""
    if keys is not None:
        return _import("dask_gateway.client").GatewaySecurity(*keys)
    tls = "DASK_DISTRIBUTED__COMM__TLS__"
    if f"{tls}CA_FILE" not in variables:
        return None
    return _import("distributed.security").Security(
        tls_ca_file=variables[f"{tls}CA_FILE"],
        tls_client_cert=variables[f"{tls}CLIENT__CERT"],
        tls_client_key=variables[f"{tls}CLIENT__KEY"],
        require_encryption=True,
    )


class _Launcher:
    """The child; `end` may follow any other method, also one that was interrupted half-way."""

    def __init__(self) -> None:
        self._socket, self._theirs = socket.socketpair()
        self._program = os.getpid()
        self._pid: int | None = None
        self._answers: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
        self._reading: threading.Thread | None = None

    def start(
        self, claim: Claim | None, options: Mapping[str, Any], command: list[str] | None = None
    ) -> None:
        """Start it for a command, or for a block."""
        order = {"pid": self._program, "options": options, "claim": claim and claim.hand_over()}
        arguments = [sys.executable, "-c", _MAIN, str(Path(__file__).parents[1])]
        number = self._theirs.fileno()
        spawn: dict[str, Any]
        if command is None:
            arguments.append("hold")
            # Ctrl-C at the terminal is for the program.
            spawn = {"file_actions": [(os.POSIX_SPAWN_DUP2, number, n) for n in (0, 1)]}
            spawn["setsid"] = True
        else:
            arguments += ["--caller", str(number), "--", *command]
            # Not subprocess: the command has the program's other inheritable files, too.
            spawn = {"file_actions": [(os.POSIX_SPAWN_DUP2, number, number)]}
        self._pid = os.posix_spawn(sys.executable, arguments, os.environ, **spawn)
        self._theirs.close()
        self._reading = threading.Thread(target=self._read, name="dask-claim-log", daemon=True)
        self._reading.start()
        with contextlib.suppress(OSError):  # it has ended already, and said why
            self._socket.sendall(json.dumps(order).encode() + b"\n")

    def _read(self) -> None:
        with contextlib.suppress(OSError), self._socket.makefile("rb") as lines:
            for line in lines:
                message = json.loads(line)
                if "log" in message:
                    level, text = message["log"]
                    LOG.log(getattr(logging, level, logging.INFO), "%s", text)
                else:
                    self._answers.put(message)
        self._answers.put(None)

    def answer(self) -> dict[str, Any]:
        """Return what it answers. Raises DaskClaimError."""
        before = _cancellations()
        while True:
            try:
                # Not for good: a signal that comes to another thread does not wake this one.
                message = self._answers.get(timeout=0.2)
                break
            except queue.Empty:
                if _cancellations() > before:
                    raise asyncio.CancelledError from None
        if message is None:
            raise DaskClaimError("the launcher has ended without an answer")
        if "error" in message:
            raise from_dict(message["error"])
        return message

    def end(self) -> None:
        """Have all released, whatever interrupts this meanwhile; that is raised afterwards."""
        interrupted: BaseException | None = None
        while os.getpid() == self._program:  # not in a process that the program has forked
            try:
                with contextlib.suppress(OSError):
                    self._socket.sendall(b"end\n")
                while self._reading is not None and self._reading.is_alive():
                    self._reading.join(0.2)
                if self._pid is not None:
                    with contextlib.suppress(ChildProcessError):
                        os.waitpid(self._pid, 0)
                self._socket.close()
                self._theirs.close()
                break
            except BaseException as error:
                interrupted = interrupted or error
        if interrupted is not None:
            raise interrupted


def _cancellations() -> int:
    """How often the task that waits here was cancelled: `asyncio.run` does so on Ctrl-C."""
    with contextlib.suppress(RuntimeError, AttributeError):  # no loop or task; Python 3.10
        count: int = asyncio.current_task().cancelling()  # type: ignore[union-attr]
        return count
    return 0
