"""The claim in the terms of one gateway: its options, their types and limits. No I/O."""

from __future__ import annotations

import re
from collections.abc import MutableMapping
from typing import TYPE_CHECKING, Any

from dask_claim.errors import OptionError

if TYPE_CHECKING:
    from dask_claim.claim import Claim
    from dask_claim.memory import Memory

FIELDS = ("image", "worker_cores", "worker_cores_limit", "worker_memory")
"""Fields of the claim that a gateway may offer under the same name."""

# What `MemoryLimit` of dask_gateway_server understands: a number and K, M, G or T (powers of 1024).
_GATEWAY_MEMORY = re.compile(r"\d+(\.\d+)? ?[KMGT]")
_UNITS = {"K": 1024, "M": 1024**2, "G": 1024**3, "T": 1024**4}

_LABEL_UNITS = {"GiB": 1024**3, "MiB": 1024**2, "GB": 1000**3, "MB": 1000**2}
_UNIT_IN_LABEL = re.compile(r"\b(GiB|MiB|GB|MB)\b")

# A number option of at least this much (as default or limit) counts bytes: no worker has a
# mebibyte of GiB, and none works with less than a mebibyte.
_BYTES_FROM = 1024**2


def fill(options: MutableMapping[str, Any], claim: Claim) -> list[str]:
    """Set the claim's values on `options`, as the gateway offers them.

    Parameters
    ----------
    options : dask_gateway.options.Options
        What the gateway offers, with its defaults; changed in place.
    claim : Claim

    Returns
    -------
    list of str
        The fields and options of the claim that this gateway does not offer.

    Raises
    ------
    OptionError
        Values outside the offered ranges or choices, all of them, each with its limits.
    """
    wanted: dict[str, Any] = {
        field: value for field in FIELDS if (value := getattr(claim, field)) is not None
    }
    wanted |= claim.options
    faults = []
    for name, value in wanted.items():
        if name not in options:
            continue
        spec = _spec(options, name)
        try:
            if name in claim.options:
                # In the gateway's own terms already; only digits for a text lose their quotes on
                # the way (YAML, variables).
                number = isinstance(value, (int, float)) and not isinstance(value, bool)
                options[name] = str(value) if number and _kind(spec) == "string" else value
            else:
                options[name] = _converted(name, value, spec)
        except (TypeError, ValueError) as error:
            faults.append(f"{name} = {value}: {error}; this gateway offers {_limits(spec)}")
    if faults:
        raise OptionError("the gateway cannot give what is claimed:\n  " + "\n  ".join(faults))
    return [name for name in wanted if name not in options]


def _spec(options: MutableMapping[str, Any], name: str) -> Any:
    # The client knows each option's type and limits but has no public way to ask for them.
    return options._fields[name]  # type: ignore[attr-defined]


def _converted(name: str, value: Any, spec: Any) -> Any:
    """`value` in the option's own type."""
    if name == "worker_memory":
        return _memory(value, spec)
    kind = _kind(spec)
    if kind in ("string", "select"):
        return str(value)
    return _whole(value) if kind == "integer" else value


def _memory(memory: Memory, spec: Any) -> str | int | float:
    """Memory as the option wants it: a string, bytes, or a number of GiB (or its label's unit)."""
    kind = _kind(spec)
    if kind == "string":
        return gateway_memory(memory)
    if kind == "select":
        same = (choice for choice in spec.options if _size(choice) == memory.bytes)
        return next(same, str(memory))
    amount = memory.bytes / _number_unit(spec)[1]
    return _whole(amount) if kind == "integer" else amount


def _number_unit(spec: Any) -> tuple[str, int]:
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


def _kind(spec: Any) -> str:
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


def _size(text: str) -> int | None:
    from dask_claim.memory import Memory

    try:
        return Memory(text).bytes
    except (TypeError, ValueError):
        return None


def _limits(spec: Any) -> str:
    if choices := getattr(spec, "options", None):
        return "one of " + ", ".join(map(str, choices))
    low, high = getattr(spec, "min", None), getattr(spec, "max", None)
    if low is None and high is None:
        return f"any {_kind(spec)}"
    unit = " " + _number_unit(spec)[0] if spec.field == "worker_memory" else ""
    if high is None:
        return f"at least {low:g}{unit}"
    return f"at most {high:g}{unit}" if low is None else f"{low:g} to {high:g}{unit}"
