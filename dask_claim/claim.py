"""The claim: what one program asks for, checked as a whole, every fault found at once."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from typing_extensions import Self

from dask_claim import units
from dask_claim.checks import settled
from dask_claim.fields import ClaimFields
from dask_claim.memory import Memory
from dask_claim.plan import Plan, make_plan
from dask_claim.spellings import read
from dask_claim.texts import parse_json
from dask_claim.vocabulary import FIELDS


class Claim(ClaimFields):
    """What one program asks for: a frozen record of the fields, sound as a whole.

    `Claim(...)`, `Claim.model_validate(...)` and `Claim.model_validate_json(...)` take any
    spelling of a claim and raise `ClaimError`, with every fault, if it is not sound.
    """

    def __init__(self, **data: Any) -> None:
        super().__init__(**settled(read(data)))

    @classmethod
    def model_validate(cls, obj: Any, **_: Any) -> Self:
        """Return the claim that `obj`, an object in any spelling, stands for."""
        return obj if isinstance(obj, cls) else cls(**settled(read(obj)))

    @classmethod
    def model_validate_json(cls, json_data: str | bytes | bytearray, **_: Any) -> Self:
        """Return the claim that a JSON text in any spelling stands for."""
        text = (
            json_data if isinstance(json_data, str) else bytes(json_data).decode("utf-8", "replace")
        )
        raw, faults = parse_json(text)
        reading = read({} if faults and raw is None else raw)
        reading.faults[:0] = faults
        return cls(**settled(reading))

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None) -> Claim:
        """Return the claim of this environment: all that `load` considers.

        `environ` stands in for `os.environ`. Raises ClaimError.
        """
        return load(environ=environ).claim

    def plan(self, environ: Mapping[str, str] | None = None) -> Plan:
        """Return what will be asked for.

        `environ` stands in for `os.environ`, read for `DASK_SCHEDULER_ADDRESS` only.
        """
        environ = os.environ if environ is None else environ
        return make_plan(self, environ.get("DASK_SCHEDULER_ADDRESS", "").strip() or None)

    def to_dict(self) -> dict[str, Any]:
        """Return the canonical spelling, fit for JSON. Memory as written, no absent fields."""
        fields = {name: getattr(self, name) for name in FIELDS}
        shown = {name: value for name, value in fields.items() if value is not None}
        for name, value in shown.items():
            if isinstance(value, Memory):
                shown[name] = value.written
            elif isinstance(value, Mapping):
                shown[name] = units.json_value(value)
        return shown


@dataclass(frozen=True)
class Effective:
    """A claim, and where each of its values comes from."""

    claim: Claim
    sources: dict[str, str]
    """Field → place; also `env.X` and `options.X` for each entry; `default` where nobody said."""


def load(
    flags: Mapping[str, object] | None = None, environ: Mapping[str, str] | None = None
) -> Effective:
    """Return the effective claim of this environment and of the command line's `flags`.

    `flags` maps canonical fields to values (None: not given). `environ` stands in for
    `os.environ`. Raises ClaimError with every fault of every place.
    """
    from dask_claim.settings import gather  # needs a library that a claim alone does not

    fields, sources = gather(flags or {}, os.environ if environ is None else environ)
    return Effective(Claim(**fields), sources)
