"""Whether the kernel killed the command because its memory limit was reached."""

from __future__ import annotations

from pathlib import Path

_FILES = (
    ("", "memory.events", "memory.max"),  # cgroup v2
    ("memory", "memory.oom_control", "memory.limit_in_bytes"),  # v1
)


class MemoryLimit:
    """The cgroup's count of processes killed for want of memory, from now on."""

    def __init__(
        self, root: Path = Path("/sys/fs/cgroup"), own: Path = Path("/proc/self/cgroup")
    ) -> None:
        # A container sees its own cgroup as the root, whatever it is called outside.
        self._folders = [
            (root / controller / path, events, limit)
            for controller, events, limit in _FILES
            for path in (_own_path(own, controller), "")
        ]
        self._before = self._killed()

    def exceeded(self) -> str | None:
        """Return what to tell the user where a process was killed since; None where none was."""
        now = self._killed()
        if now is None or self._before is None or now <= self._before:
            return None
        limit = self._limit()
        told = f" of {limit / 1024**3:.2f} GiB" if limit else ""
        return (
            f"the command was killed by the kernel: this container's memory limit{told} was "
            "reached. Grant it more memory (CWL: ramMin), or let its workers take less"
        )

    def _killed(self) -> int | None:
        for folder, events, _ in self._folders:
            for line in _lines(folder / events):
                name, _, count = line.partition(" ")
                if name == "oom_kill" and count.strip().isdigit():
                    return int(count)
        return None

    def _limit(self) -> int | None:
        for folder, _, limit in self._folders:
            for line in _lines(folder / limit):
                # Without a limit v2 says "max", v1 a number near 2^63.
                if line.strip().isdigit() and int(line) < 2**60:
                    return int(line)
        return None


def _own_path(own: Path, controller: str) -> str:
    """This process's cgroup below the controller's root; v2 has one for all, without a name."""
    for line in _lines(own):
        _, controllers, path = [*line.split(":", 2), "", ""][:3]
        if controller in controllers.split(","):
            return path.lstrip("/")
    return ""


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return []
