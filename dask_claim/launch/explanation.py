"""A few lines on what happened in a run, why, and what would help; nothing without evidence."""

from __future__ import annotations

import os
import re
import signal
import sys
from collections.abc import Iterator

from dask_claim.amounts import counted, gib
from dask_claim.cgroup import MORE_MEMORY
from dask_claim.errors import DaskClaimError, Reason, printable
from dask_claim.launch.facts import A_FILE, INSTALLED, Facts, module_here
from dask_claim.launch.reports import Explained
from dask_claim.providers.usage import Failed
from dask_claim.providers.versions import differences, installed_versions

MOST = 6
"""Lines."""

LONGEST = 400
SPILLED_MUCH = 2**28
"""Bytes."""

ADVICE = {
    Reason.GATEWAY_UNREACHABLE: "Run `dask-claim doctor` to check each step to the gateway",
    Reason.CREDENTIALS_REFUSED: "`dask-claim doctor` shows which credentials are used, and for "
    "which address",
    Reason.NOT_A_GATEWAY: "`dask-claim doctor` shows what answers at the address",
    Reason.OPTION_REFUSED: "`dask-claim doctor` lists what the gateway offers",
    Reason.LIMIT_REACHED: "`dask-claim clusters` lists the clusters that are there, and "
    "`dask-claim clusters stop NAME` ends one",
    Reason.NO_RESOURCES: "Grant this container or user more of it, or claim fewer workers",
    Reason.LIFETIME: "Claim a longer max_lifetime, or more workers (max_workers)",
    Reason.WALLTIME: "Give the job a longer walltime, or claim more workers (max_workers)",
}
"""What would help against an error, whose own text is the last line of the run."""

UNSTARTED = (Reason.CLUSTER_FAILED, Reason.START_TIMEOUT, Reason.NO_WORKERS)
"""Reasons for which a cluster that was accepted was of no use."""

REPLACED = (*UNSTARTED, Reason.GATEWAY_UNREACHABLE, Reason.LIMIT_REACHED)
"""Reasons for which a local cluster can take the place of a gateway's."""

WAITED = (Reason.NO_WORKERS, Reason.INTERRUPTED, Reason.LIFETIME, Reason.WALLTIME)
"""Reasons for the end of a command that may have waited in vain."""


def explain(facts: Facts) -> Explained:
    """Return why a run ended as it did."""
    done = ""
    if facts.usage and facts.usage.tasks_total:
        done = f" with {facts.usage.tasks_done} of {facts.usage.tasks_total} tasks done"
    cause = facts.cause
    reason, text = _ended_for(facts, cause, done) if cause else _ended_by_itself(facts, done)
    lines = [text] if text and facts.started else []
    lines += _what_would_help(facts, reason)
    if facts.started:
        lines += _lost_workers(facts)
        lines += _failed_tasks(facts) if reason else []
        lines += _spilled(facts)
    # A run that ended well has at most one thing to learn from.
    shown = [printable(line) for line in lines[: MOST if reason else 1]]
    return Explained(
        reason.value if reason else None,
        [line if len(line) <= LONGEST else f"{line[: LONGEST - 1]}…" for line in shown],
        level="INFO" if reason in (None, Reason.INTERRUPTED) else "WARNING",
    )


def _ended_for(facts: Facts, cause: DaskClaimError, done: str) -> tuple[Reason, str]:
    """Return how a run ended that the launcher has ended."""
    reason = cause.reason
    if reason is Reason.LIFETIME:
        return reason, f"The run's max_lifetime of {facts.claim.max_lifetime:g} s was reached{done}"
    if reason is Reason.WALLTIME:
        return reason, f"The walltime of the job around this run was reached{done}"
    if reason is Reason.INTERRUPTED:
        return reason, _interrupted(facts, done)
    if reason is Reason.COMMAND_KILLED:
        # Of a program that is gone before its block has ended the launcher knows no signal.
        if facts.memory:
            return Reason.MEMORY_LIMIT, f"{facts.memory}. {MORE_MEMORY}"
        return reason, _capital(str(cause))
    return reason, ""


def _ended_by_itself(facts: Facts, done: str) -> tuple[Reason | None, str]:
    """Return how a run ended whose command, or block, was over before anything else was."""
    usage = facts.usage
    work = "command" if facts.command else "block"
    status = f"the {work} ended with status {facts.status}{done}"
    if facts.status == 0:
        return None, ""
    if facts.signal is not None:
        return Reason.INTERRUPTED, _interrupted(facts, done)
    if facts.memory:
        return Reason.MEMORY_LIMIT, f"{facts.memory}. {MORE_MEMORY}"
    if facts.ended_by is not None:
        return Reason.COMMAND_KILLED, (
            f"The command died of {_name(facts.ended_by)}, which dask-claim did not send: somebody "
            "else did, or the command itself (a crash)"
        )
    if facts.ended is not None and not facts.ended.ordinary:
        return Reason.CLUSTER_LOST, f"The cluster {facts.ended.how}; {status}"
    if facts.cut_off:
        away = "the scheduler takes no connection any more: it has died, or the way is cut"
        return Reason.CLUSTER_LOST, f"{_capital(status)}; {away}"
    if facts.lost("memory_limit"):
        return Reason.WORKER_MEMORY, ""
    if usage and usage.gave_up:
        tasks, resources = counted(usage.gave_up[0], "task"), usage.gave_up[1]
        needed = f"; they need {resources}" if resources else ""
        return Reason.NO_WORKERS, f"{tasks} failed, for no worker came that could run them{needed}"
    if usage and usage.waiting and not usage.peak:
        waited = f"{counted(usage.waiting, 'task')} waited for one"
        return Reason.NO_WORKERS, f"No worker ever came, and {waited}"
    if facts.in_vain and not (usage and usage.errors):
        return Reason.NO_WORKERS, ""
    if usage and not usage.tasks_failed and not usage.errors:
        return Reason.COMMAND_FAILED, (
            f"{_capital(status.removesuffix(done))}; its cluster saw no failed task, so the cause "
            f"is in the {'command' if facts.command else 'program'}'s own messages"
        )
    return Reason.COMMAND_FAILED, ""


