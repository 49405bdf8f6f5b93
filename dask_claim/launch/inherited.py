"""What the launcher was started with and cannot work with: mended here, kept for the command.

Standard descriptors that are closed (`>&-`): the next file or connection to be opened would get
the number of a closed one, and everybody would take it for stdin, stdout or stderr. /dev/null keeps
the place, for the launcher and all that it starts; only the command finds them closed.

SIGCHLD ignored (`trap '' CHLD`, Perl's `$SIG{CHLD} = 'IGNORE'`): the kernel would keep no child's
exit status. Blocked signals: they would not reach the launcher. Both are as usual in the launcher
and all that it starts, and as they were in the command.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterable
from dataclasses import dataclass

_NAMES = ("stdin", "stdout", "stderr")


@dataclass
class Inherited:
    """What the command inherits as the launcher did."""

    closed: frozenset[int] = frozenset()
    """Standard descriptors."""

    blocked: Iterable[int] = frozenset()
    """Signals."""

    ignores_children: bool = False
    """Whether SIGCHLD was ignored."""


def take_over() -> None:
    """Mend what was inherited. Call it before all else, in the main thread."""
    state.closed = frozenset(number for number in range(3) if _hold(number))
    state.ignores_children = signal.getsignal(signal.SIGCHLD) is signal.SIG_IGN
    if state.ignores_children:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    state.blocked = signal.pthread_sigmask(signal.SIG_SETMASK, ())


def _hold(number: int) -> bool:
    """Open /dev/null in the place of a closed descriptor; those below it are open."""
    try:
        os.fstat(number)
        return False
    except OSError:
        # The lowest free number, so this one.
        os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
    name = _NAMES[number]
    if getattr(sys, name) is None:
        stream = open(number, "w" if number else "r", closefd=False)  # noqa: SIM115
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)
    return True


def environment() -> dict[str, str]:
    """Return the launcher's variables as it was started with them.

    Python sets LC_CTYPE for itself where the locale is C.
    """
    variables = dict(os.environ)
    try:
        with open("/proc/self/environ", "rb") as file:
            first = dict(pair.partition(b"=")[::2] for pair in file.read().split(b"\0"))
    except OSError:
        return variables
    variables.pop("LC_CTYPE", None)
    if b"LC_CTYPE" in first:
        variables["LC_CTYPE"] = os.fsdecode(first[b"LC_CTYPE"])
    return variables


state = Inherited()
"""Of this process."""
