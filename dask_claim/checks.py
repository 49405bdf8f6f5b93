"""Every fault of a claim at once: of each field, and between fields that are each sound."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from dask_claim import units
from dask_claim.errors import ClaimError, Fault
from dask_claim.fields import ClaimFields
from dask_claim.names import refusal
from dask_claim.plan import bound_faults
from dask_claim.redact import redact

if TYPE_CHECKING:
    from collections.abc import Iterable

    from dask_claim.spellings import Reading

_DEPEND = {
    "worker_cores": ("min_cores", "max_cores"),
    "worker_cores_limit": ("max_cores",),
    "worker_memory": ("max_memory",),
}
"""Which bounds cannot be counted in workers without which field."""


def check_fields(reading: Reading) -> tuple[dict[str, Any], list[Fault], set[str]]:
    """Check the fields of one reading, each by itself.

    Returns the sound ones, all faults (also those of the reading), and the names of the fields
    that had a value which is not sound.
    """
    faults = list(reading.faults)
    wrong: dict[str, str] = {}
    for name, value in leaves(reading.fields):
        template = isinstance(value, str) and value.lstrip().startswith(("$(", "${"))
        if template and not name.startswith("options."):
            wrong[name] = "is an expression that no runner has evaluated; write its value"
    try:
        ClaimFields.model_validate(reading.fields)
    except ValidationError as error:
        for found in error.errors(include_url=False, include_input=False):
            cause = found.get("ctx", {}).get("error")
            name = ".".join(str(part) for part in found["loc"][:1])
            name = f"{name}.{found['loc'][1]}" if len(found["loc"]) > 1 else name
            wrong.setdefault(name, str(cause or found["msg"]))
    for name, value in leaves(reading.fields):
        parent, _, field = name.partition(".")
        if parent == "env" and field and name not in wrong:
            reason = refusal(str(value).strip(), field)
            if reason:
                wrong[name] = reason
    sound = {
        name: {key: item for key, item in value.items() if f"{name}.{key}" not in wrong}
        if isinstance(value, dict)
        else value
        for name, value in reading.fields.items()
        if name not in wrong
    }
    for name, value in leaves(reading.fields):
        if name in wrong:
            path = reading.paths.get(name, name)
            faults.append(Fault(path, redact(value, path), wrong[name]))
    return sound, faults, {name.partition(".")[0] for name in wrong}


def cross_faults(fields: Mapping[str, Any], doubtful: Iterable[str] = ()) -> list[Fault]:
    """Return what is wrong between fields that are each sound.

    Nothing is concluded from the `doubtful` ones, whose true value is not known.
    """
    claim, doubtful = ClaimFields(**fields), frozenset(doubtful)
    faults = []
    least, most = claim.worker_cores, claim.worker_cores_limit
    if least is not None and most is not None and most < least:
        mend = f"is less than worker_cores {least}; write {least} or more, or leave it out"
        faults.append(Fault("worker_cores_limit", most, mend))
    if claim.provider == "gateway" and not claim.gateway_url and "gateway_url" not in doubtful:
        mend = "needs a gateway_url; write one, or set DASK_CLAIM__GATEWAY_URL"
        faults.append(Fault("provider", "gateway", mend))
    owners: dict[str, str] = {}
    for field, name in claim.env.items():
        if owners.setdefault(name, field) != field:
            mend = f"is also the name for env.{owners[name]}; give each field a name of its own"
            faults.append(Fault(f"env.{field}", name, mend))
    unknown = {name for cause, names in _DEPEND.items() if cause in doubtful for name in names}
    return faults + bound_faults(claim.model_copy(update=dict.fromkeys(unknown)))


def settled(reading: Reading) -> dict[str, Any]:
    """Return fields that make a sound claim, or raise every fault there is."""
    fields, faults, doubtful = check_fields(reading)
    for fault in cross_faults(fields, doubtful):
        path = "/".join(reading.paths.get(name, name) for name in fault.path.split("/"))
        faults.append(Fault(path, fault.value, fault.mend))
    if faults:
        raise ClaimError(faults)
    claim = ClaimFields(**fields)
    if claim.gateway_url and claim.proxy_url and claim.proxy_url.isdigit():
        # A port alone means one on the gateway's host; from here on it is a whole address.
        fields["proxy_url"] = units.at_port(claim.gateway_url, claim.proxy_url)
    return fields


def leaves(fields: Mapping[str, object]) -> list[tuple[str, object]]:
    """Return (name, value) of every field, those of `env` and `options` one by one."""
    found: list[tuple[str, object]] = []
    for name, value in fields.items():
        if name in ("env", "options") and isinstance(value, dict):
            found += [(f"{name}.{key}", item) for key, item in value.items()]
        else:
            found.append((name, value))
    return found