def _what_would_help(facts: Facts, reason: Reason | None) -> Iterator[str]:
    cause = facts.cause.reason if facts.cause else None
    if cause in ADVICE:
        yield ADVICE[cause]
    if facts.started and facts.in_vain and reason in WAITED:
        yield f"Tasks waited in vain: {facts.in_vain}"
    if not facts.of_gateway:
        return
    if cause in UNSTARTED:
        if image := facts.claim.image:
            yield f"The image may not start a Dask scheduler or worker, or not be there: {image}"
        yield (
            "The gateway's operator finds the cause in the events and logs of this cluster; "
            "`dask-claim doctor --start` tries a cluster of one worker"
        )
    if cause in REPLACED and facts.claim.fallback != "local":
        yield "With `fallback: local` the command would run on this machine instead"


def _lost_workers(facts: Facts) -> Iterator[str]:
    usage, size = facts.usage, facts.worker_memory
    if usage is None:
        return
    if count := facts.lost("memory_limit"):
        died = (
            "1 worker was killed at its" if count == 1 else f"{count} workers were killed at their"
        )
        yield f"{died} memory limit{f' of {_shown_size(size)}' if size else ''}"
        more = f"`worker_memory: {_double(size)}`" if size else "more worker_memory"
        several = facts.same_machine and usage.peak > 1
        fewer = ", with fewer workers on this machine" if several else ""
        yield f"Claim {more}{fewer}, or give each task less to hold"
    # Those of a cluster that has ended went with it.
    for loss in usage.lost if facts.ended is None else ():
        if loss.reason != "memory_limit" and loss.text:
            more = f" (and {loss.count - 1} more)" if loss.count > 1 else ""
            yield f"{_capital(loss.text)}{more}"


def _failed_tasks(facts: Facts) -> Iterator[str]:
    usage = facts.usage
    if usage is None or not usage.errors:
        return
    for failed in usage.errors:
        shown = f"{failed.kind}: {failed.text}" if failed.text else failed.kind
        tasks = counted(failed.count, "task")
        if failed.where == "scheduler":
            yield f"The scheduler could not read a graph of the program: {shown}"
        elif failed.kind == "KilledWorker":
            lost = "its worker was lost with each try"
            yield f"{tasks} failed with KilledWorker, as {lost}: {failed.text}"
            if not facts.lost("memory_limit", "killed", "exited"):
                yield "The workers' logs say why; if it was their memory, claim more worker_memory"
        else:
            yield f"{tasks} failed with {shown}"
        yield from _likely_cause(facts, failed)
    if text := differences(installed_versions(), usage.versions):
        yield _capital(text)


def _likely_cause(facts: Facts, failed: Failed) -> Iterator[str]:
    # Another text is of a module that is there, and lacks a name or is no package.
    if lacking := re.fullmatch(r"No module named '(\w+)([.\w]*)'", failed.text):
        name = lacking[1]
        place = module_here(facts.command, name)
        if lacking[2] and place == INSTALLED and facts.same_machine:
            return  # the package is there, and has no such part
        if place == A_FILE:
            yield f"{name} is a file beside the command: client.upload_file sends it to the cluster"
        elif facts.same_machine:
            yield f"The workers run with {sys.executable}: install {name} there"
        elif place:
            lacks = f"; {facts.claim.image} lacks it" if facts.claim.image else ""
            yield (
                f"{name} is {place} here, and not on the {failed.where}: claim an `image` that has "
                f"it{lacks}"
            )
        else:
            yield f"{name} is not in dask-claim's environment, either: claim an `image` that has it"
    elif failed.kind in ("FileNotFoundError", "PermissionError") and ": " in failed.text:
        path = failed.text.partition(": ")[2]
        if not facts.same_machine and os.path.exists(path):
            yield (
                f"{path} is there on this machine, and not on the workers: they share no disk. "
                "Mount it there, or read it by URL"
            )


def _spilled(facts: Facts) -> Iterator[str]:
    if facts.usage and facts.usage.spilled >= SPILLED_MUCH:
        yield (
            f"Up to {gib(facts.usage.spilled)} of results lay on the workers' disks, for their "
            "memory was full: claim more worker_memory or more workers"
        )


def _interrupted(facts: Facts, done: str) -> str:
    return f"{_name(facts.signal)} ended the {'command' if facts.command else 'block'}{done}"


def _capital(text: str) -> str:
    return text[0].upper() + text[1:]


def _name(signum: int | None) -> str:
    try:
        return signal.Signals(signum or 0).name
    except ValueError:
        return f"signal {signum}"


def _shown_size(size: int) -> str:
    return f"{size / 2**30:.3g} GiB" if size >= 2**30 else f"{size / 2**20:.0f} MiB"


def _double(size: int) -> str:
    """Twice so many bytes, as a claim says it."""
    twice = 2 * size
    return f"{round(twice / 2**30)} G" if twice >= 2**31 else f"{round(twice / 2**20)} M"
