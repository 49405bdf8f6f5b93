"""Amounts of memory: as people write them, and in bytes."""

from __future__ import annotations

import math
import re
from fractions import Fraction
from functools import total_ordering
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
    from pydantic.json_schema import JsonSchemaValue
    from pydantic_core import CoreSchema

_LONGEST = 64
_LARGEST = 2**63 - 1

_MEMORY = re.compile(r"((?:\d+\.?\d*|\.\d+)(?:[eE]\+?\d{1,2})?)\s*([A-Za-z]*)", re.ASCII)

_POWERS = {letter: power for power, letter in enumerate("kmgtp", start=1)}
_FACTORS = {
    "": 1,
    "b": 1,
    **{f"{letter}": 1024**power for letter, power in _POWERS.items()},
    **{f"{letter}i": 1024**power for letter, power in _POWERS.items()},
    **{f"{letter}ib": 1024**power for letter, power in _POWERS.items()},
    **{f"{letter}b": 1000**power for letter, power in _POWERS.items()},
}


@total_ordering
class Memory:
    """An amount of memory: its bytes, and the text that it was written as.

    `K M G T P`, alone or with `i` or `iB`, are powers of 1024; `kB MB GB TB PB` powers of 1000; a
    bare number is bytes. Case does not matter, except that `Gb` and its like are refused: they
    read as bits. Fractions (`"1.5G"`) and a space before the unit are fine. Amounts compare,
    sort and hash by their bytes.

    Raises ValueError if it is not an amount greater than 0.
    """

    __slots__ = ("bytes", "written")

    bytes: int
    """The amount, rounded down to whole bytes."""

    written: str | int
    """As its author wrote it: programs hand this text on to a gateway."""

    def __init__(self, written: object) -> None:
        if isinstance(written, Memory):
            written = written.written
        amount, kept = _parse_memory(written)
        object.__setattr__(self, "bytes", amount)
        object.__setattr__(self, "written", kept)

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"{name} of a Memory cannot be changed")

    def __reduce__(self) -> tuple[type[Memory], tuple[str | int]]:
        return Memory, (self.written,)

    def __str__(self) -> str:
        return str(self.written)

    def __repr__(self) -> str:
        return f"Memory({self.written!r})"

    def __hash__(self) -> int:
        return hash(self.bytes)

    def __eq__(self, other: object) -> bool:
        return self.bytes == other.bytes if isinstance(other, Memory) else NotImplemented

    def __lt__(self, other: Memory) -> bool:
        return self.bytes < other.bytes if isinstance(other, Memory) else NotImplemented

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        from pydantic_core import core_schema

        return core_schema.no_info_plain_validator_function(
            cls,
            serialization=core_schema.plain_serializer_function_ser_schema(
                lambda memory: memory.written
            ),
        )

    @classmethod
    def __get_pydantic_json_schema__(
        cls, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        unit = "([kKmMgGtTpP]([iI][bB]?|B)?|[kmgtp]b|[bB])?"
        return {
            "anyOf": [
                {"type": "integer", "exclusiveMinimum": 0},
                {"type": "string", "pattern": rf"^\s*([0-9]+\.?[0-9]*|\.[0-9]+)\s*{unit}\s*$"},
            ]
        }


def _parse_memory(written: object) -> tuple[int, str | int]:
    hint = '; write an amount with its unit, for example "4G"'
    if isinstance(written, bool) or not isinstance(written, (str, int, float)):
        raise ValueError(f"is not an amount of memory{hint}")
    if isinstance(written, str):
        found = _MEMORY.fullmatch(written.strip()) if len(written) <= _LONGEST else None
        unit = found[2] if found else ""
        factor = _FACTORS.get(unit.lower())
        if not found or not factor or re.fullmatch("[KMGTP]b", unit):
            raise ValueError(f"is not an amount of memory{hint}")
        amount = math.floor(Fraction(found[1]) * factor)
        kept: str | int = written.strip()
    else:
        if isinstance(written, float) and not written.is_integer():
            raise ValueError(f"is not a whole number of bytes{hint}")
        amount = kept = int(written)
    if amount < 1:
        raise ValueError(f"is not greater than 0{hint}")
    if amount > _LARGEST:
        raise ValueError(f"is more than there can be{hint}")
    return amount, kept
