"""The control groups of this process: their limits, and how many processes were killed for them.

A limit holds for everything below it. So each group is read, from the process's own up to the root,
or to the topmost one that is mounted here: in a container that is the container's own.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

ROOT = Path("/")
CONTAINER = "this container"

MORE_MEMORY = (
    "Grant this container or job more memory (CWL: ramMin), or let its workers take less "
    "(worker_memory, max_workers)"
)
"""What to do where the limit was reached."""

UNLIMITED = 2**60
"""Bytes. Without a limit version 2 says "max", and version 1 a number near 2^63."""


@dataclass(frozen=True)
class Bound:
    """How much there is of something, and who sets this bound."""

    amount: float
    """Cores, or bytes."""

    owner: str = "this machine"


def memory_limits(root: Path = ROOT) -> Iterator[Bound]:
    """Yield each limit of memory, in bytes, that holds for this process. `root` is for tests."""
    for folder, owner in _groups("memory", root):
        # Beyond memory.high nothing is killed, but everything is slowed down until it fits again.
        for name in ("memory.max", "memory.high", "memory.limit_in_bytes"):
            for limit in _numbers(folder / name):
                if 0 < limit < UNLIMITED:
                    yield Bound(limit, owner)


def cpu_limits(root: Path = ROOT) -> Iterator[Bound]:
    """Yield each limit of CPU time, in cores, that holds for this process."""
    for folder, owner in _groups("cpu", root):
        v1 = [*_numbers(folder / "cpu.cfs_quota_us"), *_numbers(folder / "cpu.cfs_period_us")]
        for numbers in (v1, _numbers(folder / "cpu.max")):
            # Without a limit the quota is "max" in version 2, and -1 in version 1.
            if len(numbers) == 2 and min(numbers) > 0:
                yield Bound(numbers[0] / numbers[1], owner)


def memory_kills(root: Path = ROOT) -> int | None:
    """Return how many processes of this group the kernel has killed for want of memory.

    None where the kernel does not count them.
    """
    for folder, _ in _groups("memory", root):
        for name in ("memory.events", "memory.oom_control"):
            if (count := _count(folder / name, "oom_kill")) is not None:
                return count
    return None


def _groups(controller: str, root: Path) -> Iterator[tuple[Path, str]]:
    """Yield the folder and a name of each group with this controller that this process is in.

    A controller belongs to a hierarchy of version 1, or to that of version 2, which has no name.
    """
    own = {}
    for line in _lines(root / "proc/self/cgroup"):
        _, controllers, path = [*line.split(":", 2), "", ""][:3]
        if not controllers or controller in controllers.split(","):
            own[bool(controllers)] = path
    for line in _lines(root / "proc/self/mountinfo"):
        mount, _, kind = line.partition(" - ")
        system, _, options = [*kind.split(" "), "", ""][:3]
        v1 = system == "cgroup" and controller in options.split(",")
        if v1 in own and (v1 or system == "cgroup2"):
            mounted, place = mount.split(" ")[3:5]
            yield from _upwards(own[v1], mounted, root / place.lstrip("/"))


def _upwards(own: str, mounted: str, place: Path) -> Iterator[tuple[Path, str]]:
    """Yield the group `own` and its ancestors, as far as `place` shows them.

    The group `mounted` is what lies at `place`. Only a container's namespace or mount has limits
    there, for the root of all groups has none. Where `own` may not be below it (a namespace
    of cgroups that began elsewhere shows `..`), only `mounted` itself is looked at.
    """
    below = PurePosixPath("/")
    if PurePosixPath(own).is_relative_to(mounted):
        below /= PurePosixPath(own).relative_to(mounted)
    if ".." not in below.parts:
        for group in (below, *below.parents):
            if group.name:
                yield place / str(group).lstrip("/"), f"cgroup {group.name}"
    yield place, CONTAINER


def _numbers(path: Path) -> list[int]:
    words = " ".join(_lines(path)).split()
    return [int(word) for word in words if word.lstrip("-").isdecimal()]


def _count(path: Path, key: str) -> int | None:
    """Return the number behind `key` in a file of such pairs; None where there is none."""
    for line in _lines(path):
        name, _, number = line.partition(" ")
        if name == key and number.strip().isdecimal():
            return int(number)
    return None


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []


class MemoryLimit:
    """The count of processes that the kernel killed here for want of memory, from now on."""

    def __init__(self, root: Path = ROOT) -> None:
        """`root` is for tests."""
        self._root = root
        self._before = memory_kills(root)

    def exceeded(self, whom: str = "the command") -> str | None:
        """Return a sentence on `whom` where a process was killed since, else None."""
        now = memory_kills(self._root)
        if now is None or self._before is None or now <= self._before:
            return None
        limit = min(memory_limits(self._root), key=lambda limit: limit.amount, default=None)
        why = "this machine's memory ran out"
        if limit:
            size = f"{limit.amount / 1024**3:.2f} GiB"
            why = f"the memory limit of {size} was reached ({limit.owner})"
        return f"{whom} was killed by the kernel: {why}"
