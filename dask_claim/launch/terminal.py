"""Job control: an interactive command works as if the launcher were not there.

The command lives in a process group of its own. A terminal lets only its foreground group read
and sends Ctrl-C and Ctrl-Z to that group alone, so the launcher hands the foreground over, takes
it back at the end, and stops and continues together with the command, as a shell would see it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Callable
from functools import partial
from typing import Any

from dask_claim import stderr


def end_by_ctrl_c(group: int | None) -> None:
    """End this process by SIGINT, as Ctrl-C has ended its work.

    A shell takes its script for interrupted where it gets SIGINT itself and sees that its command
    has died of it. `group`, with this process in it, gets SIGINT where the terminal sent it to the
    command's group alone; None where the terminal sent it to this process's group.
    """
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    if group is not None:
        os.killpg(group, signal.SIGINT)
    os.kill(os.getpid(), signal.SIGINT)


process_ends: list[Callable[[], None]] = []
"""What ends this process in place of its exit status."""

TURNS = 3
"""Turns of the event loop after which it has called the handlers of all signals that came before:
it reads that there is one, hands it on, and calls the handler."""


class Terminal:
    """The controlling terminal of this process, or nothing where there is none."""

    def __init__(self) -> None:
        self._group = os.getpgrp()
        self._lent_to: int | None = None
        self._lent = False
        self._signals_are_later = False
        """Whether a signal that is handled now has come since the terminal was lent."""

        self._interrupted_alone = False
        self._fd: int | None = None
        with contextlib.suppress(OSError):
            self._fd = os.open("/dev/tty", os.O_RDWR | os.O_CLOEXEC)
        # A background process that sets the foreground group gets SIGTTOU, which would stop it.
        self.ttou: Any = signal.getsignal(signal.SIGTTOU)
        """The handler that was there before."""
        if self._fd is not None:
            signal.signal(signal.SIGTTOU, signal.SIG_IGN)

    def close(self) -> None:
        """Take the foreground back and let go of the terminal."""
        if self._fd is not None:
            self.take_back()
            signal.signal(signal.SIGTTOU, self.ttou)
            os.close(self._fd)
            self._fd = None

    def take_back(self) -> None:
        """Make the launcher's group the foreground again, unless a shell has moved it elsewhere."""
        if self._fd is None or self._lent_to is None:
            return
        with contextlib.suppress(OSError):
            if os.tcgetpgrp(self._fd) == self._lent_to:
                os.tcsetpgrp(self._fd, self._group)
        self._lent_to, self._signals_are_later = None, False

    def hand_over(self, group: int) -> bool:
        """Make the command's `group` the foreground, where the launcher's own group is it now.

        Returns whether the command's group is in the foreground afterwards.
        """
        if self._fd is None:
            return False
        with contextlib.suppress(OSError):
            if os.tcgetpgrp(self._fd) == self._group:
                os.tcsetpgrp(self._fd, group)
                self._lent_to, self._lent = group, True
                self._handle_earlier_signals(TURNS)
            return os.tcgetpgrp(self._fd) == group
        return False

    def _handle_earlier_signals(self, turns: int) -> None:
        if turns:
            asyncio.get_running_loop().call_soon(self._handle_earlier_signals, turns - 1)
        else:
            self._signals_are_later = self._lent_to is not None

    def interrupted(self) -> None:
        """Note that SIGINT has come to this process.

        While the terminal is lent, Ctrl-C goes to the command's group alone: this was `kill`.
        """
        self._interrupted_alone = self._interrupted_alone or self._signals_are_later

    def ctrl_c(self) -> Callable[[], None] | None:
        """Return how to end by Ctrl-C; None where the terminal has not sent it to this job."""
        if self._fd is None or self._interrupted_alone:
            return None
        with contextlib.suppress(OSError):
            if os.tcgetpgrp(self._fd) == self._group:
                return partial(end_by_ctrl_c, self._group if self._lent else None)
        return None

    @staticmethod
    def is_interactive() -> bool:
        """Whether the command will want the keyboard from its first moment.

        With its output in a pipe (`… | less`) the pipe's other end needs the keyboard more; the
        command still gets it when it reads (see `Child`).
        """
        return all(os.isatty(fd) for fd in (0, 1))

    def stop_with(self, group: int | None) -> None:
        """The command's `group` was stopped: stop this job too, and continue it afterwards.

        `None`: there is no command yet.

        Returns after the shell has continued the launcher. In an orphaned group (a container's
        first process, say) no shell could continue it, the kernel ignores the stop, and the command
        goes on at once.
        """
        self.take_back()
        stderr.state.clear()
        # The SIGCONT that ends this stop is answered here: handled once more, later, it would undo
        # a Ctrl-Z that has come meanwhile.
        stopping = (signal.SIGTSTP, signal.SIGCONT)
        handlers = [signal.signal(signum, signal.SIG_DFL) for signum in stopping]
        # The whole group: a shell waits for every part of a pipeline to stop.
        os.killpg(self._group, signal.SIGTSTP)
        for signum, handler in zip(stopping, handlers, strict=True):
            signal.signal(signum, handler)
        if group is not None:
            self.resume(group)

    def resume(self, group: int) -> None:
        """Continue the command's `group`, in the foreground where the launcher is in it."""
        if self.is_interactive():
            self.hand_over(group)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(group, signal.SIGCONT)
