"""One option of a gateway: its type, the unit it counts in, its limits. No I/O."""

from __future__ import annotations

import re
from collections.abc import MutableMapping
from dataclasses import dataclass
from typing import Any

from dask_claim.providers.gateway import readings

_UNITS: dict[str, int] = {
    "bytes": 1,
    **{f"{letter}iB": 1024**power for power, letter in enumerate("KMGT", start=1)},
    **{f"{letter}B": 1000**power for power, letter in enumerate("KMGT", start=1)},
}

_WORDS = {"byte": "bytes", "bytes": "bytes"}
_LETTERS = {"b": "bytes"}
for _letter, _word in zip("KMGT", ("kilo", "mega", "giga", "tera"), strict=True):
    for _binary in (f"{_letter}ib", f"{_letter}i", f"{_word[:2]}bibyte", f"{_word[:2]}bibytes"):
        _WORDS[_binary.lower()] = f"{_letter}iB"
    for _decimal in (f"{_letter}b", f"{_word}byte", f"{_word}bytes"):
        _WORDS[_decimal.lower()] = f"{_letter}B"
    # As Dask Gateway's own texts: powers of 1024.
    _LETTERS[_letter.lower()] = f"{_letter}iB"

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


@dataclass(frozen=True)
class Unit:
    """What an option counts memory in, and how that is known."""

    name: str
    why: str

    @property
    def bytes(self) -> int:
        return _UNITS[self.name]


@dataclass(frozen=True)
class Option:
    """One option of a gateway, as its client knows it."""

    name: str
    spec: Any
    said_unit: str | None = None
    """By the site's file."""

    @property
    def kind(self) -> str:
        return kind_of(self.spec)

    @property
    def choices(self) -> tuple[str, ...]:
        """The texts of a Select; empty for every other type."""
        return tuple(self.spec.options) if self.kind == "select" else ()

    @property
    def of_cluster(self) -> bool:
        return self.name.lower().startswith("cluster")

    def unit(self) -> Unit:
        """What its numbers count memory in. Raises ValueError where its label's unit is unknown."""
        if self.said_unit:
            return Unit(self.said_unit, "by the site's file")
        label = str(self.spec.label)
        words = (_WORDS.get(word.lower()) for word in re.findall("[A-Za-z]+", label))
        if found := next(filter(None, words), None):
            return Unit(found, f"by its label {label!r}")
        place = _UNIT_PLACE.search(label) if label != self.name else None
        if place and (word := place[1] or place[2] or place[3]).lower() not in _NO_UNIT:
            if word.lower() not in _LETTERS:
                raise ValueError(
                    f"its label {label!r} names an unknown unit; the site's file can tell it under "
                    f"gateway_options: {{units: {{{self.name}: MiB}}}}"
                )
            return Unit(_LETTERS[word.lower()], f"by its label {label!r}")
        return self._unit_by_numbers()

    def _unit_by_numbers(self) -> Unit:
        spec, high = self.spec, getattr(self.spec, "max", None) or 0
        said = [spec.value, *self.choices, getattr(spec, "min", None)]
        numbers = [readings.number(one) if isinstance(one, str) else one for one in said]
        default = max((one for one in numbers if isinstance(one, (int, float))), default=0)
        least = _MEBIBYTES_FROM_AT_MOST if self.of_cluster else _MEBIBYTES_FROM
        if max(default, high) >= _BYTES_FROM:
            return Unit("bytes", f"by its numbers, such as {max(default, high):g}")
        if default >= least:
            return Unit("MiB", f"by its numbers, such as {default:g}")
        if not default and high >= _MEBIBYTES_FROM_AT_MOST:
            return Unit("MiB", f"by its numbers, such as {high:g}")
        return Unit("GiB", "neither its label nor its numbers name another unit")

    def told_unit(self) -> str:
        """What was concluded of its unit, for a person to check."""
        unit = self.unit()
        return f"{self.name} counts {unit.name} ({unit.why})"

    def counted(self, text_or_number: Any, field: str) -> float | None:
        """Bytes, cores or GPUs that one of its values stands for; None where nobody can tell."""
        value = text_or_number
        if isinstance(value, str):
            plain = readings.number(value)
            if field.endswith("gpus") and plain is None:
                return readings.gpus(value)
            if not is_memory(field):
                return readings.cores(value) if plain is None else plain
            if plain is None:
                return bytes_of(readings.amount(value) or "")
            value = plain
        if isinstance(value, bool):
            return int(value) if field == "gpus" else None
        if not isinstance(value, (int, float)):
            return None
        if not is_memory(field):
            return value
        try:
            return value * self.unit().bytes
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


def spec_of(options: MutableMapping[str, Any], name: str) -> Any:
    # The client knows each option's type and limits but has no public way to ask for them.
    return options._fields[name]  # type: ignore[attr-defined]


def kind_of(spec: Any) -> str:
    return type(spec).__name__.lower()


def bytes_of(text: str) -> int | None:
    from dask_claim.claim.memory import Memory

    try:
        return Memory(text).bytes
    except (TypeError, ValueError):
        return None


def is_memory(field: str) -> bool:
    return "memory" in field
