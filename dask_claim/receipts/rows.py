"""One receipt as a row of a table."""

from __future__ import annotations

import os.path
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from dask_claim.processes import certainly_ended
from dask_claim.receipts.fields import ReceiptFields

INTERPRETER = re.compile(r"(i?python|pypy)[\d.]*|(ba|da|z|k)?sh|Rscript|julia|perl|node|papermill")
"""Programs whose script or notebook is what a person calls the program."""

WITH_VALUE = re.compile(r"-[WXIor]")
"""Options of theirs whose value is the next word."""

CODE = re.compile(r"-|-\w*c|-e")
"""What stands before code, or for code from standard input; `-e` is a flag of shells."""


@dataclass(frozen=True)
class Row:
    """What a table shows of one run; None where it is not known. Bytes and seconds."""

    file: str
    run: str | None
    program: str
    started: datetime | None
    wall: float | None
    state: str
    """As in the receipt, or `killed` where its launcher certainly is."""

    exit_status: int | None
    reason: str | None
    provider: str | None
    workers: int | None
    core_hours: float | None
    efficiency: float | None
    memory_peak: int | None
    """Of the fullest worker."""

    memory: int | None
    """That one worker had."""

    cluster_memory_peak: int | None
    spilled: int | None
    tasks_done: int | None
    tasks_failed: int | None
    lost: int | None
    lost_memory: int
    """Workers that were lost for their memory."""

    min_workers: int | None
    """That the plan allowed."""

    own_cluster: bool
    """Whether its size was this run's to choose."""

    @classmethod
    def of(cls, file: str, receipt: ReceiptFields) -> Row:
        """Take what is shown of a receipt."""
        workers, tasks, shared = receipt.workers, receipt.tasks, receipt.shared
        plan_minimum = (receipt.plan or {}).get("min_workers")
        lost = {each.reason: each.count for each in workers.lost} if workers else {}
        ended = receipt.state == "ended"
        killed = not ended and receipt.launcher and certainly_ended(receipt.launcher)
        same = ("run", "exit_status", "reason", "provider", "efficiency", "spilled")
        of_workers = ("core_hours", "memory", "memory_peak")
        return cls(
            file=file,
            program=program(receipt.command),
            started=min((at for _, at in receipt.timeline if at is not None), default=None),
            wall=receipt.duration if ended else None,
            state="killed" if killed else receipt.state,
            workers=workers.peak if workers else None,
            cluster_memory_peak=receipt.memory_peak,
            tasks_done=tasks.done if tasks else None,
            tasks_failed=tasks.failed if tasks else None,
            lost=sum(lost.values()) if workers else None,
            lost_memory=sum(count for reason, count in lost.items() if "memory" in reason),
            min_workers=plan_minimum if isinstance(plan_minimum, int) else None,
            own_cluster=not (receipt.adopted or receipt.attached or (shared and shared.runs != 1)),
            **{name: getattr(receipt, name) for name in same},
            **{name: getattr(workers, name, None) for name in of_workers},
        )

    def to_dict(self) -> dict[str, Any]:
        """The row as JSON types."""
        started = self.started.isoformat() if self.started else None
        return {**asdict(self), "started": started}


def program(command: Sequence[str]) -> str:
    """Return what a person calls a command: its script or module, else its name; no arguments.

    >>> program(["/usr/bin/python3", "-u", "work/bai.py", "--post", "x.json"])
    'bai.py'
    """
    if not command:
        return "connect()"
    name, words = os.path.basename(command[0]), list(command[1:])
    if not INTERPRETER.fullmatch(name):
        return name
    while words:
        word = words.pop(0)
        if word == "-m" and words:
            return words[0]
        if not word.startswith("-"):
            return os.path.basename(word) or name
        if CODE.fullmatch(word) and not (word == "-e" and name.endswith("sh")):
            return f"{name} {word}"
        if WITH_VALUE.fullmatch(word) and words:
            words.pop(0)
    return name
