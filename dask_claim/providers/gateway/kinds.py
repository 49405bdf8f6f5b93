"""One option of a gateway: its type, the unit it counts in, its limits. No I/O."""

from __future__ import annotations

import re
from collections.abc import MutableMapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dask_claim.claim.memory import Memory

# What `MemoryLimit` of dask_gateway_server understands: a number and K, M, G or T (powers of 1024).
_GATEWAY_MEMORY = re.compile(r"\d+(\.\d+)? ?[KMGT]")
_UNITS = {"K": 1024, "M": 1024**2, "G": 1024**3, "T": 1024**4}

_LABEL_UNITS = {"GiB": 1024**3, "MiB": 1024**2, "GB": 1000**3, "MB": 1000**2, "bytes": 1}
_UNIT_IN_LABEL = re.compile(r"\b(GiB|MiB|GB|MB|bytes)\b")

# A number option of at least this much (as default or limit) counts bytes: no worker has a
# mebibyte of GiB, and none works with less than a mebibyte.
_BYTES_FROM = 1024**2


def spec_of(options: MutableMapping[str, Any], name: str) -> Any:
    # The client knows each option's type and limits but has no public way to ask for them.
    return options._fields[name]  # type: ignore[attr-defined]


def converted(name: str, value: Any, spec: Any) -> Any:
    """`value` in the option's own type."""
    if name.endswith(("_memory", "_memory_limit")):
        return _memory(value, spec)
    kind = kind_of(spec)
    if kind == "mapping":
        return {**(spec.value or {}), **value}
    if kind == "bool":
        if value > 1:
            raise ValueError("it offers one or none")
        return bool(value)
    if kind in ("string", "select"):
        return str(value)
    return _whole(value) if kind == "integer" else value


def _memory(memory: Memory, spec: Any) -> str | int | float:
    """Memory as the option wants it: a string, bytes, or a number of GiB (or its label's unit)."""
    kind = kind_of(spec)
    if kind == "string":
        return gateway_memory(memory)
    if kind == "select":
        same = (choice for choice in spec.options if bytes_of(choice) == memory.bytes)
        return next(same, str(memory))
    amount = memory.bytes / number_unit(spec)[1]
    return _whole(amount) if kind == "integer" else amount


def number_unit(spec: Any) -> tuple[str, int]:
    """The unit in which a number option counts memory."""
    if found := _UNIT_IN_LABEL.search(str(spec.label)):
        return found.group(), _LABEL_UNITS[found.group()]
    numbers = [number for number in (spec.value, spec.min, spec.max) if number is not None]
    if any(number >= _BYTES_FROM for number in numbers):
        return "bytes", 1
    return "GiB", _LABEL_UNITS["GiB"]


def _whole(value: float) -> int:
    if value != int(value):
        raise ValueError("is not a whole number")
    return int(value)


def kind_of(spec: Any) -> str:
    return type(spec).__name__.lower()


def gateway_memory(memory: Memory) -> str:
    """As written where a gateway understands it, else the same amount in K, M or G.

    Where the bytes are no multiple of 1 KiB the next lower one is taken.
    """
    if _GATEWAY_MEMORY.fullmatch(str(memory)):
        return str(memory)
    for unit in ("G", "M", "K"):
        if memory.bytes % _UNITS[unit] == 0:
            return f"{memory.bytes // _UNITS[unit]} {unit}"
    return f"{max(1, memory.bytes // 1024)} K"


def bytes_of(text: str) -> int | None:
    from dask_claim.claim.memory import Memory

    try:
        return Memory(text).bytes
    except (TypeError, ValueError):
        return None


def limits(spec: Any, field_name: str) -> str:
    if choices := getattr(spec, "options", None):
        return "one of " + ", ".join(map(str, choices))
    low, high = getattr(spec, "min", None), getattr(spec, "max", None)
    if low is None and high is None:
        return f"any {kind_of(spec)}"
    unit = " " + number_unit(spec)[0] if "memory" in field_name else ""
    if high is None:
        return f"at least {low:g}{unit}"
    return f"at most {high:g}{unit}" if low is None else f"{low:g} to {high:g}{unit}"
