"""What is said of a cluster while it runs, by its reports alone."""

from __future__ import annotations

from dataclasses import replace

import pytest

from dask_claim.claim.model import Claim
from dask_claim.launch.cluster_watch import ClusterWatch
from dask_claim.launch.events import Event, Events
from dask_claim.launch.reports import NoWorkers, Progress, WorkerLost
from dask_claim.providers.usage import Lost, Usage
from tests.test_events import validate

IDLE = Usage(0, 0, 0, 0, 0.0, 0.0, 0, 0)
WAITS = replace(IDLE, waiting=3)
WORKS = replace(IDLE, workers=1, waiting=3)
LOST = [Lost("connection_lost", 1, "worker A was lost"), Lost("memory_limit", 1, "worker B")]


def tasks(done: int, processing: int) -> Usage:
    return Usage(2, 2, 2, 0, 0.0, 0.0, done, 0, tasks_total=9, processing=processing)


class Watched:
    """A watch with a clock of its own, and what it says."""

    def __init__(self) -> None:
        self.now = 0.0
        self.heard: list[Event] = []
        self.watch = ClusterWatch(Claim(), Events([self.heard.append]), lambda: self.now)

    def texts(self, kind: type[Event], at: float, usage: Usage) -> list[str]:
        """What it says in events of this kind when there is this report."""
        self.now = at
        self.heard.clear()
        self.watch.report(usage)
        for event in self.heard:
            if event.word:
                validate(event)
        return [str(event) for event in self.heard if type(event) is kind]


SCENES: dict[str, tuple[type[Event], list[tuple[float, Usage, list[str]]]]] = {
    "nobody waits": (NoWorkers, [(0, IDLE, []), (100, IDLE, [])]),
    "waiting": (NoWorkers, [
        (100, WAITS, []), (159, WAITS, []), (160, WAITS, ["Waiting for the workers of the cluster"
         " since 60 s: 3 tasks wait, and no worker is up"]),
        (200, WAITS, []), (221, WAITS, ["since 121 s"]), (222, WORKS, []), (300, WAITS, []),
        (359, WAITS, []), (400, WAITS, ["since 100 s"]), (600, WAITS, ["since 300 s"]),
    ]),
    "workers that cannot": (NoWorkers, [
        (at, replace(WORKS, unrunnable=3, needs="the resources {'GPU': 1}"), told)
        for at, told in ((0, []), (59, []), (60, ["for a worker that has the resources {'GPU'"]))
    ]),
    "paused": (NoWorkers, [
        (at, replace(WORKS, paused=1), told)
        for at, told in ((0, []), (60, ["workers here (1) are paused, for their memory is full"]))
    ]),
    # One that was killed for its memory at once, another one once its cluster goes on.
    "lost": (WorkerLost, [
        (at, replace(IDLE, workers=1, lost=LOST), told)
        for at, told in ((0, ["worker B. A task"]), (4, []), (5, ["worker A was lost"]), (9, []))
    ]),
    "progress": (Progress, [
        (59, tasks(1, 1), []), (60, tasks(2, 1), ["2 of 9 tasks done, 2 workers, 0.00 GiB"]),
        (61, tasks(3, 1), []), (120, tasks(2, 0), []), (121, tasks(3, 0), ["3 of 9"]),
        (200, tasks(3, 0), []), (201, tasks(3, 1), ["3 of 9"]), (202, tasks(3, 1), []),
        (261, tasks(3, 1), ["3 of 9"]),
    ]),
}  # fmt: skip


@pytest.mark.parametrize(("kind", "reports"), SCENES.values(), ids=SCENES)
def test_what_is_told_and_when(
    kind: type[Event], reports: list[tuple[float, Usage, list[str]]]
) -> None:
    watched = Watched()
    for at, usage, expected in reports:
        told = watched.texts(kind, at, usage)
        assert len(told) == len(expected), (at, told)
        assert all(words in text for words, text in zip(expected, told, strict=True)), told


def test_what_tasks_waited_for_is_remembered() -> None:
    """Until workers are given tasks, not only until the client has gone, and its tasks with it."""
    watched = Watched()
    for at in (0.0, 10.0):
        watched.texts(NoWorkers, at, WAITS)
    watched.texts(NoWorkers, 11.0, replace(IDLE, workers=1))
    assert "3 tasks wait" in (watched.watch.waiting.in_vain or "")
    watched.texts(NoWorkers, 12.0, replace(IDLE, workers=1, processing=1))
    assert watched.watch.waiting.in_vain is None
