"""Amounts as a person reads them."""

from __future__ import annotations


def duration(seconds: float) -> str:
    """Minutes and seconds, with hours and days where there are some.

    >>> duration(3725)
    '1:02:05'
    """
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days}-{hours:02}:{minutes:02}:{rest:02}"
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def seconds(amount: float) -> str:
    """A duration whose tenths of a second matter while it is short."""
    return f"{amount:.1f} s" if amount < 100 else duration(amount)


def gib(amount: float) -> str:
    """Bytes in GiB, without the unit."""
    return f"{amount / 2**30:.1f}"


def size(amount: float) -> str:
    """Bytes in GiB, or in MiB below a tenth of one."""
    return f"{gib(amount)} GiB" if amount >= 0.1 * 2**30 else f"{amount / 2**20:.1f} MiB"
