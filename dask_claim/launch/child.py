"""The command: spawned in a process group of its own, signalled, waited for. Knows no Dask."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import signal
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

from loguru import logger

from dask_claim.errors import CommandNotExecutable, DaskClaimError, Exhausted
from dask_claim.launch import inherited
from dask_claim.launch.signals import Interrupted
from dask_claim.launch.terminal import Terminal

IGNORING_CHILDREN = Path(__file__).with_name("ignoring_children.py")


_HINTS = {
    errno.ENOEXEC: " (a script needs a first line such as #!/bin/sh)",
    errno.ENOENT: " (its first line names an interpreter that is not there)",
}


class Child:
    """One running command. Make it with `Child.spawn` inside a running event loop."""

    def __init__(self, pid: int, terminal: Terminal) -> None:
        self.pid = pid
        self.ended_by: int | None = None
        """The signal that has ended it."""

        self._terminal = terminal
        self._loop = asyncio.get_running_loop()
        self._done: asyncio.Future[int] = self._loop.create_future()
        self._grace: asyncio.TimerHandle | None = None
        # A thread, for it sees stops too, needs no SIGCHLD handler, and works on every system.
        threading.Thread(target=self._watch, name="dask-claim-child", daemon=True).start()

    @classmethod
    def spawn(
        cls,
        command: Sequence[str],
        environment: Mapping[str, str],
        terminal: Terminal,
    ) -> Child:
        """Start `command`, found on the launcher's PATH, with these variables and no others.

        What the launcher inherited as ignored (`nohup`) stays so; what it handles itself has its
        default there, as after every exec.

        Raises
        ------
        CommandNotExecutable
        """
        # Python ignores these two from its start; a command expects them as the system has them.
        restored = {signal.SIGPIPE, signal.SIGXFSZ}
        if terminal.ttou is not signal.SIG_IGN:
            restored.add(signal.SIGTTOU)
        inheritance, started = inherited.state, list(command)
        if inheritance.ignores_children:
            locale = environment.get("LC_CTYPE", "")
            started = [sys.executable, "-I", "-S", str(IGNORING_CHILDREN), locale, *command]
        try:
            # Not subprocess: this closes no file the runner passed on, and forks no threads.
            pid = os.posix_spawnp(
                started[0],
                started,
                dict(environment),
                file_actions=[(os.POSIX_SPAWN_CLOSE, number) for number in inheritance.closed],
                setpgroup=0,
                setsigmask=inheritance.blocked,
                setsigdef=restored,
            )
        except (OSError, ValueError) as error:  # such as a NUL character in an argument
            why = (isinstance(error, OSError) and error.strerror) or str(error)
            hint = _HINTS.get(getattr(error, "errno", 0), "")
            failed = CommandNotExecutable(f"{command[0]}: {why}{hint}")
            raise Exhausted.of(error) or failed from None
        if terminal.is_interactive():
            # Where it has read the keyboard before this moment it is stopped: see `_stopped`. A
            # SIGCONT to be on the safe side would undo a Ctrl-Z that came just now.
            terminal.hand_over(pid)
        return cls(pid, terminal)

    @property
    def running(self) -> bool:
        return not self._done.done()

    async def wait(self) -> int:
        """The command's own exit status, or 128 + n where signal n ended it."""
        return await asyncio.shield(self._done)

    def send(self, signum: int) -> None:
        """Send a signal to the command and its process group."""
        if not self.running:
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signum)
            if signum in (signal.SIGTERM, signal.SIGHUP):
                os.killpg(self.pid, signal.SIGCONT)  # a stopped command could not act on it

    def end(self, grace: float, signum: int = signal.SIGTERM) -> None:
        """Send `signum`, and SIGKILL where the command still runs `grace` seconds later."""
        self.send(signum)
        if self._grace is None and self.running:
            self._grace = self._loop.call_later(grace, self._kill, grace, signum)

    def end_for(self, cause: DaskClaimError, grace: float) -> None:
        """End it for a reason of the launcher's."""
        self.end(grace, cause.signum if isinstance(cause, Interrupted) else signal.SIGTERM)

    def _kill(self, grace: float, signum: int) -> None:
        if self.running:
            name = signal.Signals(signum).name
            logger.warning(f"The command still runs {grace:g} s after {name}: SIGKILL")
            self.send(signal.SIGKILL)

    def _watch(self) -> None:
        # A closed loop: the launcher is ending already.
        with contextlib.suppress(RuntimeError):
            try:
                _, status = os.waitpid(self.pid, os.WUNTRACED)
                while os.WIFSTOPPED(status):
                    self._loop.call_soon_threadsafe(self._stopped, os.WSTOPSIG(status))
                    _, status = os.waitpid(self.pid, os.WUNTRACED)
            except ChildProcessError as error:  # another part of this process waits for all
                lost = DaskClaimError(f"the command's exit status is lost: {error}")
                self._loop.call_soon_threadsafe(self._done.set_exception, lost)
            else:
                self._loop.call_soon_threadsafe(self._ended, status)

    def _stopped(self, signum: int) -> None:
        if not self.running:
            return
        wants_terminal = signum in (signal.SIGTTIN, signal.SIGTTOU) and not self._is_to_stop()
        if wants_terminal and self._terminal.hand_over(self.pid):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGCONT)
        elif signum != signal.SIGSTOP:  # its sender continues it, too
            self._terminal.stop_with(self.pid)

    def _is_to_stop(self) -> bool:
        """Whether a Ctrl-Z waits for the stopped command: SIGCONT would do away with it."""
        try:
            status = Path(f"/proc/{self.pid}/status").read_text(encoding="ascii", errors="replace")
        except OSError:
            return False
        pending = [int(line.split()[1], 16) for line in status.splitlines() if "Pnd:" in line]
        return any(mask >> (signal.SIGTSTP - 1) & 1 for mask in pending)

    def _ended(self, wait_status: int) -> None:
        if self._grace is not None:
            self._grace.cancel()
        self._terminal.take_back()
        code = os.waitstatus_to_exitcode(wait_status)
        self.ended_by = -code if code < 0 else None
        self._done.set_result(code if code >= 0 else 128 - code)
