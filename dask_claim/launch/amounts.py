"""Numbers as people read them."""

from __future__ import annotations


def gib(size: float) -> str:
    """Return a number of bytes as `1.2 GiB`."""
    return f"{size / 2**30:.{1 if size >= 2**30 else 2}f} GiB"


def counted(number: int, noun: str) -> str:
    """Return `1 task`, `2 tasks`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
