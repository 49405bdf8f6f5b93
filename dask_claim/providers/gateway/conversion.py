"""Values of a claim in the type of one gateway's option. No I/O."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from typing import Any

from dask_claim.claim import units
from dask_claim.claim.memory import Memory
from dask_claim.providers.gateway import readings
from dask_claim.providers.gateway.kinds import Option, is_memory

# What `MemoryLimit` of dask_gateway_server understands: a number and K, M, G or T (powers of 1024).
_GATEWAY_MEMORY = re.compile(r"\d+(\.\d+)? ?[KMGT]")
_FORM = re.compile(r"\s*\d+(?:\.\d+)?( ?)([KMGTkmgt])(iB|i|B|b|)\s*", re.ASCII)

# The next whole number may be so many times the amount; beyond that it is another size.
_ROUNDED_UP_AT_MOST = 1.01


class Unsuitable(ValueError):
    """An option of this type cannot hold such a value."""


def converted(
    option: Option, field: str, value: Any, *, at_least: bool = False
) -> tuple[Any, list[str]]:
    """Return `value` in the option's own type, and what was concluded for that.

    Parameters
    ----------
    option : Option
    field : str
        What the value is of the claim or of the cluster.
    value : Memory, int, float, str or Mapping
    at_least : bool
        Whether the next whole number will do, however far it is.

    Raises
    ------
    Unsuitable
        The option's type cannot hold it.
    ValueError
        The option has no such value.
    """
    kind = option.kind
    if isinstance(value, Mapping):
        if kind == "mapping":
            return {**(option.spec.value or {}), **value}, []
    elif isinstance(value, str):
        if kind in ("string", "select"):
            return value, []
    elif kind == "select":
        return _chosen(option, field, value)
    elif isinstance(value, Memory):
        if kind in ("integer", "float", "string"):
            return _memory(option, value, at_least)
    elif kind == "bool" and field == "gpus":
        if value > 1:
            raise ValueError("it offers one or none")
        return bool(value), []
    elif kind in ("integer", "float", "string"):
        whole = kind == "integer"
        if whole and value != int(value) and not at_least:
            raise ValueError("is not a whole number")
        return str(value) if kind == "string" else math.ceil(value) if whole else value, []
    raise Unsuitable(
        f"a {kind} cannot hold it; give {option.name} in `options`, in the form that this gateway "
        "wants"
    )


def as_written(kind: str, value: Any) -> Any:
    """Return a value that is in the gateway's own terms, in the type of the option.

    Texts without quotes (YAML, variables, flags) may have become numbers, true or false, where no
    character was lost, and have stayed texts where one would have been: 1.10 can be both.
    """
    if isinstance(value, (int, float)) and kind in ("string", "select"):
        return json.dumps(value)
    if isinstance(value, str) and kind in ("integer", "float"):
        return units.number(value)
    return units.boolean(value) if isinstance(value, str) and kind == "bool" else value


def _chosen(option: Option, field: str, value: Any) -> tuple[str, list[str]]:
    """The smallest choice that is enough."""
    notes = []
    if is_memory(field) and any(readings.number(choice) for choice in option.choices):
        notes.append(option.told_unit())
    counted = {choice: option.counted(choice, field) for choice in option.choices}
    known = {choice: amount for choice, amount in counted.items() if amount is not None}
    if not known:
        raise Unsuitable("its choices do not say how much they are")
    needed = value.bytes if isinstance(value, Memory) else value
    enough = [choice for choice, amount in known.items() if amount >= needed]
    if not enough:
        raise ValueError("no choice is enough")
    chosen = min(enough, key=lambda choice: known[choice])
    notes.append(f"{option.name} {chosen!r} is its smallest choice that is enough")
    return chosen, notes


def _memory(option: Option, memory: Memory, at_least: bool) -> tuple[Any, list[str]]:
    """Memory as the option wants it: a text, bytes, or a number of GiB (or its label's unit)."""
    is_text = option.kind == "string"
    if is_text and readings.number(default := str(option.spec.value)) is None:
        return _in_the_form_of(default, memory, option.name)
    unit = option.unit()
    amount: int | float = memory.bytes / unit.bytes
    if option.kind == "integer":
        whole = -(-memory.bytes // unit.bytes)
        if whole > amount * _ROUNDED_UP_AT_MOST and not at_least:
            raise ValueError(f"is not a whole number of {unit.name}, but {amount:g}")
        amount = whole
    elif is_text and amount == int(amount):
        amount = int(amount)
    return (str(amount) if is_text else amount), [option.told_unit()]


def _in_the_form_of(default: str, memory: Memory, name: str) -> tuple[str, list[str]]:
    """A text such as the gateway's own default; of one that is none, as Dask Gateway's server."""
    form = _FORM.fullmatch(default)
    if form is None or (form[2].isupper() and not form[3]):
        return gateway_memory(memory), []
    text = _written(memory.bytes, 1000 if form[3] in ("B", "b") else 1024, form[1])
    if form[2].islower():
        text = text.lower()
    return text + form[3], [f"{name} is written as its default, {default!r}"]


def gateway_memory(memory: Memory) -> str:
    """As written where a gateway's server understands it, else the same amount in K, M or G."""
    if _GATEWAY_MEMORY.fullmatch(str(memory)):
        return str(memory)
    return _written(memory.bytes, 1024, " ")


def _written(amount: int, base: int, space: str) -> str:
    """The amount in the largest unit of which it is a whole number; else exactly, in K."""
    for power, letter in ((3, "G"), (2, "M"), (1, "K")):
        if amount % base**power == 0:
            return f"{amount // base**power}{space}{letter}"
    return f"{amount / base!r}{space}K"
