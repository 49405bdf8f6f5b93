"""The claim: what one program requests, checked as a whole, with all its faults."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from pydantic import PrivateAttr
from typing_extensions import Self

from dask_claim.claim import units
from dask_claim.claim.addresses import GatewayAddress
from dask_claim.claim.choice import RUN_ID, SCHEDULER_ADDRESS, Existing
from dask_claim.claim.fields import FIELDS, ClaimFields
from dask_claim.claim.memory import Memory
from dask_claim.claim.outer_run import ended_run
from dask_claim.claim.plan import Plan, make_plan
from dask_claim.claim.policy import within
from dask_claim.claim.sources import Provenance, gather
from dask_claim.claim.spellings import read, resolve
from dask_claim.claim.texts import parse_json
from dask_claim.claim.validation import check_values
from dask_claim.registry import provider_class


class Claim(ClaimFields):
    """What one program requests: a frozen record of the fields, sound as a whole.

    `Claim(...)`, `Claim.model_validate(...)` and `Claim.model_validate_json(...)` take any
    spelling of a claim and raise `ClaimError`, with every fault, if it is not sound.
    """

    _sources: dict[str, str] = PrivateAttr(default_factory=dict)
    """Field, or `options.X` and the like → source; a program may have changed the value since."""

    def __init__(self, **data: Any) -> None:
        # Pydantic's own __init__ would validate what has just been.
        self.__setstate__(self.model_construct(**check_values(read(data))).__getstate__())

    @classmethod
    def model_validate(cls, obj: Any, **_: Any) -> Self:
        """Return the claim that `obj`, an object in any spelling, describes."""
        return obj if isinstance(obj, cls) else cls.model_construct(**check_values(read(obj)))

    @classmethod
    def model_validate_json(cls, json_data: str | bytes | bytearray, **_: Any) -> Self:
        """Return the claim that a JSON text in any spelling describes."""
        text = (
            json_data if isinstance(json_data, str) else bytes(json_data).decode("utf-8", "replace")
        )
        return cls.model_construct(**check_values(read(*parse_json(text))))

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """Return this claim with the fields of `update`, in any spelling; None removes one.

        Raises ClaimError if the result is not sound.
        """
        if not update:
            return super().model_copy(deep=deep)
        changed = {resolve(name) for name in update}
        kept = {name for name in self.model_fields_set if name not in changed}
        copied = self.model_validate({**{name: getattr(self, name) for name in kept}, **update})
        copied._sources = self._sources
        return copied

    def __eq__(self, other: object) -> bool:
        """Whether the values are equal, wherever they come from."""
        return isinstance(other, Claim) and self.__dict__ == other.__dict__

    __hash__ = None  # type: ignore[assignment]  # its mappings have none either

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None) -> Claim:
        """Return the claim of this environment, merged from all its sources.

        It keeps the source of each value. `environ` replaces `os.environ`. Raises ClaimError.
        """
        resolved = load(environ=environ)
        claim = resolved.claim.model_copy()
        claim._sources = dict(resolved.sources)
        return claim

    def hand_over(self) -> dict[str, Any]:
        """Return the claim with the source of each value, fit for JSON, for `take_over`."""
        values = {
            name: value for name, value in self.to_dict().items() if name in self._set_values()
        }
        return {"values": values, "sources": dict(self._sources)}

    @classmethod
    def take_over(cls, content: Mapping[str, Any]) -> Claim:
        """Return the claim that `hand_over` has described in another process."""
        claim = cls.model_validate(content["values"])
        claim._sources = dict(content["sources"])
        return claim

    def _set_values(self) -> dict[str, Any]:
        values = {name: getattr(self, name) for name in self.model_fields_set}
        return {name: value for name, value in values.items() if value is not None}

    def plan(self, environ: Mapping[str, str] | None = None) -> Plan:
        """Return what will be requested.

        `environ` replaces `os.environ`, which may name a scheduler or cluster that exists already.
        """
        return make_plan(self, os.environ if environ is None else environ)

    def to_dict(self) -> dict[str, Any]:
        """Return the canonical spelling, fit for JSON. Memory as written, no absent fields."""
        fields = {name: getattr(self, name) for name in FIELDS}
        shown = {name: value for name, value in fields.items() if value is not None}
        for name, value in shown.items():
            if isinstance(value, Memory):
                shown[name] = value.written
            elif isinstance(value, Mapping):
                shown[name] = units.json_copy(value)
        return shown


@dataclass(frozen=True)
class Resolved(Provenance):
    """A claim, where each of its values comes from, and which gateways its operator names."""

    claim: Claim

    cuts: tuple[str, ...] = ()
    """What the policy has cut, in words."""

    environ: Mapping[str, str] = field(default_factory=dict, repr=False, compare=False)
    """The variables in which it was made, without those of a run that is over."""

    ended: str = ""
    """Which run that is, in words."""

    @classmethod
    def of(cls, claim: Claim, environ: Mapping[str, str] | None = None) -> Resolved:
        """Return a claim that a program has, merged as `DASK_CLAIM`, which it replaces, would be.

        A value that was read from another source, which still sets it, stays that source's.
        `environ` stands in for `os.environ`. Raises ClaimError with every fault of every source.
        """
        return _resolve({}, environ, claim._set_values(), claim._sources)

    @property
    def claimed_gateway(self) -> GatewayAddress | None:
        """The claim's gateway, None where it has none."""
        return GatewayAddress.of(self.claim, self.operator_gateways)

    def gateway(self) -> GatewayAddress | None:
        """Return the gateway that provider or command use, None where neither uses one.

        That of a runner's cluster where one is adopted, else the claim's: also where only
        `env.gateway_url` gives its address to the command.
        """
        choice = self.plan().choice
        existing = choice.existing if self.claim.create else None
        if existing and existing.cluster_name:
            return GatewayAddress.of(self.claim, self.operator_gateways, existing.gateway_url)
        kind = provider_class(choice.backend)
        handed_over = "gateway_url" in self.claim.env and not kind.starts_gateway
        return self.claimed_gateway if kind.uses_gateway or handed_over else None

    def outside(self, cluster: Existing, why: str) -> Self:
        """Return this outside a run that is over: without the variables that lead to its cluster.

        A batch job that exports everything has them all the same. `why` the cluster is not used.
        """
        name = cluster.cluster_name
        what = f"cluster {name}" if name else f"scheduler at {cluster.scheduler_address}"
        ended = f"{RUN_ID} is left over from another run: its {what} {why}, so it is not used"
        over = {RUN_ID, SCHEDULER_ADDRESS, cluster.variable}
        environ = {name: value for name, value in self.environ.items() if name not in over}
        outside = replace(self, environ=environ, ended=ended)._within_policy()
        return replace(outside, cuts=(*self.cuts, *outside.cuts))

    def _within_policy(self) -> Self:
        if self.site.policy is None:
            return self
        claim, cuts, changed = within(
            self.claim, self.plan(), self.site, self.sources, self.gateway()
        )
        sources = {**self.sources, **dict.fromkeys(changed, f"{self.site.path}, policy")}
        return replace(self, claim=claim, sources=sources, cuts=tuple(cuts))

    def warnings(self) -> list[str]:
        """Return the warnings to log before anything is requested."""
        return [*self.cuts, *self.plan().choice.warnings]

    def plan(self) -> Plan:
        """Return what will be requested: decided once, in the variables of `environ`."""
        return self._plan

    @cached_property
    def _plan(self) -> Plan:
        by_command_line = self.sources.get("provider") == "--provider"
        plan = make_plan(self.claim, self.environ, by_command_line=by_command_line)
        if not self.ended:
            return plan
        warnings = (self.ended, *plan.choice.warnings)
        return replace(plan, choice=replace(plan.choice, warnings=warnings))


def load(
    flags: Mapping[str, object] | None = None, environ: Mapping[str, str] | None = None
) -> Resolved:
    """Return the effective claim of this environment and of the command line's `flags`.

    `flags` maps canonical fields to values (None: not given). `environ` stands in for
    `os.environ`. Raises ClaimError with every fault of every source.
    """
    return _resolve(flags or {}, environ)


def _resolve(
    flags: Mapping[str, object], environ: Mapping[str, str] | None, *program: Mapping[str, Any]
) -> Resolved:
    environ = dict(os.environ if environ is None else environ)
    values, provenance = gather(flags, environ, *program)
    claim = Claim.model_construct(**values)
    resolved = Resolved(**vars(provenance), claim=claim, environ=environ)
    # The command line's own choice looks at no other run.
    run = None if provenance.sources["provider"] == "--provider" else ended_run(environ)
    return resolved.outside(*run) if run else resolved._within_policy()
