"""How a run ended, in one word and a few lines: by the facts of it alone."""

from __future__ import annotations

import signal
from dataclasses import replace
from typing import Any

import pytest

from dask_claim.claim.model import Claim
from dask_claim.errors import DaskClaimError, LimitReached, Reason, StartTimeout
from dask_claim.launch.events import Events
from dask_claim.launch.explanation import MOST, explain
from dask_claim.launch.facts import Facts
from dask_claim.launch.run_state import RunState
from dask_claim.launch.signals import Interrupted
from dask_claim.providers.usage import Failed, Lost, Usage
from dask_claim.providers.values import Ended
from tests.test_events import validate

IDLE = Usage(2, 2, 4, 2 * 2**31, 60.0, 120.0, 8, 0, tasks_total=12)
MEMORY = Lost("memory_limit", 4, "tls://w was killed at its memory limit: 0.97 of 1.00 GiB")
MODULE = Failed("ModuleNotFoundError", 2, "No module named 'burnscars.errors'")
PART = Failed("ModuleNotFoundError", 2, "No module named 'json.errors'")
BESIDE = Failed("ModuleNotFoundError", 2, "No module named 'test_explanation'")
NO_NAME = Failed("ImportError", 2, "cannot import name 'x' from 'y'")
NO_FILE = Failed("FileNotFoundError", 3, "No such file or directory: /data/scene.tif")
A_FILE_HERE = Failed("FileNotFoundError", 3, f"No such file or directory: {__file__}")
CLAIM: dict[str, Any] = {"gateway_url": "http://127.0.0.1:1/", "image": "site/dask:1"}
FACTS = Facts(Claim.model_validate(CLAIM), 1, True, ["x"], usage=IDLE, of_gateway=True)


def ended(**facts: Any) -> Facts:
    return replace(FACTS, **facts)


def used(**usage: Any) -> Facts:
    return replace(FACTS, usage=replace(IDLE, **usage))


