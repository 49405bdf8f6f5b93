"""The facts of a run at its end, and the one word for how it ended."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from importlib.util import find_spec
from typing import TYPE_CHECKING

from dask_claim.errors import DaskClaimError, Reason
from dask_claim.launch.signals import Interrupted
from dask_claim.providers.usage import Usage
from dask_claim.providers.values import Ended

if TYPE_CHECKING:
    from dask_claim.claim.model import Claim, Resolved
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
    """What the launcher knows of a run at its end."""

    claim: Claim
    status: int
    started: bool
    """Whether the command was."""

    work: str = "command"
    """What the cluster was for: a command, or a `block` of a program."""

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
    module_here: Callable[[str], str | None] = lambda name: None
    """In words, where a module of this environment is; None: nowhere."""

    file_here: Callable[[str], bool] = lambda path: False

    @property
    def signal(self) -> int | None:
        """The signal to the run that has ended the command; None where there was none."""
        if isinstance(self.cause, Interrupted):
            return self.cause.signum
        if self.ended_by in (*FROM_A_TERMINAL, *self.passed_on):
            return self.ended_by
        return next((each for each in self.passed_on if each not in FOR_THE_PROGRAM), None)

    def lost(self, *reasons: str) -> int:
        """How many workers were lost, for these reasons alone where there are any."""
        lost = self.usage.lost if self.usage else ()
        return sum(loss.count for loss in lost if not reasons or loss.reason in reasons)


def reason_of(facts: Facts) -> Reason | None:
    """Return the one word for how a run ended; None where it ended well."""
    usage = facts.usage
    if facts.cause is not None:
        # Of a program that is gone before its block has ended the launcher knows no signal.
        killed = facts.cause.reason is Reason.COMMAND_KILLED
        return Reason.MEMORY_LIMIT if killed and facts.memory else facts.cause.reason
    if facts.status == 0:
        return None
    if facts.signal is not None:
        return Reason.INTERRUPTED
    if facts.memory:
        return Reason.MEMORY_LIMIT
    if facts.ended_by is not None:
        return Reason.COMMAND_KILLED
    if facts.cut_off or (facts.ended is not None and not facts.ended.ordinary):
        return Reason.CLUSTER_LOST
    if facts.lost("memory_limit"):
        return Reason.WORKER_MEMORY
    if usage and (usage.gave_up or (usage.waiting and not usage.peak)):
        return Reason.NO_WORKERS
    if facts.in_vain and not (usage and usage.errors):
        return Reason.NO_WORKERS
    return Reason.COMMAND_FAILED


def facts_of(
    state: RunState,
    command: Sequence[str],
    resolved: Resolved,
    status: int | None,
    failure: DaskClaimError | None,
) -> Facts:
    """Return the facts of a run whose cluster is given back.

    `failure`: what the launcher ends with in place of the command's status.
    """
    session, work = state.session, state.work
    facts = Facts(
        resolved.claim, 70 if status is None else status, work is not None,
        "command" if command else "block", failure or state.cause,
        work.ended_by if work else None, tuple(state.passed_on),
        module_here=partial(module_here, command), file_here=os.path.exists,
    )  # fmt: skip
    if session is None:
        return facts
    provider, watch = session.provider, session.watch
    return replace(
        facts, memory=watch.memory, ended=watch.ended, cut_off=watch.cut_off,
        in_vain=watch.waiting.in_vain, usage=watch.usage,
        worker_memory=watch.worker_memory, same_machine=provider.same_machine,
        of_gateway=provider.uses_gateway,
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
