"""The launcher as a child of a program that uses the library: the program's end of the socket.

Nothing of it is left in the program: no handler, no loop, no descriptor; a thread that reads what
the child says only as long as the child lives. The other end is `launch.caller`.
"""

from __future__ import annotations

import base64
import contextlib
import fcntl
import json
import logging
import os
import pickle
import queue
import socket
import sys
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dask_claim.errors import CommandNotExecutable, DaskClaimError, Exhausted

if TYPE_CHECKING:
    from dask_claim.claim.model import Claim

LOG = logging.getLogger("dask_claim")

# The working directory, where `-c` would look first, may have a module of any name.
_MAIN = (
    "import sys; '' in sys.path and sys.path.remove(''); sys.path.append(sys.argv.pop(1)); "
    "from dask_claim.cli.main import main; main()"
)


@contextlib.contextmanager
def _exhausted() -> Iterator[None]:
    """Raise `Exhausted` for an error that says so."""
    try:
        yield
    except (OSError, RuntimeError) as error:
        if exhausted := Exhausted.of(error):
            raise exhausted from error
        raise


class LauncherProcess:
    """The child; `end` may follow any other method, also one that was interrupted half-way."""

    @_exhausted()
    def __init__(self) -> None:
        self._socket, theirs = socket.socketpair()
        try:
            with theirs:
                # Never a standard descriptor, where the program has closed one.
                self._theirs: int | None = fcntl.fcntl(theirs, fcntl.F_DUPFD_CLOEXEC, 3)
        except OSError:
            self._socket.close()
            raise
        self._program = os.getpid()
        self._cancellations = _cancellations()
        self._pid: int | None = None
        self._answers: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
        self._reading: threading.Thread | None = None

    @_exhausted()
    def start(
        self,
        claim: Claim | Mapping[str, Any] | None,
        options: Mapping[str, Any],
        command: list[str] | None = None,
    ) -> None:
        """Start it for a command, or for a block. Raises ClaimError."""
        if isinstance(claim, Mapping):
            from dask_claim.claim.model import Claim  # pydantic, which other programs do without

            claim = Claim.model_validate(claim)
        given = None if claim is None else claim.hand_over()
        order = {"pid": self._program, "options": options, "claim": given}
        line = json.dumps(order, default=str).encode() + b"\n"
        arguments = [sys.executable, "-c", _MAIN, str(Path(__file__).parents[2])]
        number = self._theirs
        assert number is not None
        arguments += ["--caller", str(number), *(["--", *command] if command is not None else ())]
        # Not subprocess: the command has the program's other inheritable files, too. Without one
        # Ctrl-C at the terminal is for the program alone.
        try:
            self._pid = os.posix_spawn(
                sys.executable,
                arguments,
                os.environ,
                file_actions=[(os.POSIX_SPAWN_DUP2, number, number)],
                setsid=command is None,
            )
        except (OSError, ValueError) as error:  # such as a NUL character in an argument
            name = command[0] if command else "dask-claim"
            raise Exhausted.of(error) or CommandNotExecutable(f"{name}: {error}") from error
        self._close_theirs()
        self._reading = threading.Thread(target=self._read, name="dask-claim-log", daemon=True)
        self._reading.start()
        with contextlib.suppress(OSError):  # it has ended already, with an error
            self._socket.sendall(line)

    def _close_theirs(self) -> None:
        number, self._theirs = self._theirs, None
        if number is not None:
            os.close(number)

    def _read(self) -> None:
        try:
            # ValueError: a child that was killed has written half a line.
            with contextlib.suppress(OSError, ValueError), self._socket.makefile("rb") as lines:
                for line in lines:
                    message = json.loads(line)
                    if "log" not in message:
                        self._answers.put(message)
                        continue
                    level, text, fields = message["log"]
                    # Whatever a filter or handler of the program's raises, even SystemExit.
                    with contextlib.suppress(BaseException):
                        number = getattr(logging, level, logging.INFO)
                        LOG.log(number, "%s", text, extra=fields)
        finally:
            self._answers.put(None)

    def answer(self) -> dict[str, Any]:
        """Return what it answers. Raises DaskClaimError."""
        while True:
            try:
                # Not for good: a signal that comes to another thread does not wake this one.
                message = self._answers.get(timeout=0.2)
                break
            except queue.Empty:
                if _cancellations() > self._cancellations:
                    raise sys.modules["asyncio"].CancelledError from None
        if message is None:
            raise DaskClaimError("the launcher has ended without an answer")
        if "error" in message:
            raise pickle.loads(base64.b64decode(message["error"]))
        return message

    def end(self, status: int = 0) -> None:
        """Have all released, whatever interrupts this meanwhile; that is raised afterwards.

        `status`: how a block ended, as a command's exit status.
        """
        interrupted: BaseException | None = None
        while os.getpid() == self._program:  # not in a process that the program has forked
            try:
                with contextlib.suppress(OSError):
                    self._socket.sendall(b"end %d\n" % status)
                while self._reading is not None and self._reading.is_alive():
                    self._reading.join(0.2)
                if self._pid is not None:
                    with contextlib.suppress(ChildProcessError):
                        os.waitpid(self._pid, 0)
                self._socket.close()
                self._close_theirs()
                break
            except BaseException as error:
                interrupted = interrupted or error
        if interrupted is not None:
            raise interrupted


def status_of(error: BaseException) -> int:
    """Return the exit status that a command would have in the place of a block that raises."""
    if isinstance(error, SystemExit):
        code = error.code
        return code & 0xFF if isinstance(code, int) else int(code is not None)
    if isinstance(error, KeyboardInterrupt):
        return 130
    return int(not isinstance(error, GeneratorExit))  # nobody has left the block


def _cancellations() -> int:
    """How often the task that waits here was cancelled: `asyncio.run` does so on Ctrl-C."""
    if "asyncio" not in sys.modules:
        return 0
    import asyncio  # nothing waits for it before the child is started

    with contextlib.suppress(RuntimeError, AttributeError):  # no loop or task; Python 3.10
        count: int = asyncio.current_task().cancelling()  # type: ignore[union-attr]
        return count
    return 0
