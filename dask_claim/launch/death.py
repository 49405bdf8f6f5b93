"""Whether the kernel killed the command because its memory limit was reached."""

from __future__ import annotations

from pathlib import Path

from dask_claim.cgroup import ROOT, memory_kills, memory_limits


class MemoryLimit:
    """The count of processes that the kernel killed here for want of memory, from now on."""

    def __init__(self, root: Path = ROOT) -> None:
        """`root` is for tests."""
        self._root = root
        self._before = memory_kills(root)

    def exceeded(self, whom: str = "the command") -> str | None:
        """Return what to tell of `whom` where a process was killed since; None where none was."""
        now = memory_kills(self._root)
        if now is None or self._before is None or now <= self._before:
            return None
        limit = min(memory_limits(self._root), key=lambda limit: limit.amount, default=None)
        why = "this machine's memory ran out"
        if limit:
            size = f"{limit.amount / 1024**3:.2f} GiB"
            why = f"the memory limit of {size} was reached ({limit.owner})"
        return (
            f"{whom} was killed by the kernel: {why}. Grant it more memory (CWL: ramMin), or "
            "let its workers take less"
        )
