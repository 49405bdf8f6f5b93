"""A few lines on what happened in a run, why, and what would help; nothing without evidence."""

from __future__ import annotations

import re
import signal
import sys
from collections.abc import Iterator
from dataclasses import dataclass

from dask_claim.cgroup import MORE_MEMORY
from dask_claim.errors import Reason, printable
from dask_claim.launch.facts import A_FILE, INSTALLED, Facts, reason_of
from dask_claim.providers.usage import Failed
from dask_claim.providers.versions import differences, installed_versions

MOST = 6
"""Lines."""

LONGEST = 400
SPILLED_MUCH = 2**28
GIB = 2**30

ADVICE = {
    Reason.GATEWAY_UNREACHABLE: "`dask-claim doctor` looks at every part of the way to the gateway",
    Reason.CREDENTIALS_REFUSED: "`dask-claim doctor` shows which credentials are used, and for "
    "which address",
    Reason.NOT_A_GATEWAY: "`dask-claim doctor` shows what answers at the address",
    Reason.OPTION_REFUSED: "`dask-claim doctor` lists what the gateway offers",
    Reason.LIMIT_REACHED: "`dask-claim clusters` lists the clusters that are there, and "
    "`dask-claim clusters stop NAME` ends one",
    Reason.NO_RESOURCES: "Grant this container or user more of it, or claim fewer workers",
}
"""The next command to try where no cluster could be had."""

UNSTARTED = (Reason.CLUSTER_FAILED, Reason.START_TIMEOUT, Reason.NO_WORKERS)
"""Reasons for which a cluster that was accepted was of no use."""


REPLACED = (*UNSTARTED, Reason.GATEWAY_UNREACHABLE, Reason.LIMIT_REACHED)
"""Reasons for which a local cluster can take the place of a gateway's."""


WAITED = (Reason.NO_WORKERS, Reason.INTERRUPTED, Reason.LIFETIME, Reason.WALLTIME)
"""Reasons for the end of a command that may have waited in vain."""


@dataclass(frozen=True)
class Explanation:
    """Why a run ended as it did."""

    reason: Reason | None
    """None where it ended well."""

    lines: tuple[str, ...]


def explain(facts: Facts) -> Explanation:
    """Return the reason and its explanation."""
    reason = reason_of(facts)
    lines = [_shorten(printable(line)) for line in _lines(facts, reason)]
    # A run that ended well has at most one thing to learn from.
    return Explanation(reason, tuple(lines[: MOST if reason else 1]))


def _shorten(line: str) -> str:
    return line if len(line) <= LONGEST else f"{line[: LONGEST - 1]}…"


def _lines(facts: Facts, reason: Reason | None) -> Iterator[str]:
    if facts.started and reason is not None:
        yield from _end_of_command(facts, reason)
    if facts.cause is not None:
        yield from _no_cluster(facts, facts.cause.reason)
    if facts.started:
        yield from _lost_workers(facts)
        if reason is not None:
            yield from _failed_tasks(facts)
        yield from _spilled(facts)


def _no_cluster(facts: Facts, reason: Reason) -> Iterator[str]:
    """Only what would help: the error's own text is the last line of the run."""
    if reason in UNSTARTED:
        image = facts.claim.image
        if facts.of_gateway and image:
            yield f"The image may not start a Dask scheduler or worker, or not be there: {image}"
        if facts.of_gateway:
            yield (
                "The gateway's operator finds the cause in the events and logs of this cluster; "
                "`dask-claim doctor --start` tries a cluster of one worker"
            )
    elif reason in ADVICE:
        yield ADVICE[reason]
    if reason in REPLACED and facts.of_gateway and facts.claim.fallback != "local":
        yield "With `fallback: local` the command would run on this machine instead"


def _end_of_command(facts: Facts, reason: Reason) -> Iterator[str]:
    yield from _how_it_ended(facts, reason)
    if reason in WAITED and facts.in_vain:
        yield f"Tasks waited in vain: {facts.in_vain}"


