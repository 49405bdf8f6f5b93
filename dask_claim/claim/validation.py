"""Every fault of a claim at once: of each field, and between fields that are each sound."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from pydantic import ValidationError

from dask_claim.claim import units
from dask_claim.claim.fields import ClaimFields, Path, leaves, nested
from dask_claim.claim.memory import Memory
from dask_claim.claim.names import SET_BY_LAUNCHER, nested_names, refusal, suggest_name
from dask_claim.claim.plan import COUNTED_BY, count_workers
from dask_claim.claim.spellings import Reading, suggest
from dask_claim.claim.units import Invalid
from dask_claim.errors import ClaimError, Fault
from dask_claim.registry import provider_class

_HPC = {name: name for name in ("queue", "account", "walltime", "interface", "disk", "directives")}
_HPC_WORD = re.compile(r"[\w.:@/+=,-]+\Z")


def check(reading: Reading) -> Reading:
    """Return a reading of what is sound, as a claim holds it, each value checked by itself."""
    checked = Reading({}, list(reading.faults), reading.written)
    for path, value in reading.values.items():
        try:
            _check_entry(path, value)
            fields = ClaimFields.model_validate(nested({path: value}))
        except (Invalid, ValidationError) as error:
            cause = error if isinstance(error, Invalid) else next(list_problems(error))[1]
            checked.fault(reading.written.get(path, path), value, cause.problem, cause.hint)
            checked.doubtful.add(path[0])
        else:
            checked.values |= leaves({path[0]: getattr(fields, path[0])})
    return checked


def list_problems(error: ValidationError) -> Iterator[tuple[Path, Invalid]]:
    """Yield the path and the cause of everything that pydantic refuses."""
    for each in error.errors(include_url=False, include_input=False):
        cause = each.get("ctx", {}).get("error")
        if not isinstance(cause, Invalid):
            cause = Invalid(str(cause) if cause else each["msg"].removeprefix("Input "))
        yield tuple(map(str, each["loc"])), cause


def _check_entry(path: Path, value: object) -> None:
    """Raise `Invalid` for a variable or a setting of a batch job that is refused."""
    name, *entry = path
    if name == "env" and entry and isinstance(value, str):
        if problem := refusal(value.strip(), entry[0]):
            raise Invalid(problem, f"write {suggest_name(entry[0])}")
    elif name == "hpc" and entry:
        _check_hpc_entry(entry[0], value)


def _check_hpc_entry(name: str, value: object) -> None:
    """Raise `Invalid` for what could begin another line or command of a job's script."""
    if name not in _HPC:
        hint = suggest(name, _HPC) or f"write one of {', '.join(_HPC)}"
        raise Invalid("is not a setting of a batch job", hint)
    if name == "directives":
        lines = value if isinstance(value, list | tuple) else [None]
        if not all(isinstance(line, str) and line.isprintable() for line in lines):
            raise Invalid("is not a list of one-line texts", 'write for example ["--exclusive"]')
    elif name == "disk":
        Memory(value)
    elif isinstance(value, bool) or not isinstance(value, str | int):
        raise Invalid("is not a text", "write one in quotes")
    elif not _HPC_WORD.match(str(value)):
        raise Invalid("is not a single word", "use letters, digits and . : @ / + = , - _")


def cross_faults(values: Mapping[Path, Any], doubtful: Iterable[str] = ()) -> list[Fault]:
    """Return what is wrong between `values`, which `check` has accepted.

    Nothing is concluded from the `doubtful` fields, whose true value is unknown.
    """
    claim, doubtful = ClaimFields.model_construct(**nested(values)), frozenset(doubtful)
    faults = []
    cores, limit = claim.worker_cores, claim.worker_cores_limit
    if cores is not None and limit is not None and limit < cores:
        hint = f"write {cores} or more, or leave it out"
        problem = f"is less than worker_cores {cores}"
        faults.append(Fault(("worker_cores_limit",), limit, problem, hint))
    if claim.share and not claim.lease_timeout and "lease_timeout" not in doubtful:
        problem = "leaves a shared cluster without the lease that tells its runs apart"
        hint = "write a number of seconds, or leave share out"
        faults.append(Fault(("lease_timeout",), claim.lease_timeout, problem, hint, "", ("share",)))
    needs = provider_class(claim.provider).needs if claim.provider != "auto" else ()
    for name in needs:
        if not getattr(claim, name) and name not in doubtful:
            hint = f"write one, or set DASK_CLAIM_{name.upper()}"
            faults.append(Fault(("provider",), claim.provider, f"needs a {name}", hint))
    faults += _name_faults(claim.env)
    uncountable = {bound for bound, names in COUNTED_BY.items() if doubtful.intersection(names)}
    countable = {path: value for path, value in values.items() if path[0] not in uncountable}
    fault = count_workers(ClaimFields.model_construct(**nested(countable))).fault
    return [*faults, fault] if fault else faults


def respell(fault: Fault, written: Mapping[Path, Path]) -> Fault:
    """Return a fault with its paths as the claim's author spelled them."""
    path, other = (written.get(path, path) for path in (fault.path, fault.other))
    return replace(fault, path=path, other=other)


def check_values(reading: Reading) -> dict[str, Any]:
    """Return the values of a sound claim, or raise every fault there is."""
    checked = check(reading)
    crossed = cross_faults(checked.values, checked.doubtful)
    if faults := [*checked.faults, *(respell(fault, reading.written) for fault in crossed)]:
        raise ClaimError(faults)
    return complete(checked.values)


def complete(values: Mapping[Path, Any]) -> dict[str, Any]:
    """Return the fields of sound values, with what follows from others filled in."""
    fields = nested(values)
    gateway, proxy = fields.get("gateway_url"), fields.get("proxy_url")
    if gateway and proxy and proxy.isdigit():
        # A port alone means one on the gateway's host; from here on it is a whole address.
        fields["proxy_url"] = units.at_port(gateway, proxy)
    return fields


def _name_faults(env: Mapping[str, str]) -> Iterator[Fault]:
    """Yield what is wrong between the variables that a program wants."""
    owners: dict[str, str] = {}
    for field, name in env.items():
        if owners.setdefault(name, field) != field:
            problem = f"is also the variable for env.{owners[name]}"
            yield Fault(("env", field), name, problem, "give each field a variable of its own")
    for plain, part in nested_names([*owners, *SET_BY_LAUNCHER]):
        name, other = (part, plain) if part in owners else (plain, part)
        if name in owners:
            problem = f"cannot stand beside {other}: Dask would fail on import"
            yield Fault(("env", owners[name]), name, problem, "choose another name")
