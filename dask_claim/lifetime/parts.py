"""What each of the runs on a shared cluster has used, and what has befallen it there.

A run's tasks are known by its clients, whose names have its id. Time and cores of the workers are
shared out equally among the runs that are there. It crosses to the scheduler by value.
"""

from __future__ import annotations

from collections.abc import Mapping
from time import monotonic
from typing import Any

from dask_claim.lifetime.lease_plugin import LeasePlugin
from dask_claim.providers.troubles import Troubles


class Part:
    """What one run of a shared cluster asks for, and its part in what the cluster has done."""

    def __init__(self, terms: Mapping[str, Any], scheduler: Any) -> None:
        self.troubles = Troubles(scheduler)
        for worker in scheduler.workers:
            self.troubles.came(worker)
        self.out_of_memory: tuple[str, int, int] | None = None
        self.lost_by_others = 0
        self.minimum, self.maximum = int(terms["minimum"]), int(terms["maximum"])
        self.most, self.keep = terms.get("most"), float(terms["keep"])
        self.joined = bool(terms.get("joined"))
        self.worker_seconds = self.core_seconds = self.busy = 0.0
        self.total = self.done = self.failed = 0
        self.shut_down = False


class PartedLease(LeasePlugin):
    """A lease that counts for each run that holds it what is its own."""

    def start(self, scheduler: Any) -> None:
        self._parts: dict[str, Part] = {}
        self._owners: dict[Any, str] = {}
        self._blamed: dict[str, set[str]] = {}
        self._counted = monotonic()
        super().start(scheduler)

    def _count(self) -> None:
        """Share the time since the last count out among the runs that were there."""
        now = monotonic()
        seconds, self._counted = now - self._counted, now
        for part in self._parts.values():
            workers = seconds * len(self._since) / len(self._parts)
            cores = seconds * sum(cores for _, cores in self._since.values()) / len(self._parts)
            part.worker_seconds += workers
            part.core_seconds += cores

    def add_worker(self, scheduler: Any, worker: str) -> None:
        self._count()
        super().add_worker(scheduler, worker)
        for part in self._parts.values():
            part.troubles.came(worker)

    def remove_worker(self, scheduler: Any, worker: str, **more: Any) -> None:
        self._count()
        super().remove_worker(scheduler, worker, **more)

    def update_graph(self, scheduler: Any, *, client: str = "", tasks: Any = (), **_: Any) -> None:
        if (owner := self._run_of(client)) is not None:
            new = [key for key in tasks if key not in self._owners]
            self._owners.update(dict.fromkeys(new, owner))
            self._parts[owner].total += len(new)

    def _run_of(self, client: str) -> str | None:
        """Return the run whose command has made a client: its id is in the client's name."""
        named = next((name for name in self._parts if f"-{name}-" in client), None)
        return next(iter(self._parts)) if named is None and len(self._parts) == 1 else named

    def transition(self, key: Any, start: str, finish: str, *more: Any, **terms: Any) -> None:
        before = self._done, self._failed, self._busy
        super().transition(key, start, finish, *more, **terms)
        if (part := self._parts.get(self._owners.get(key, ""))) is not None:
            part.done += self._done - before[0]
            part.failed += self._failed - before[1]
            part.busy += self._busy - before[2]
        if finish == "forgotten":
            self._owners.pop(key, None)

    def troubles_of(self, key: Any) -> Troubles:
        part = self._parts.get(self._owners.get(key, ""))
        return self.troubles if part is None else part.troubles

    def log_event(self, topic: str, event: Any) -> None:
        removed = isinstance(event, dict) and event.get("action") == "remove-worker"
        before = self._losses() if removed else 0
        super().log_event(topic, event)
        if not isinstance(event, dict) or (removed and topic != "all"):
            return  # a removal comes under this topic, too
        worker = str(event.get("worker", ""))
        if event.get("action") == "update-graph":
            if topic == "scheduler":
                return  # it comes under the client's name, too
            topic, event = "scheduler", {**event, "client": topic}
        owners = self._doers(topic, event, worker)
        for name, part in self._parts.items():
            if not owners or name in owners:
                part.troubles.hear(topic, event)
                if topic == "worker-restart-memory":
                    part.out_of_memory = part.out_of_memory or self._exceeded(worker, event)
            elif removed:
                part.troubles.forget(worker)
                part.lost_by_others += self._losses() - before

    def _doers(self, topic: str, event: Mapping[str, Any], worker: str) -> set[str]:
        """Return the runs that have to do with an event; empty: all of them, or nobody can tell.

        Of a worker that is killed those whose tasks it had at that moment.
        """
        keys = event.get("processing-tasks") or ()
        if topic == "worker-restart-memory" and (state := self._scheduler.workers.get(worker)):
            keys = [task.key for task in state.processing]
        runs = {self._owners.get(key) for key in keys} | self._blamed.pop(worker, set())
        if "client" in event:
            runs.add(self._run_of(str(event["client"])))
        known = {run for run in runs if run is not None}
        if topic == "worker-restart-memory":
            self._blamed[worker] = known
        return known

    def _exceeded(self, worker: str, event: Mapping[str, Any]) -> tuple[str, int, int]:
        state = self._scheduler.workers.get(worker)
        return worker, int(event.get("rss", 0)), int((state.memory_limit if state else 0) or 0)

    def _losses(self) -> int:
        return sum(loss[1] for loss in self.troubles.lost())

    def usage_of(self, holder: str) -> dict[str, Any]:
        """Return what the cluster has done, with the run's own part in place of the whole."""
        self._count()
        usage, part = self.usage(), self._parts.get(holder)
        if part is None:
            return usage
        states = self._scheduler.workers.values()
        under_way = (self._owners.get(task.key) for state in states for task in state.processing)
        return {
            **usage,
            "worker_seconds": part.worker_seconds,
            "core_seconds": part.core_seconds,
            "tasks_done": part.done,
            "tasks_failed": part.failed,
            "tasks_total": max(part.total, part.done + part.failed),
            "processing": sum(owner == holder for owner in under_way),
            "busy_seconds": part.busy,
            "lost": part.troubles.lost(),
            "errors": part.troubles.errors(),
            "out_of_memory": part.out_of_memory,
        }