def _how_it_ended(facts: Facts, reason: Reason) -> Iterator[str]:
    usage = facts.usage
    done = ""
    if usage and usage.tasks_total:
        done = f" with {usage.tasks_done} of {usage.tasks_total} tasks done"
    if reason is Reason.LIFETIME:
        yield f"The run's max_lifetime of {facts.claim.max_lifetime:g} s was over{done}"
        yield "Claim a longer max_lifetime, or more workers (max_workers)"
    elif reason is Reason.WALLTIME:
        yield f"The walltime of the job around this run was over{done}"
        yield "Give the job a longer walltime, or claim more workers (max_workers)"
    elif reason is Reason.INTERRUPTED:
        yield f"{_name(facts.signal)} ended the {facts.work}{done}"
    elif reason is Reason.MEMORY_LIMIT:
        yield f"{facts.memory or ''}. {MORE_MEMORY}"
    elif reason is Reason.COMMAND_KILLED and facts.cause:
        yield f"{str(facts.cause)[0].upper()}{str(facts.cause)[1:]}"
    elif reason is Reason.COMMAND_KILLED:
        yield (
            f"The command died of {_name(facts.ended_by)}, which dask-claim did not send: somebody "
            "else did, or the command itself (a crash)"
        )
    elif reason is Reason.CLUSTER_LOST:
        status = f"the {facts.work} ended with status {facts.status}{done}"
        if facts.ended is not None and not facts.ended.ordinary:
            yield f"The cluster {facts.ended.how}; {status}"
        else:
            away = "the scheduler takes no connection any more: it has died, or the way is cut"
            yield f"{status[0].upper()}{status[1:]}; {away}"
    elif reason is Reason.NO_WORKERS and usage and usage.gave_up:
        count, resources = usage.gave_up
        needed = f"; they need {resources}" if resources else ""
        yield f"{_tasks(count)} failed, for no worker came that could run them{needed}"
    elif reason is Reason.NO_WORKERS and usage and not usage.peak:
        waited = f", and {_tasks(usage.waiting)} waited for one" if usage.waiting else ""
        yield f"No worker ever came{waited}"
    elif reason is Reason.COMMAND_FAILED and usage and not (usage.tasks_failed or usage.errors):
        whose = "program" if facts.work == "block" else "command"
        yield (
            f"The {facts.work} ended with status {facts.status}; its cluster saw no failed task, "
            f"so the cause is in the {whose}'s own messages"
        )


def _lost_workers(facts: Facts) -> Iterator[str]:
    usage = facts.usage
    if usage is None:
        return
    if count := facts.lost("memory_limit"):
        size = facts.worker_memory
        limit = f" of {_shown_size(size)}" if size else ""
        died = "1 worker was" if count == 1 else f"{count} workers were"
        yield f"{died} killed at {'its' if count == 1 else 'their'} memory limit{limit}"
        more = f"`worker_memory: {_double(size)}`" if size else "more worker_memory"
        several = facts.same_machine and usage.peak > 1
        fewer = ", with fewer workers on this machine" if several else ""
        yield f"Claim {more}{fewer}, or give each task less to hold"
    # Those of a cluster that has ended went with it.
    for loss in usage.lost if facts.ended is None else ():
        if loss.reason != "memory_limit" and loss.text:
            more = f" (and {loss.count - 1} more)" if loss.count > 1 else ""
            yield f"{loss.text[0].upper()}{loss.text[1:]}{more}"


def _failed_tasks(facts: Facts) -> Iterator[str]:
    usage = facts.usage
    if usage is None:
        return
    for failed in usage.errors:
        if failed.where == "scheduler":
            yield f"The scheduler could not read a graph of the program: {_shown(failed)}"
        elif failed.kind == "KilledWorker":
            lost = "its worker was lost with each try"
            yield f"{_tasks(failed.count)} failed with KilledWorker, as {lost}: {failed.text}"
            if not facts.lost("memory_limit", "killed", "exited"):
                yield "The workers' logs say why; if it was their memory, claim more worker_memory"
        else:
            yield f"{_tasks(failed.count)} failed with {_shown(failed)}"
        yield from _likely_cause(facts, failed)
    if usage.errors and (text := differences(installed_versions(), usage.versions)):
        yield text[0].upper() + text[1:]


def _likely_cause(facts: Facts, failed: Failed) -> Iterator[str]:
    # Another text is of a module that is there, and lacks a name or is no package.
    if lacking := re.fullmatch(r"No module named '(\w+)([.\w]*)'", failed.text):
        name = lacking[1]
        place = facts.module_here(name)
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
        if not facts.same_machine and facts.file_here(path):
            yield (
                f"{path} is there on this machine, and not on the workers: they share no disk. "
                "Mount it there, or read it by URL"
            )


def _spilled(facts: Facts) -> Iterator[str]:
    if facts.usage and facts.usage.spilled >= SPILLED_MUCH:
        yield (
            f"Up to {facts.usage.spilled / GIB:.1f} GiB of results lay on the workers' disks, for "
            "their memory was full: claim more worker_memory or more workers"
        )


def _shown(failed: Failed) -> str:
    return f"{failed.kind}: {failed.text}" if failed.text else failed.kind


def _tasks(count: int) -> str:
    return "1 task" if count == 1 else f"{count} tasks"


def _name(signum: int | None) -> str:
    try:
        return signal.Signals(signum or 0).name
    except ValueError:
        return f"signal {signum}"


def _shown_size(size: int) -> str:
    return f"{size / GIB:.3g} GiB" if size >= GIB else f"{size / 2**20:.0f} MiB"


def _double(size: int) -> str:
    """Twice so many bytes, as a claim says it."""
    twice = 2 * size
    return f"{round(twice / GIB)} G" if twice >= 2 * GIB else f"{round(twice / 2**20)} M"
