"""The errors a user can meet, and the exit status that each one ends the command with."""

from __future__ import annotations

import errno
import json
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum

_SHOWN = 120


class Reason(Enum):
    """Why a run ended as it did: one word for the receipt and the log, and an exit status."""

    exit_status: int | None
    """None: the command's own, or 128 + n where signal n ended the run. 75: it may pass."""

    def __new__(cls, word: str, exit_status: int | None) -> Reason:
        reason = object.__new__(cls)
        reason._value_ = word
        reason.exit_status = exit_status
        return reason

    DEFECT = "defect", 70
    USAGE = "usage", 64
    CLAIM_INVALID = "claim_invalid", 78
    CONFIGURATION_INVALID = "configuration_invalid", 78
    CREDENTIALS_REFUSED = "credentials_refused", 78
    NOT_A_GATEWAY = "not_a_gateway", 78
    OPTION_REFUSED = "option_refused", 78

    TEMPORARY = "temporary", 75
    GATEWAY_UNREACHABLE = "gateway_unreachable", 75
    LIMIT_REACHED = "limit_reached", 75
    CLUSTER_FAILED = "cluster_failed", 75
    START_TIMEOUT = "start_timeout", 75
    NO_WORKERS = "no_workers", 75
    NO_RESOURCES = "no_resources", 75
    WALLTIME = "walltime", 75

    LIFETIME = "lifetime", 124
    COMMAND_NOT_EXECUTABLE = "command_not_executable", 126
    COMMAND_NOT_FOUND = "command_not_found", 127

    COMMAND_FAILED = "command_failed", None
    COMMAND_KILLED = "command_killed", None
    MEMORY_LIMIT = "memory_limit", None
    WORKER_MEMORY = "worker_memory", None
    CLUSTER_LOST = "cluster_lost", None
    INTERRUPTED = "interrupted", None


class DaskClaimError(Exception):
    """The base of all errors. Raised itself, it is a defect in dask-claim (status 70)."""

    reason: Reason = Reason.DEFECT

    def __init__(self, message: object = "", reason: Reason | None = None) -> None:
        super().__init__(message)
        if reason is not None:
            self.reason = reason

    @property
    def exit_status(self) -> int:
        """The status with which dask-claim ends."""
        status = self.reason.exit_status
        return 70 if status is None else status


class UsageError(DaskClaimError):
    """dask-claim was called wrongly (status 64)."""

    reason = Reason.USAGE


class TemporaryError(DaskClaimError):
    """The same run can succeed later (status 75)."""

    reason = Reason.TEMPORARY


class GatewayUnreachable(TemporaryError):
    """The gateway does not answer, or answers that it cannot serve now."""

    reason = Reason.GATEWAY_UNREACHABLE
    retry_after: float = 0.0
    """Seconds after which it wants another request, where it says so."""


class GatewayAway(GatewayUnreachable):
    """No gateway took the request: nothing can have been made for it."""


class NoGatewayThere(GatewayAway):
    """Nothing shows that there is a gateway at the address; it may be wrong, or not there yet."""


class StartTimeout(TemporaryError):
    """The cluster did not start in time."""

    reason = Reason.START_TIMEOUT


class LimitReached(TemporaryError):
    """All clusters that a user or the site may have at a time are in use."""

    reason = Reason.LIMIT_REACHED


class ClusterFailed(TemporaryError):
    """The cluster was accepted, and failed or ended before the command could use it."""

    reason = Reason.CLUSTER_FAILED


class ClusterGone(ClusterFailed):
    """The gateway has given the cluster up while it started: another one may do."""


