"""One option of a gateway: what its values stand for, and a claim's values in its terms. No I/O."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from dask_claim.claim import units
from dask_claim.claim.memory import Memory
from dask_claim.claim.units import exact
from dask_claim.providers.gateway.amounts import (
    cores_in,
    gpus_in,
    in_the_form_of,
    memory_in,
    number_in,
    unit_of,
)

# Where labels have their unit: "Memory (Mi)", "memory in mb", or nothing else.
_UNIT_PLACE = re.compile(r"[(\[]\s*([A-Za-z]+)\s*[)\]]|\b(?:in|as)\s+([A-Za-z]+)\s*$|^([A-Za-z]+)$")
_NO_UNIT = {
    *("memory", "mem", "ram", "worker", "workers", "scheduler", "cluster", "limit", "request"),
    *("min", "max", "minimum", "maximum", "total", "optional", "required", "advanced", "default"),
}

# No worker has 256 GiB by default or a mebibyte of GiB, and none works with less than a mebibyte.
_MEBIBYTES_FROM, _BYTES_FROM = 256, 1024**2
# A whole cluster may have 256 GiB, and so may the largest worker; neither has 16 TiB.
_MEBIBYTES_FROM_AT_MOST = 2**14

# The next whole number may be so many times the amount; beyond that it is another size.
_ROUNDED_UP_AT_MOST = 1.01


class Unsuitable(ValueError):
    """An option of this type cannot hold such a value."""


@dataclass(frozen=True)
class Unit:
    """What an option counts memory in, and how that is known."""

    name: str
    why: str

    @property
    def bytes(self) -> int:
        return 1 if self.name == "bytes" else Memory(f"1 {self.name}").bytes


@dataclass(frozen=True)
class Option:
    """One option of a gateway, as its client describes it."""

    name: str
    spec: Any
    site_unit: str | None = None
    """What it counts memory in, by the site's file."""

    @classmethod
    def of(
        cls, options: MutableMapping[str, Any], name: str, site_unit: str | None = None
    ) -> Option:
        """Return one of a gateway's options (`dask_gateway.options.Options`)."""
        # The client has no public way to ask for types and limits.
        return cls(name, options._fields[name], site_unit)  # type: ignore[attr-defined]

    @property
    def kind(self) -> str:
        """`integer`, `float`, `string`, `bool`, `select`, `mapping`, or a newer server's own."""
        return type(self.spec).__name__.lower()

    @property
    def choices(self) -> tuple[str, ...]:
        """The texts of a Select; empty for every other type."""
        return tuple(self.spec.options) if self.kind == "select" else ()

    def unit(self) -> Unit:
        """Return what its numbers count memory in.

        Raises ValueError where its label names an unknown unit.
        """
        if self.site_unit:
            return Unit(self.site_unit, "by the site's file")
        label = str(self.spec.label)
        why = f"by its label {label!r}"
        for word in re.findall("[A-Za-z]{2,}", label):
            if name := unit_of(word):
                return Unit(name, why)
        place = _UNIT_PLACE.search(label) if label != self.name else None
        word = next(filter(None, place.groups())) if place else "memory"
        if word.lower() in _NO_UNIT:
            return self._unit_by_numbers()
        if name := unit_of(word):
            return Unit(name, why)
        raise ValueError(
            f"its label {label!r} names an unknown unit; the site's file can tell it under "
            f"gateway_options: {{units: {{{self.name}: MiB}}}}"
        )

    def _unit_by_numbers(self) -> Unit:
        high = getattr(self.spec, "max", None) or 0
        values = [self.spec.value, *self.choices, getattr(self.spec, "min", None)]
        numbers = [number_in(one) if isinstance(one, str) else one for one in values]
        default = max((one for one in numbers if isinstance(one, (int, float))), default=0)
        of_cluster = self.name.lower().startswith("cluster")
        least = _MEBIBYTES_FROM_AT_MOST if of_cluster else _MEBIBYTES_FROM
        if max(default, high) >= _BYTES_FROM:
            return Unit("bytes", f"by its numbers, such as {max(default, high):g}")
        if default >= least or (not default and high >= _MEBIBYTES_FROM_AT_MOST):
            return Unit("MiB", f"by its numbers, such as {default or high:g}")
        return Unit("GiB", "neither its label nor its numbers name another unit")

    def unit_note(self) -> str:
        """Return what was concluded of its unit, for a person to check."""
        unit = self.unit()
        return f"{self.name} counts {unit.name} ({unit.why})"

    def amount(self, value: Any, field: str) -> float | None:
        """Bytes, cores or GPUs that one of its values stands for; None where nobody can tell."""
        if isinstance(value, str):
            plain = number_in(value)
            if plain is None:
                if is_memory(field):
                    memory = memory_in(value)
                    return memory.bytes if memory else None
                return gpus_in(value) if field == "gpus" else cores_in(value)
            value = plain
        if isinstance(value, bool):
            return int(value) if field == "gpus" else None
        if not isinstance(value, (int, float)):
            return None
        try:
            return value * self.unit().bytes if is_memory(field) else value
        except ValueError:
            return None

    def limits(self, field: str) -> str:
        """What the gateway takes for it, in words."""
        if self.choices:
            return "one of " + ", ".join(self.choices)
        low, high = getattr(self.spec, "min", None), getattr(self.spec, "max", None)
        if low is None and high is None:
            return f"any {self.kind}"
        try:
            unit = f" {self.unit().name}" if is_memory(field) else ""
        except ValueError:
            unit = ""
        if high is None:
            return f"at least {low:g}{unit}"
        return f"at most {high:g}{unit}" if low is None else f"{low:g} to {high:g}{unit}"

    def converted(self, field: str, value: Any, *, at_least: bool = False) -> tuple[Any, list[str]]:
        """Return a field's `value` in the option's own type, and what was concluded for that.

        `at_least`: the next whole number will do, however far it is.

        Raises
        ------
        Unsuitable
            The option's type cannot hold it.
        ValueError
            The option has no such value.
        """
        kind = self.kind
        counts = kind in ("integer", "float", "string")
        if isinstance(value, Mapping):
            if kind == "mapping":
                return {**(self.spec.value or {}), **value}, []
        elif isinstance(value, str):
            if kind in ("string", "select"):
                return value, []
        elif kind == "select":
            return self._smallest_choice(field, value)
        elif counts and isinstance(value, Memory):
            return self._memory(value, at_least)
        elif counts:
            if kind == "integer" and value != int(value) and not at_least:
                raise ValueError("is not a whole number")
            value = math.ceil(value) if kind == "integer" else value
            return str(value) if kind == "string" else value, []
        elif kind == "bool" and field == "gpus":
            if value > 1:
                raise ValueError("it offers one or none")
            return bool(value), []
        raise Unsuitable(
            f"a {kind} cannot hold it; give {self.name} in `options`, in the form that this "
            "gateway wants"
        )

    def at_most(self, field: str, most: Any, needed: Fraction) -> tuple[Any, Fraction]:
        """Return its largest value that is small enough, and how much that is.

        Raises ValueError where that is less than `needed`, or there is none.
        """
        room, given = exact(most), Fraction(-1)
        value: Any = None
        if self.choices:
            amounts = [(one, self.amount(one, field)) for one in self.choices]
            sizes = [(one, Fraction(str(size))) for one, size in amounts if size is not None]
            within = [(one, size) for one, size in sizes if needed <= size <= room]
            value, given = max(within, key=lambda item: item[1], default=(value, given))
        elif self.kind == "integer":
            unit = self.unit().bytes if is_memory(field) else 1
            value = int(room // unit)
            if value or not room:
                given = Fraction(value * unit)
        else:
            value, given = self.converted(field, most)[0], room
        if given < needed:
            enough = "both enough and " if needed else ""
            what = "choice" if self.choices else self.kind
            raise ValueError(f"no {what} of {self.name} is {enough}small enough")
        return value, given

    def as_written(self, value: Any) -> Any:
        """Return a value that is in the gateway's own terms, in the type of the option.

        Texts without quotes (YAML, variables, flags) may have become numbers, true or false, where
        no character was lost, and have stayed texts where one would have been: 1.10 can be both.
        """
        if isinstance(value, (int, float)) and self.kind in ("string", "select"):
            return json.dumps(value)
        if isinstance(value, str) and self.kind in ("integer", "float"):
            return units.number(value)
        return units.boolean(value) if isinstance(value, str) and self.kind == "bool" else value

    def _smallest_choice(self, field: str, value: Any) -> tuple[str, list[str]]:
        notes = []
        if is_memory(field) and any(number_in(choice) for choice in self.choices):
            notes.append(self.unit_note())
        amounts = {choice: self.amount(choice, field) for choice in self.choices}
        readable = {choice: amount for choice, amount in amounts.items() if amount is not None}
        if not readable:
            raise Unsuitable("its choices do not say how much they are")
        needed = value.bytes if isinstance(value, Memory) else value
        enough = [choice for choice, amount in readable.items() if amount >= needed]
        if not enough:
            raise ValueError("no choice is enough")
        chosen = min(enough, key=lambda choice: readable[choice])
        return chosen, [*notes, f"{self.name} {chosen!r} is its smallest choice that is enough"]

    def _memory(self, memory: Memory, at_least: bool) -> tuple[Any, list[str]]:
        is_text = self.kind == "string"
        if is_text and number_in(default := str(self.spec.value)) is None:
            return in_the_form_of(default, memory, self.name)
        unit = self.unit()
        amount: int | float = memory.bytes / unit.bytes
        if self.kind == "integer":
            whole = -(-memory.bytes // unit.bytes)
            if whole > amount * _ROUNDED_UP_AT_MOST and not at_least:
                raise ValueError(f"is not a whole number of {unit.name}, but {amount:g}")
            amount = whole
        elif is_text and amount == int(amount):
            amount = int(amount)
        return (str(amount) if is_text else amount), [self.unit_note()]


def is_memory(field: str) -> bool:
    """Whether a field of a claim or a cluster is an amount of memory."""
    return "memory" in field
