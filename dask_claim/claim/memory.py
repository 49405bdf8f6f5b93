"""Amounts of memory: as people write them, and in bytes."""

from __future__ import annotations

import math
import re
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from dask_claim.claim.units import Invalid, refuse_expression

if TYPE_CHECKING:
    from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
    from pydantic.json_schema import JsonSchemaValue
    from pydantic_core import CoreSchema

_LONGEST = 64
_LARGEST = 2**63 - 1
_HINT = 'write an amount with its unit, for example "4G"'
_MEMORY = re.compile(
    r"(?P<amount>(?:\d+\.?\d*|\.\d+)(?:[eE]\+?\d{1,2})?)\s*"
    r"(?:(?P<power>[kmgtpKMGTP])(?:(?P<decimal>B|(?<=[kmgtp])b)|[iI][bB]?)?|[bB])?",
    re.ASCII,
)


class Memory(int):
    """An amount of memory: a number of bytes that keeps the text it was written as.

    `K M G T P`, alone or with `i` or `iB`, are powers of 1024; `kB MB GB TB PB` powers of 1000; a
    bare number is bytes. Case does not matter, except that `Gb` and its like are refused: they
    read as bits. Fractions (`"1.5G"`) and a space before the unit are fine.

    Raises ValueError if it is not an amount greater than 0.
    """

    written: str | int
    """As its author wrote it: programs hand this text on to a gateway."""

    def __new__(cls, written: object) -> Memory:
        if isinstance(written, Memory):
            return written
        memory = super().__new__(cls, _bytes(written))
        kept = written.strip() if isinstance(written, str) else int(memory)
        object.__setattr__(memory, "written", kept)
        return memory

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"{name} of a Memory cannot be changed")

    def __reduce__(self) -> tuple[type[Memory], tuple[str | int]]:
        return Memory, (self.written,)

    def __str__(self) -> str:
        return str(self.written)

    def __repr__(self) -> str:
        return f"Memory({self.written!r})"

    @property
    def bytes(self) -> int:
        """The amount, rounded down to whole bytes."""
        return int(self)

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


def _bytes(written: object) -> int:
    refuse_expression(written)
    if isinstance(written, bool) or not isinstance(written, (str, int, float)):
        raise Invalid("is not an amount of memory", _HINT)
    if isinstance(written, str):
        match = _MEMORY.fullmatch(written.strip()) if len(written) <= _LONGEST else None
        if match is None:
            raise Invalid("is not an amount of memory", _HINT)
        power = " kmgtp".index((match["power"] or " ").lower())
        factor: int = (1000 if match["decimal"] else 1024) ** power
        amount = math.floor(Fraction(match["amount"]) * factor)
    elif isinstance(written, float) and not written.is_integer():
        raise Invalid("is not a whole number of bytes", _HINT)
    else:
        amount = int(written)
    if amount < 1:
        raise Invalid("is not greater than 0", _HINT)
    if amount > _LARGEST:
        raise Invalid("is too large", _HINT)
    return amount
