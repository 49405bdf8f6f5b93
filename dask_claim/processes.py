"""Processes as /proc shows them. The guard's process uses it: nothing but the standard library."""

from __future__ import annotations

import contextlib
import os
import signal

ENDED = ("Z", "X", "")
"""The states of a process that has ended."""


def state_and_group(pid: int) -> tuple[str, int]:
    """Return a process's one-letter state and its group; `("", 0)` where there is none."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as stat:
            fields = stat.read().rpartition(")")[2].split()
            return fields[0], int(fields[2])
    except OSError:
        return "", 0


def ended(pid: int) -> bool:
    """Whether a process is gone or a zombie; False where that cannot be seen (no Linux)."""
    return os.path.isdir("/proc/self") and state_and_group(pid)[0] in ENDED


def mark(pid: int) -> str | None:
    """Return what tells a process from every other one, also from a later one of the same id.

    It is of this boot and this namespace of processes; None where that cannot be seen.
    """
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            boot = file.read().strip()
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as stat:
            started = stat.read().rpartition(")")[2].split()[19]
        return f"{boot} {os.readlink('/proc/self/ns/pid')} {pid} {started}"
    except (OSError, IndexError):
        return None


def certainly_ended(marked: str) -> bool:
    """Whether the process of this `mark` is gone; False where it may run elsewhere."""
    here, words = mark(os.getpid()), marked.split(" ")
    if here is None or len(words) != 4 or words[:2] != here.split(" ")[:2]:
        return False
    pid = int(words[2]) if words[2].isdecimal() else 0
    return mark(pid) != marked or ended(pid)


def others() -> list[int]:
    """Return the ids of all other processes; empty where they cannot be seen."""
    names = os.listdir("/proc") if os.path.isdir("/proc") else []
    return [int(name) for name in names if name.isdecimal() and int(name) != os.getpid()]


def members(group: int) -> list[int]:
    """Return the other processes of a group that have not ended."""
    states = ((pid, *state_and_group(pid)) for pid in others())
    return [pid for pid, state, its_group in states if its_group == group and state not in ENDED]


def group_runs(group: int | None) -> bool:
    """Whether a process of the group runs; zombies do not count."""
    if not group:
        return False
    try:
        os.killpg(group, 0)
    except OSError:
        return False
    # Where there is no /proc one is there, perhaps a zombie.
    return not os.path.isdir("/proc/self") or bool(members(group))


def signal_group(group: int | None, signum: int) -> None:
    """Send a signal to a group, if there is one."""
    with contextlib.suppress(OSError):
        if group:
            os.killpg(group, signum)


def kill_group(group: int | None) -> None:
    """Send SIGKILL to a group, if there is one."""
    signal_group(group, signal.SIGKILL)
