"""Every fault of a claim at once: of each field, and between fields that are each sound."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from dask_claim.claim import units
from dask_claim.claim.fields import MAPPINGS, ClaimFields
from dask_claim.claim.hpc import entry_refusal
from dask_claim.claim.names import SET_BY_LAUNCHER, nested_names, refusal
from dask_claim.claim.plan import bound_faults
from dask_claim.errors import ClaimError, Fault
from dask_claim.redact import redact

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from dask_claim.claim.spellings import Reading

_DEPEND = {
    "worker_cores": ("min_cores", "max_cores"),
    "worker_cores_limit": ("max_cores",),
    "worker_memory": ("max_memory",),
}
"""Which bounds cannot be counted in workers without which field."""


def check_fields(reading: Reading) -> tuple[dict[str, Any], list[Fault], set[str]]:
    """Check the fields of one reading, each by itself.

    Returns the sound ones, as a claim holds them; all faults (also those of the reading); and the
    names of the fields that had a value which is not sound.
    """
    wrong: dict[str, str] = {}
    for name, value in leaves(reading.fields):
        template = isinstance(value, str) and value.lstrip().startswith(("$(", "${"))
        if template and not name.startswith("options."):
            wrong[name] = "is an expression that no runner has evaluated; write its value"
    checked = ClaimFields.model_construct()
    try:
        checked = ClaimFields.model_validate(reading.fields)
    except ValidationError as error:
        for found in error.errors(include_url=False, include_input=False):
            cause = found.get("ctx", {}).get("error")
            name = ".".join(str(part) for part in found["loc"][:2])
            wrong.setdefault(name, str(cause or found["msg"]))
    for name, value in leaves(reading.fields):
        parent, _, field = name.partition(".")
        if parent == "env" and field and name not in wrong:
            reason = refusal(str(value).strip(), field)
            if reason:
                wrong[name] = reason
        elif parent == "hpc" and field and (reason := entry_refusal(field, value)):
            wrong.setdefault(name, reason)
    if wrong:
        # What is left may still be at fault with fields of its own or another source.
        checked = ClaimFields.model_validate(_without(reading.fields, wrong))
    faults = list(reading.faults)
    values = dict(leaves(reading.fields))
    for name in dict.fromkeys((*values, *wrong)):
        if name in wrong:
            path = reading.paths.get(name, name)
            faults.append(Fault(path, redact(values.get(name), path), wrong[name]))
    sound = {
        name: getattr(checked, name) for name in reading.fields if name in checked.model_fields_set
    }
    return sound, faults, {name.partition(".")[0] for name in wrong}


def cross_faults(values: Mapping[str, Any], doubtful: Iterable[str] = ()) -> list[Fault]:
    """Return what is wrong between `values`, fields that `check_fields` found sound.

    Nothing is concluded from the `doubtful` ones, whose true value is not known.
    """
    claim, doubtful = ClaimFields.model_construct(**values), frozenset(doubtful)
    faults = []
    cores, limit = claim.worker_cores, claim.worker_cores_limit
    if cores is not None and limit is not None and limit < cores:
        hint = f"is less than worker_cores {cores}; write {cores} or more, or leave it out"
        faults.append(Fault("worker_cores_limit", limit, hint))
    if claim.provider == "gateway" and not claim.gateway_url and "gateway_url" not in doubtful:
        hint = "needs a gateway_url; write one, or set DASK_CLAIM_GATEWAY_URL"
        faults.append(Fault("provider", "gateway", hint))
    faults += _name_faults(claim.env)
    unknown = {name for cause, names in _DEPEND.items() if cause in doubtful for name in names}
    known = {name: value for name, value in values.items() if name not in unknown}
    return faults + bound_faults(ClaimFields.model_construct(**known))


def sound_values(reading: Reading) -> dict[str, Any]:
    """Return the values of a sound claim, or raise every fault there is."""
    values, faults, doubtful = check_fields(reading)
    for fault in cross_faults(values, doubtful):
        path = "/".join(reading.paths.get(name, name) for name in fault.path.split("/"))
        faults.append(Fault(path, fault.value, fault.hint))
    if faults:
        raise ClaimError(faults)
    return completed(values)


def completed(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return sound values with what follows from others filled in."""
    gateway, proxy = values.get("gateway_url"), values.get("proxy_url")
    if gateway and proxy and proxy.isdigit():
        # A port alone means one on the gateway's host; from here on it is a whole address.
        return {**values, "proxy_url": units.at_port(gateway, proxy)}
    return dict(values)


def _name_faults(env: Mapping[str, str]) -> Iterator[Fault]:
    """What is wrong between the names that a program wants."""
    owners: dict[str, str] = {}
    for field, name in env.items():
        if owners.setdefault(name, field) != field:
            hint = f"is also the name for env.{owners[name]}; give each field a name of its own"
            yield Fault(f"env.{field}", name, hint)
    for plain, part in nested_names([*owners, *SET_BY_LAUNCHER]):
        name, other = (part, plain) if part in owners else (plain, part)
        if name in owners:
            hint = f"cannot stand beside {other}: Dask would fail on import; choose another name"
            yield Fault(f"env.{owners[name]}", name, hint)


def _without(fields: Mapping[str, object], wrong: Mapping[str, str]) -> dict[str, Any]:
    return {
        name: {key: item for key, item in value.items() if f"{name}.{key}" not in wrong}
        if isinstance(value, dict)
        else value
        for name, value in fields.items()
        if name not in wrong
    }


def leaves(fields: Mapping[str, object]) -> list[tuple[str, object]]:
    """Return (name, value) of every field, those of mappings entry by entry."""
    found: list[tuple[str, object]] = []
    for name, value in fields.items():
        if name in MAPPINGS and isinstance(value, dict):
            found += [(f"{name}.{key}", item) for key, item in value.items()]
        else:
            found.append((name, value))
    return found