HUP, QUIT = signal.SIGHUP, signal.SIGQUIT
TERM, INT, KILL, SEGV = signal.SIGTERM, signal.SIGINT, signal.SIGKILL, signal.SIGSEGV
SLOW = DaskClaimError("the max_lifetime of 60 s is reached", Reason.LIFETIME)
WALL = DaskClaimError("this job's walltime ends", Reason.WALLTIME)
LIVING = Claim.model_validate({**CLAIM, "max_lifetime": 60})
GONE = DaskClaimError("the program was gone before its block had ended", Reason.COMMAND_KILLED)
CASES = {
    "well": (ended(status=0), None, []),
    "well, but": (
        replace(used(lost=[MEMORY], spilled=2**30), status=0, worker_memory=2**30), None,
        ["4 workers were killed at their memory limit of 1 GiB"],
    ),
    "by itself": (
        ended(), Reason.COMMAND_FAILED,
        ["status 1; its cluster saw no failed task, so the cause is in the command's own messages"],
    ),
    "block": (
        ended(command=()), Reason.COMMAND_FAILED,
        ["The block ended with status 1; its cluster saw no failed task, so the cause is in the "
         "program's own messages"],
    ),
    "program killed": (ended(command=(), cause=GONE), Reason.COMMAND_KILLED, ["The program was"]),
    "program killed for its memory": (
        ended(command=(), cause=GONE, memory="The limit of 2 GiB killed a process here"),
        Reason.MEMORY_LIMIT, ["The limit of 2 GiB killed a process here"],
    ),
    "no report": (ended(usage=None), Reason.COMMAND_FAILED, []),
    "workers' memory": (
        replace(used(lost=[MEMORY], errors=[Failed("KilledWorker", 1, "fill")]),
                worker_memory=2**30),
        Reason.WORKER_MEMORY,
        ["4 workers were killed at their memory limit of 1 GiB", "`worker_memory: 2 G`",
         "1 task failed with KilledWorker, as its worker was lost with each try: fill"],
    ),
    "workers' memory here": (
        replace(used(lost=[MEMORY]), same_machine=True), Reason.WORKER_MEMORY,
        ["4 workers were killed", "Claim more worker_memory, with fewer workers on this machine"],
    ),
    "spilled": (
        used(spilled=3 * 2**30), Reason.COMMAND_FAILED,
        ["saw no failed task", "Up to 3.0 GiB of results lay on the workers' disks"],
    ),
    "module": (
        used(tasks_failed=2, errors=[PART]), Reason.COMMAND_FAILED,
        ["2 tasks failed with ModuleNotFoundError: No module named 'json.errors'",
         "json is installed here, and not on the workers: claim an `image` that has it; "
         "site/dask:1 lacks it"],
    ),
    "module nowhere": (
        used(errors=[MODULE]), Reason.COMMAND_FAILED,
        ["2 tasks failed", "burnscars is not in dask-claim's environment, either"],
    ),
    "module here": (
        replace(used(errors=[MODULE]), same_machine=True), Reason.COMMAND_FAILED,
        ["2 tasks failed", "install burnscars there"],
    ),
    "module beside the command": (
        replace(used(errors=[BESIDE]), same_machine=True, command=[__file__]),
        Reason.COMMAND_FAILED,
        ["2 tasks failed", "test_explanation is a file beside the command: client.upload_file"],
    ),
    "no name in a module": (
        replace(used(errors=[NO_NAME]), same_machine=True), Reason.COMMAND_FAILED,
        ["2 tasks failed with ImportError: cannot import name 'x' from 'y'"],
    ),
    "graph, versions": (
        used(errors=[Failed("ModuleNotFoundError", 1, "No module named 'x'", "scheduler")],
             versions={"the scheduler": {"distributed": "2024.1.0"}}),
        Reason.COMMAND_FAILED,
        ["The scheduler could not read a graph of the program: ModuleNotFoundError: No module",
         "x is not in dask-claim's environment, either", "Different versions: distributed "],
    ),
    "file": (
        used(errors=[A_FILE_HERE]), Reason.COMMAND_FAILED,
        ["3 tasks failed with FileNotFoundError", "test_explanation.py is there on this "
         "machine, and not on the workers: they share no disk"],
    ),
    "file nowhere": (used(errors=[NO_FILE]), Reason.COMMAND_FAILED, ["3 tasks failed"]),
    "crash": (
        ended(status=139, ended_by=SEGV), Reason.COMMAND_KILLED, ["The command died of SIGSEGV"],
    ),
    "killed": (
        ended(status=137, ended_by=KILL), Reason.COMMAND_KILLED, ["died of SIGKILL, which"],
    ),
    "killed at the limit": (
        ended(status=137, ended_by=KILL, memory="the command was killed by the kernel"),
        Reason.MEMORY_LIMIT, ["killed by the kernel. Grant this container"],
    ),
    "Ctrl-C": (ended(status=130, ended_by=INT), Reason.INTERRUPTED, ["SIGINT ended the command"]),
    "Ctrl-C, of no worker": (
        ended(status=130, ended_by=INT, in_vain="3 tasks wait"), Reason.INTERRUPTED,
        ["SIGINT ended the command", "Tasks waited in vain: 3 tasks wait"],
    ),
    "waited in vain": (
        ended(in_vain="1 task waits"), Reason.NO_WORKERS, ["Tasks waited in vain: 1 task waits"],
    ),
    "waited, and failed otherwise": (
        replace(used(errors=[NO_NAME]), in_vain="1 task waits"), Reason.COMMAND_FAILED,
        ["2 tasks failed with ImportError"],
    ),
    "no part of a package": (
        replace(used(errors=[PART]), same_machine=True),
        Reason.COMMAND_FAILED, ["2 tasks failed"],
    ),
    "SIGTERM, handled": (
        ended(passed_on=[signal.SIGUSR1, TERM]), Reason.INTERRUPTED,
        ["SIGTERM ended the command with 8 of 12 tasks done"],
    ),
    "SIGUSR1, of no use": (
        ended(status=138, ended_by=signal.SIGUSR1, passed_on=[signal.SIGUSR1]), Reason.INTERRUPTED,
        ["SIGUSR1 ended the command"],
    ),
    "SIGUSR1, handled": (
        ended(passed_on=[signal.SIGUSR1]), Reason.COMMAND_FAILED, ["saw no failed task"],
    ),
    "the program around": (
        ended(cause=Interrupted.by(TERM, "for the program")), Reason.INTERRUPTED, ["SIGTERM ended"],
    ),
    "cluster lost": (
        replace(used(lost=[Lost("closed", 2, "worker tls://w was closed")]),
                ended=Ended("was ended by somebody else")), Reason.CLUSTER_LOST,
        ["The cluster was ended by somebody else; the command ended with status 1 with 8 of 12"],
    ),
    "cluster out of reach": (
        ended(cut_off=True), Reason.CLUSTER_LOST, ["the scheduler takes no connection any more"],
    ),
    "closed by the program": (
        ended(ended=Ended("was shut down by a client", ordinary=True)), Reason.COMMAND_FAILED,
        ["saw no failed task"],
    ),
    "no worker": (
        used(workers=0, peak=0, waiting=3), Reason.NO_WORKERS,
        ["No worker ever came, and 3 tasks waited for one"],
    ),
    "gave up": (used(gave_up=(3, "{'GPU': 1}"), tasks_failed=3), Reason.NO_WORKERS,
        ["3 tasks failed, for no worker came that could run them; they need {'GPU': 1}"]),
    "lost otherwise": (
        used(lost=[Lost("connection_lost", 2, "worker tls://w was lost: 0.9 of 1.00 GiB in use")]),
        Reason.COMMAND_FAILED,
        ["saw no failed task", "Worker tls://w was lost: 0.9 of 1.00 GiB in use (and"],
    ),
    "killed workers": (
        used(lost=[Lost("connection_lost", 4, "worker tls://w was lost: 0.1 GiB in use")],
             tasks_failed=1, errors=[Failed("KilledWorker", 1, "fill")]),
        Reason.COMMAND_FAILED,
        ["Worker tls://w was lost: 0.1 GiB in use (and 3 more)", "failed with KilledWorker",
         "The workers' logs say why"],
    ),
    "lifetime": (
        ended(cause=SLOW, status=124, claim=LIVING), Reason.LIFETIME,
        ["max_lifetime of 60 s was reached with 8 of 12 tasks done", "Claim a longer max_lifetime"],
    ),
    "walltime": (
        ended(cause=WALL, status=75), Reason.WALLTIME,
        ["walltime of the job around this run was reached", "a longer walltime"],
    ),
    "not started": (
        ended(cause=LimitReached("2 clusters"), started=False, usage=None), Reason.LIMIT_REACHED,
        ["`dask-claim clusters stop NAME` ends one", "`fallback: local`"],
    ),
    "no worker in time": (
        ended(cause=StartTimeout("not up", Reason.NO_WORKERS), started=False), Reason.NO_WORKERS,
        ["not be there: site/dask:1", "dask-claim doctor --start", "`fallback: local`"],
    ),
    "image": (
        ended(cause=StartTimeout("not up"), started=False, usage=None), Reason.START_TIMEOUT,
        ["not be there: site/dask:1", "dask-claim doctor --start", "`fallback: local`"],
    ),
}  # fmt: skip


