"""Numbers as people read them."""

from __future__ import annotations


def counted(number: int, noun: str) -> str:
    """Return `1 task`, `2 tasks`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def gib(size: float) -> str:
    """Return a number of bytes as `1.2 GiB`."""
    return f"{size / 2**30:.{1 if size >= 2**30 else 2}f} GiB"


def in_gib(size: float) -> str:
    """Return a number of bytes as `1.2`, where the unit stands elsewhere."""
    return f"{size / 2**30:.1f}"


def seconds(amount: float) -> str:
    """Return `4.2 s`, and from 100 s on what `duration` gives."""
    return f"{amount:.1f} s" if amount < 100 else duration(amount)


def duration(amount: float) -> str:
    """Return seconds as `1:40`, `2:03:20`, or `1-02:03:20` with days."""
    minutes, rest = divmod(round(amount), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days}-{hours:02}:{minutes:02}:{rest:02}"
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
