"""What goes wrong on a cluster, as its scheduler sees it: workers are lost, and tasks fail.

A part of `meter`, and sent by value with it: it imports nothing but the standard library.
"""

from __future__ import annotations

import ast
import pickletools
import re
import signal
import sys
from typing import Any

KINDS = 10
"""Kinds of failures that are kept, each with its first example."""

LOSSES = 10_000
LONGEST = 300
"""Characters of an example."""

LARGEST = 2**16
"""Bytes of a pickle that are looked at."""

GIB = 2**30
# From the least to the most telling: later news of a loss counts only if it says more.
RANK = ("connection_lost", "closed", "silent", "exited", "killed", "memory_limit")
_CLASS = re.compile(r"([A-Za-z_][\w.]*)\(")


class Record:
    """What is known of a worker, and why it will be gone, or is."""

    def __init__(self, state: Any) -> None:
        self.state = state
        self.reason, self.text = RANK[0], ""


class Troubles:
    """Counts losses and failures, by the scheduler's own events."""

    def __init__(self, scheduler: Any) -> None:
        self._scheduler = scheduler
        self._records: dict[str, Record] = {}
        """Of the workers that are there, and of those that were lost."""

        self._losses: list[Record] = []
        self._failures: dict[tuple[str, str], list[Any]] = {}
        self.memory_peak = 0
        """Bytes of the fullest worker that was killed for them: it can tell no more itself."""

    def came(self, worker: str) -> None:
        """A worker has registered."""
        self._records[worker] = Record(self._scheduler.workers[worker])

    def forget(self, worker: str) -> None:
        """What becomes of a worker is of no concern."""
        self._records.pop(worker, None)

    def hear(self, topic: str, event: Any) -> None:
        """Something is written to the scheduler's log of events."""
        if not isinstance(event, dict):
            return
        action = event.get("action")
        if topic == "worker-restart-memory":
            self.killed_for_memory(str(event.get("worker", "")), int(event.get("rss", 0)))
        elif action == "worker-status-change" and str(event.get("status")).startswith("clos"):
            self.learn(topic, "closed", "was closed while it had tasks or their results")
        elif action == "worker-ttl-timed-out":
            for worker in event.get("workers", ()):
                self.learn(worker, "silent", f"was not heard for {event.get('ttl')} s")
        elif action == "remove-worker" and topic == "all":
            self._removed(event)
        elif action == "update-graph" and topic == "scheduler" and event.get("status") == "error":
            # The event does not say why; it is written while the error is handled.
            self._fail_on_scheduler(sys.exc_info()[1])

    def killed_for_memory(self, worker: str, used: int) -> None:
        """A nanny ends its worker, which has reached the limit of its memory."""
        self.memory_peak = max(self.memory_peak, used)
        record = self._records.get(worker)
        limit = getattr(record and record.state, "memory_limit", 0)
        size = f": {used / GIB:.2f} of {limit / GIB:.2f} GiB" if limit else ""
        self.learn(worker, "memory_limit", f"was killed at its memory limit{size}")

    def process_ended(self, worker: str, status: int) -> None:
        """The process of a worker has ended, by its nanny in this process."""
        if status < 0:
            try:
                name = signal.Signals(-status).name
            except ValueError:
                name = f"signal {-status}"
            self.learn(worker, "killed", f"had a process that was killed by {name}")
        elif status:
            self.learn(worker, "exited", f"had a process that ended with status {status}")

    def learn(self, worker: str, reason: str, text: str) -> None:
        """Note why a worker is about to be lost, or was; `text` follows its name."""
        record = self._records.get(worker)
        if record is not None and RANK.index(reason) > RANK.index(record.reason):
            record.reason, record.text = reason, f"worker {worker} {text}"

    def _removed(self, event: dict[str, Any]) -> None:
        worker = str(event.get("worker", ""))
        record = self._records.get(worker)
        if record is None or record.state is None:
            return
        in_order = event.get("expected") or str(event.get("stimulus_id")).startswith(
            ("retire-workers", "client-restart", "restart-workers")
        )
        if record.reason == "closed":
            in_order = in_order or not (
                event.get("processing-tasks") or event.get("lost-computed-tasks")
            )
        ends = self._scheduler.status.name in ("closing", "closed")
        if ends or len(self._losses) >= LOSSES or (in_order and record.reason in RANK[:2]):
            self.forget(worker)
            return
        record.text, record.state = record.text or _last_seen(record.state), None
        self._losses.append(record)

    def failed(self, key: Any, text: str | None, exception: Any = None) -> None:
        """A task has failed for good; `text` is its exception's `repr`, None of a scheduler's."""
        if text is None:
            # The scheduler's own errors come without a text: no other one is a pickle of its own.
            task = self._scheduler.tasks.get(key)
            self._count("KilledWorker", task.prefix.name if task is not None else "", "workers")
            return
        text = text[:LONGEST]
        shown = _CLASS.match(text)
        kind, words = (shown[1], _arguments(text[shown.end() :])) if shown else ("Exception", text)
        first = (kind, "workers") not in self._failures
        if first and kind in ("FileNotFoundError", "PermissionError"):
            words = ": ".join(filter(None, (words, _path(exception))))
        self._count(kind, words, "workers")

    def _fail_on_scheduler(self, error: BaseException | None) -> None:
        # Dask raises an error of its own from the first one.
        while error is not None and error.__cause__ is not None:
            error = error.__cause__
        if error is not None:
            self._count(type(error).__name__, str(error), "scheduler")

    def _count(self, kind: str, text: str, where: str) -> None:
        if len(self._failures) >= KINDS and (kind, where) not in self._failures:
            kind, text = "other", ""
        counted = self._failures.setdefault((kind, where), [kind, 0, text[:LONGEST], where])
        counted[1] += 1

    def lost(self) -> list[list[Any]]:
        """Return reason, count and an example of each reason for which workers were lost."""
        reasons: dict[str, list[Any]] = {}
        for loss in self._losses:
            reasons.setdefault(loss.reason, [loss.reason, 0, loss.text[:LONGEST]])[1] += 1
        return list(reasons.values())

    def errors(self) -> list[list[Any]]:
        """Return kind, count, an example and the place of each kind of failure."""
        return list(self._failures.values())


def _last_seen(state: Any) -> str:
    used, limit = state.metrics.get("memory", 0), state.memory_limit or 0
    size = f" of {limit / GIB:.2f}" if limit else ""
    return (
        f"worker {state.address} was lost: {used / GIB:.2f}{size} GiB in use when it was last heard"
    )


def _arguments(shown: str) -> str:
    """Return the arguments of an exception in words: `"No module named 'x'")` without quotes."""
    shown = shown.removesuffix(")")
    try:
        values = ast.literal_eval(f"({shown},)") if shown else ()
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return shown
    # The number of a system's error says nothing beside its text.
    return ": ".join(str(value) for value in values if not isinstance(value, int))


def _path(exception: Any) -> str | None:
    """Return the file's name in the pickle of an OSError, of which nothing is executed."""
    try:
        data = b"".join(bytes(frame) for frame in exception.frames)[:LARGEST]
        texts = [text for _, text, _ in pickletools.genops(data) if isinstance(text, str)]
    except Exception:
        return None
    # An attribute where `tblib` pickles errors; else after module, class and the error's text.
    for name, offset in (("filename", 1), ("builtins", 3)):
        if name in texts and len(texts) > (place := texts.index(name) + offset):
            return texts[place]
    return None