class Exhausted(TemporaryError):
    """This machine, or a limit of this user or container, gives no more processes or files."""

    reason = Reason.NO_RESOURCES

    @classmethod
    def of(cls, error: BaseException) -> Exhausted | None:
        """Return it where `error` says so, else None."""
        number = error.errno if isinstance(error, OSError) else None
        if isinstance(error, BlockingIOError) or "start new thread" in str(error):
            what = "no more processes or threads can be started (ulimit -u, or a limit of pids)"
        elif number in (errno.EMFILE, errno.ENFILE):
            what = "no more files can be opened (ulimit -n)"
        elif number == errno.ENOMEM or isinstance(error, MemoryError):
            what = "there is no more memory"
        else:
            return None
        return cls(f"{what}: {error}")


def our_error(error: BaseException) -> DaskClaimError:
    """Return `error` if it is one of these, or what it means: no more resources, or a defect."""
    if isinstance(error, DaskClaimError):
        return error
    defect = DaskClaimError(f"a defect in dask-claim: {error!r}; please report it")
    return Exhausted.of(error) or defect


class ConfigurationError(DaskClaimError):
    """The claim or the site's configuration is wrong; trying again does not help (status 78)."""

    reason = Reason.CONFIGURATION_INVALID


class AuthenticationError(ConfigurationError):
    """The gateway refused the credentials."""

    reason = Reason.CREDENTIALS_REFUSED


class NotAGateway(ConfigurationError):
    """Something else answers at the address, such as a login page; its effect is unknown."""

    reason = Reason.NOT_A_GATEWAY


class OptionError(ConfigurationError):
    """A value lies outside what the gateway offers for that option."""

    reason = Reason.OPTION_REFUSED


class CommandNotFound(DaskClaimError):
    """There is no such command; the status that shells give."""

    reason = Reason.COMMAND_NOT_FOUND


class CommandNotExecutable(DaskClaimError):
    """The file is there and cannot be executed; the status that shells give."""

    reason = Reason.COMMAND_NOT_EXECUTABLE


@dataclass(frozen=True)
class Fault:
    """One thing that is wrong with a claim, in one line; secrets in `value` are masked."""

    path: tuple[str, ...]
    """As spelled there, such as `("EnvVarRequirement", "worker_core")`; empty: the whole text."""

    value: object
    """What stands there; `None` where there is nothing to show."""

    problem: str
    """What is wrong with it."""

    hint: str = ""
    """What would be right."""

    source: str = ""
    """Where the claim came from: a variable's name, a file's path, a flag; empty if unknown."""

    other: tuple[str, ...] = ()
    """The second path, where two values contradict each other."""

    @property
    def where(self) -> str:
        """The paths, for a person."""
        return "/".join(map(dotted, filter(None, (self.path, self.other))))

    def __str__(self) -> str:
        shown = "" if self.value is None else _brief(self.value)
        subject = " = ".join(filter(None, (self.where, shown)))
        message = "; ".join(filter(None, (self.problem, self.hint)))
        return printable(": ".join(filter(None, (self.source, subject, message))))


class ClaimError(ConfigurationError, ValueError):
    """The claim is wrong; `faults` has every fault, never only the first one."""

    reason = Reason.CLAIM_INVALID

    def __init__(self, faults: Iterable[Fault]) -> None:
        self.faults: tuple[Fault, ...] = tuple(faults)
        super().__init__(self.faults)

    def __str__(self) -> str:
        head = f"{len(self.faults)} fault{'s' if self.faults[1:] else ''} in the claim:"
        return "\n  ".join([head, *map(str, self.faults)])


def dotted(path: Iterable[str]) -> str:
    """Return `a.b[0].c` for the path of these parts."""
    return "".join(part if part.startswith("[") else f".{part}" for part in path).lstrip(".")


def _brief(value: object) -> str:
    """Return `value` as one short line of JSON, whatever it is."""
    try:
        text = json.dumps(value, ensure_ascii=False, default=str)
    except (TypeError, ValueError, RecursionError):  # endless digits, circular or deep things
        return f"({type(value).__name__})"
    return text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…"


def printable(text: str) -> str:
    """Return `text` with all escaped that would end a line, steer a terminal or not be encoded."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
