"""What the launcher knows of a run at its end."""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from dask_claim.errors import DaskClaimError
from dask_claim.launch.signals import Interrupted
from dask_claim.providers.usage import Usage
from dask_claim.providers.values import Ended

if TYPE_CHECKING:
    from dask_claim.claim.model import Claim
    from dask_claim.launch.run_state import RunState


A_FILE = "a file beside the command"
"""Where a module is that workers on other machines cannot import."""

INSTALLED = "installed"

FROM_A_TERMINAL = (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP)
"""Signals that a command may get without its launcher."""

FOR_THE_PROGRAM = (signal.SIGUSR1, signal.SIGUSR2)
"""Signals that end a program only if it has no use for them."""


@dataclass(frozen=True)
class Facts:
    """What the launcher knows of a run whose cluster is given back."""

    claim: Claim
    status: int
    started: bool
    """Whether the command was."""

    command: Sequence[str] = ()
    """Empty for a block of a program."""

    cause: DaskClaimError | None = None
    """What kept the command from being started, or for which the launcher ended it."""

    ended_by: int | None = None
    """The signal that the command died of."""

    passed_on: Sequence[int] = ()
    """Signals to the launcher that it has passed on to the command, and that may have ended it."""

    memory: str | None = None
    """What the kernel's count of processes killed for want of memory means here, in words."""

    ended: Ended | None = None
    """How the cluster has ended without the launcher."""

    cut_off: bool = False
    """Whether the scheduler took no connection at the end: its gateway may not have seen why."""

    in_vain: str | None = None
    """In words, what tasks waited for until the end; None where that was nothing."""

    usage: Usage | None = None
    worker_memory: int = 0
    """Bytes of one worker, as it really was; 0: unknown."""

    same_machine: bool = False
    """Whether the workers were on this machine, with this Python."""

    of_gateway: bool = False

    @property
    def signal(self) -> int | None:
        """The signal to the run that has ended the command; None where there was none."""
        if isinstance(self.cause, Interrupted):
            return self.cause.signum
        if self.ended_by in (*FROM_A_TERMINAL, *self.passed_on):
            return self.ended_by
        return next((each for each in self.passed_on if each not in FOR_THE_PROGRAM), None)

    def lost(self, *reasons: str) -> int:
        """How many workers were lost for these reasons."""
        lost = self.usage.lost if self.usage else ()
        return sum(loss.count for loss in lost if loss.reason in reasons)


def facts_of(state: RunState, claim: Claim, command: Sequence[str], **end: Any) -> Facts:
    """Return the facts of a run; `end`: its `status`, and its `cause` where there is one."""
    work, session = state.work, state.session
    if session is not None:
        watch, provider = session.watch, session.provider
        end |= {name: getattr(watch, name) for name in ("memory", "ended", "cut_off", "usage")}
        end |= {"in_vain": watch.waiting.in_vain, "worker_memory": watch.worker_memory}
        end |= {"same_machine": provider.same_machine, "of_gateway": provider.uses_gateway}
    ended_by = work.ended_by if work else None
    return Facts(
        claim, started=work is not None, command=command, ended_by=ended_by,
        passed_on=tuple(state.passed_on), **end,
    )  # fmt: skip


def module_here(command: Sequence[str], name: str) -> str | None:
    """Return where a module is in this environment, in words; None where it is not."""
    # Python looks in the folder of its script.
    scripts = (os.path.dirname(word) for word in command if word.endswith(".py"))
    places = (os.path.join(folder, name) for folder in ("", *scripts))
    if any(os.path.exists(place) or os.path.exists(f"{place}.py") for place in places):
        return A_FILE
    try:
        spec = find_spec(name)
    except (ImportError, ValueError):
        spec = None
    return INSTALLED if spec else None
