"""One option of a gateway: what its values stand for, and a claim's values in its terms. No I/O."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping, MutableMapping
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any, Literal

from dask_claim.claim import units
from dask_claim.claim.memory import Memory
from dask_claim.providers.gateway.amounts import (
    cores_in,
    gpus_in,
    is_memory,
    memory_in,
    number_in,
    unit_of,
    written,
)

if TYPE_CHECKING:
    from dask_claim.claim.model import Claim

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

ROUNDED_UP_AT_MOST = Fraction("1.01")
"""The next whole number may be so many times an amount; beyond that it is another size."""


class Unsuitable(ValueError):
    """An option of this type cannot hold such a value."""


@dataclass(frozen=True)
class Unit:
    """What an option counts memory in, and why."""

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

    def amount(self, value: Any, field: str) -> Fraction | None:
        """Bytes, cores or GPUs that one of its values stands for; None where that is unclear."""
        if isinstance(value, str):
            plain = number_in(value)
            if plain is None and is_memory(field):
                memory = memory_in(value)
                return Fraction(memory.bytes) if memory else None
            if plain is None:
                plain = gpus_in(value) if field == "gpus" else cores_in(value)
                return None if plain is None else Fraction(str(plain))
            value = plain
        if not isinstance(value, (int, float)) or (isinstance(value, bool) and field != "gpus"):
            return None
        try:
            unit = self.unit().bytes if is_memory(field) else 1
        except ValueError:
            return None
        return Fraction(str(float(value))) * unit

    def sizes(self, field: str) -> dict[str, dict[str, Fraction]]:
        """Return its choices → what they stand for of a field, of those that can be read."""
        amounts = {choice: self.amount(choice, field) for choice in self.choices}
        sizes = {choice: {field: size} for choice, size in amounts.items() if size is not None}
        if not sizes:
            raise Unsuitable("its choices do not say how much they are")
        return sizes

    def value_of(
        self, field: str, amount: Fraction, rounding: Literal["exact", "up", "down"] = "exact"
    ) -> Any:
        """Return the value that stands for an amount; `exact`: a whole number may be 1 % more.

        Raises
        ------
        Unsuitable
            The option's type cannot hold an amount.
        ValueError
            The option has no such value.
        """
        if self.kind == "bool" and field == "gpus":
            if amount > 1 and rounding == "exact":
                raise ValueError("it offers one or none")
            return bool(amount)
        if self.kind not in ("integer", "float", "string"):
            raise Unsuitable(self._cannot_hold())
        if self.is_free_text(field):
            return written(int(amount), str(self.spec.value))
        unit = self.unit() if is_memory(field) else None
        count = amount / (unit.bytes if unit else 1)
        if self.kind == "integer":
            whole = math.floor(count) if rounding == "down" else math.ceil(count)
            if rounding == "exact" and whole > count * ROUNDED_UP_AT_MOST:
                of_unit = f" of {unit.name}, but {float(count):g}" if unit else ""
                raise ValueError(f"is not a whole number{of_unit}")
            if amount and not whole:
                raise ValueError(f"no integer of {self.name} is small enough")
            return whole
        value = int(count) if count.denominator == 1 else float(count)
        return str(value) if self.kind == "string" else value

    def is_free_text(self, field: str) -> bool:
        """Whether it takes a field as a text with a unit."""
        is_text = self.kind == "string" and number_in(str(self.spec.value)) is None
        return is_text and is_memory(field)

    def unit_note(self, field: str) -> list[str]:
        """Return what was concluded for amounts of a field, for a person to check."""
        if not is_memory(field):
            return []
        if self.is_free_text(field):
            default = str(self.spec.value)
            is_usual = written(2**40, default).endswith("G")
            return [] if is_usual else [f"{self.name} is written as its default, {default!r}"]
        unit = self.unit()
        return [f"{self.name} counts {unit.name} ({unit.why})"]

    def plain(self, value: Any) -> Any:
        """Return a text, or variables, as the option takes them. Raises Unsuitable."""
        if isinstance(value, Mapping) and self.kind == "mapping":
            return {**(self.spec.value or {}), **value}
        if isinstance(value, str) and self.kind in ("string", "select"):
            return value
        raise Unsuitable(self._cannot_hold())

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

    def offer(self, field: str) -> str:
        """What the gateway takes for it, in words."""
        low, high = getattr(self.spec, "min", None), getattr(self.spec, "max", None)
        try:
            unit = f" {self.unit().name}" if is_memory(field) else ""
        except ValueError:
            unit = ""
        if self.choices:
            limits = "one of " + ", ".join(self.choices)
        elif low is None and high is None:
            limits = f"any {self.kind}"
        elif high is None:
            limits = f"at least {low:g}{unit}"
        else:
            limits = f"at most {high:g}{unit}" if low is None else f"{low:g} to {high:g}{unit}"
        return f"this gateway offers {limits}"

    def _cannot_hold(self) -> str:
        return (
            f"a {self.kind} cannot hold it; give {self.name} in `options`, in the form that this "
            "gateway wants"
        )


def own_names(options: Iterable[str], claim: Claim | None) -> dict[str, str]:
    """Return the gateway's names, in its own case, of the claim's `options` → the claim's.

    Where two of them are one for the gateway the last holds: it is of the stronger source.
    """
    offered = {name.lower(): name for name in options} | {name: name for name in options}
    claimed = claim.options if claim is not None else {}
    return {offered.get(name, offered.get(name.lower(), name)): name for name in claimed}
