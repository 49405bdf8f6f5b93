"""A plugin of the scheduler that counts what its cluster does.

The process that holds a local cluster has it beside its scheduler; to other schedulers the lease
takes it, by value: it imports nothing but Dask, `troubles` and `versions`, and nothing that an old
Dask lacks. Whatever it cannot tell it leaves out: nothing here may disturb a scheduler.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from time import monotonic
from typing import Any

from distributed.diagnostics.plugin import SchedulerPlugin
from tornado.ioloop import PeriodicCallback

from dask_claim.providers.troubles import Troubles
from dask_claim.providers.versions import SCHEDULER, WORKERS, installed_versions, versions_in

LOOK_EVERY = 1000
"""Milliseconds between two looks at the memory of the workers."""

UNFINISHED = ("waiting", "processing", "queued", "no-worker")


class Meter(SchedulerPlugin):  # type: ignore[misc]
    """Counts from the scheduler's start on, also where it comes later."""

    def __init__(self, on_change: Callable[[], None] | None = None) -> None:
        """`on_change` is called when workers come or go, or something is worth a warning."""
        self._on_change = on_change

    def start(self, scheduler: Any) -> None:
        self._scheduler = scheduler
        self._since: dict[str, tuple[float, int]] = {}
        self._peak = self._done = self._failed = 0
        self._worker_seconds = self._core_seconds = 0.0
        self._gave_up: tuple[int, str] | None = None
        self._busy = 0.0
        self._unfinished: dict[str, int] = {}
        self._memory_used = self._memory_peak = self._cluster_memory_peak = self._spilled = 0
        self._versions = installed_versions()
        self.troubles = Troubles(scheduler)
        for address in scheduler.workers:
            self.add_worker(scheduler, address)
        # A short command may be through before this plugin is there.
        for transition in scheduler.transition_log:
            self.transition(*transition[:3])
        states = Counter(task.state for task in scheduler.tasks.values())
        # Kept by hand: each task that a program submits alone is a group of the scheduler's.
        self._unfinished = {state: states[state] for state in UNFINISHED}
        for erred in reversed(scheduler.erred_tasks):
            if erred.exception_text:
                self.troubles.failed(erred.key, erred.exception_text)
        looking = PeriodicCallback(self._note_peaks, LOOK_EVERY)
        # The scheduler stops these when it closes.
        scheduler.periodic_callbacks["dask-claim-meter"] = looking
        looking.start()

    def _changed(self) -> None:
        if self._on_change is not None:
            self._on_change()

    def add_worker(self, scheduler: Any, worker: str) -> None:
        self._since[worker] = (monotonic(), scheduler.workers[worker].nthreads)
        self._peak = max(self._peak, len(self._since))
        self.troubles.came(worker)
        self._changed()

    def remove_worker(self, scheduler: Any, worker: str, **_: Any) -> None:
        since, cores = self._since.pop(worker, (monotonic(), 0))
        seconds = monotonic() - since
        self._worker_seconds += seconds
        self._core_seconds += seconds * cores
        self._changed()

    def transition(self, key: Any, start: str, finish: str, *_: Any, **of: Any) -> None:
        if start in self._unfinished:
            self._unfinished[start] -= 1
        if finish in self._unfinished:
            self._unfinished[finish] += 1
        if start != "processing" or finish not in ("memory", "erred"):
            return
        self._done += finish == "memory"
        self._failed += finish == "erred"
        for part in of.get("startstops") or ():
            if part.get("action") == "compute":
                self._busy += max(part["stop"] - part["start"], 0.0)
        if finish == "erred" and "exception" in of:
            self.troubles_of(key).failed(key, of.get("exception_text"), of["exception"])

    def troubles_of(self, key: Any) -> Troubles:
        """Return where the failure of a task is counted."""
        return self.troubles

    def log_event(self, topic: str, event: Any) -> None:
        self.troubles.hear(topic, event)
        exceeded = "no-workers-timeout-exceeded"
        if topic == "scheduler" and isinstance(event, dict) and event.get("action") == exceeded:
            tasks = [self._scheduler.tasks.get(key) for key in event["keys"]]
            resources = [task.resource_restrictions for task in tasks if task is not None]
            count, before = self._gave_up or (0, "")
            needed = next((f"{dict(one)}" for one in resources if one), "")
            self._gave_up = count + len(tasks), needed or before
            self._failed += len(tasks)
            self._changed()

    def _note_peaks(self) -> None:
        states = self._scheduler.workers.values()
        used = [int(state.metrics.get("memory", 0)) for state in states]
        spilled = [state.metrics.get("spilled_bytes") or {} for state in states]
        self._memory_used = sum(used)
        peak = self._memory_peak = max([self._memory_peak, self.troubles.memory_peak, *used])
        self._cluster_memory_peak = max(self._cluster_memory_peak, self._memory_used, peak)
        self._spilled = max(self._spilled, sum(int(each.get("disk", 0)) for each in spilled))

    def usage(self) -> dict[str, Any]:
        """Return the fields of `usage.Usage`."""
        now, scheduler = monotonic(), self._scheduler
        try:
            more = self._more()
        except Exception:
            # A Dask that keeps one of these elsewhere.
            more = {}
        running = [(now - since, cores) for since, cores in self._since.values()]
        states = list(scheduler.workers.values())
        versions = {SCHEDULER: self._versions}
        for state in states[:1]:
            # One speaks for all: they are made of the same image.
            versions[WORKERS] = versions_in(getattr(state, "versions", None) or {})
        return {
            "workers": len(running),
            "peak": self._peak,
            "cores": sum(cores for _, cores in running),
            "memory": sum(state.memory_limit or 0 for state in states),
            "worker_seconds": self._worker_seconds + sum(seconds for seconds, _ in running),
            "core_seconds": self._core_seconds + sum(seconds * cores for seconds, cores in running),
            "tasks_done": self._done,
            "tasks_failed": self._failed,
            "waiting": len(scheduler.unrunnable) + len(getattr(scheduler, "queued", ())),
            "gave_up": self._gave_up,
            "no_workers_timeout": self._no_workers_timeout(),
            "versions": versions,
            **more,
        }

    def _more(self) -> dict[str, Any]:
        self._note_peaks()
        scheduler = self._scheduler
        return {
            "unrunnable": len(scheduler.unrunnable),
            "needs": next(map(_needs, scheduler.unrunnable), ""),
            "paused": sum(each.status.name == "paused" for each in scheduler.workers.values()),
            "memory_used": self._memory_used,
            "tasks_total": self._done + self._failed + sum(self._unfinished.values()),
            "processing": self._unfinished["processing"],
            "busy_seconds": self._busy + self._under_way(),
            "memory_peak": self._memory_peak,
            "cluster_memory_peak": self._cluster_memory_peak,
            "spilled": self._spilled,
            "lost": self.troubles.lost(),
            "errors": self.troubles.errors(),
        }

    def _under_way(self) -> float:
        """Return the seconds that unfinished tasks take so far, by the workers' last heartbeats."""
        return sum(
            float(seconds)
            for state in self._scheduler.workers.values()
            for task, seconds in state.executing.items()
            if task.state == "processing"
        )

    def _no_workers_timeout(self) -> float | None:
        from distributed import scheduler as module

        # Older ones have the setting, too, but end the whole cluster.
        if not hasattr(module, "NoValidWorkerError"):
            return None
        return getattr(self._scheduler, "no_workers_timeout", None)


def _needs(task: Any) -> str:
    """What a task asks of its worker, in words; empty where any will do."""
    if task.resource_restrictions:
        return f"the resources {dict(task.resource_restrictions)}"
    places = task.worker_restrictions or task.host_restrictions
    return f"the address {', '.join(sorted(map(str, places)))[:200]}" if places else ""