@pytest.mark.parametrize(("facts", "reason", "told"), CASES.values(), ids=CASES)
def test_each_end_has_its_reason_and_its_lines(
    facts: Facts, reason: Reason | None, told: list[str]
) -> None:
    explanation = explain(facts)
    assert explanation.reason == (reason and reason.value)
    assert len(explanation.lines) == len(told), explanation.lines
    validate(explanation)
    for line, words in zip(explanation.lines, told, strict=True):
        assert words in line


@pytest.mark.parametrize(("status", "ends"), [(4, [TERM, QUIT]), (129, [HUP, TERM, QUIT])])
def test_a_signal_that_the_command_survives_has_not_ended_it(
    status: int, ends: list[signal.Signals], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A SIGTERM is followed by SIGKILL: whatever the command does in between is its end."""
    state = RunState(15, Events([]))
    monkeypatch.setattr("dask_claim.launch.run_state.monotonic", lambda: 20.0)
    state.passed_on = {HUP: 1.0, TERM: 2.0, INT: 3.0, QUIT: 7.0}
    state.command_ended(status)
    state.terminal.close()
    assert list(state.passed_on) == ends


def test_lines_are_few_short_and_steer_no_terminal() -> None:
    """Whatever a scheduler says."""
    hostile = [Failed(f"E{n}\x1b[2J\n", 1, "x" * 5000 + "\n") for n in range(9)]
    lines = explain(used(errors=hostile, lost=[Lost("killed", 1, "\x1b]0;")])).lines
    assert len(lines) == MOST and all(len(line) <= 400 and line.isprintable() for line in lines)
