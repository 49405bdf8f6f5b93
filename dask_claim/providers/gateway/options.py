"""The claim in the terms of one gateway: its options, their types and limits. No I/O."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterable, Iterator, Mapping, MutableMapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from dask_claim.claim.memory import Memory
from dask_claim.claim.site_sections import GatewayOptions
from dask_claim.errors import OptionError
from dask_claim.providers.gateway.choices import choose, sized, too_small
from dask_claim.providers.gateway.conversion import Unsuitable, as_written, converted
from dask_claim.providers.gateway.kinds import Option, kind_of, spec_of

if TYPE_CHECKING:
    from dask_claim.claim.model import Claim
    from dask_claim.providers.gateway.choices import Wanted

FIELDS = ("image", "worker_cores", "worker_cores_limit", "worker_memory", "gpus", "environment")
"""Fields of the claim that an option can stand for."""


@dataclass
class Filled:
    """How a claim and what a gateway offers fit together."""

    missing: list[str] = field(default_factory=list)
    """Fields and options of the claim that this gateway does not offer."""

    understood: list[str] = field(default_factory=list)
    """What was concluded from names and texts, for a person to check."""

    given_up: list[str] = field(default_factory=list)
    """What cannot be given, where the claim is not strict."""


def fill(
    options: MutableMapping[str, Any],
    claim: Claim,
    max_workers: int | None = None,
    site: GatewayOptions | None = None,
) -> Filled:
    """Set the claim's values on `options`, as the gateway offers them.

    Parameters
    ----------
    options : dask_gateway.options.Options
        What the gateway offers, with its defaults; changed in place.
    claim : Claim
    max_workers : int, optional
        The plan's, for gateways that also want the size of the whole cluster.
    site : GatewayOptions, optional
        What the site's file says of them.

    Raises
    ------
    OptionError
        Values outside the offered ranges or choices, all of them, each with its limits; fields
        that no default of a gateway satisfies. With `strict: false` only for `options`.
    """
    site = site or GatewayOptions()
    filled = Filled()
    own = _own(options, claim)
    wrong, unknown = _take_verbatim(options, own)
    free = {
        name: Option(name, spec_of(options, name), site.unit_for(name))
        for name in options
        if name not in own
    }
    sizes = sized(free.values(), site)
    # What a choice of a whole size stands for is not chosen once more by a part of it.
    offered = [name for name in free if name not in sizes]
    claimed = {name: getattr(claim, name) for name in FIELDS}
    wanted: Wanted = [
        (name, site.option_for(name, offered), value)
        for name, value in claimed.items()
        if value is not None and value != {}
    ]
    faults: list[str] = []
    wanted = choose(options, wanted, sizes, filled.understood, faults)
    lacking = too_small(wanted, site.default)
    for field_name, name, value in wanted:
        if name is not None:
            faults += _set(options, free[name], field_name, value, filled.understood)
        elif fault := _fault_of_missing(field_name, value, lacking, site):
            faults.append(fault)
        elif field_name != "gpus":
            filled.missing.append(field_name)
    for field_name, value in _whole_cluster(options, claim, max_workers, site):
        if name := site.option_for(field_name, free):
            with contextlib.suppress(Unsuitable):
                faults += _set(options, free[name], field_name, value, filled.understood, True)
    filled.missing += unknown
    if not claim.strict:
        filled.given_up, faults = faults, []
    if faults := wrong + faults:
        raise OptionError("the gateway cannot give what is claimed:\n  " + "\n  ".join(faults))
    return filled


def own_names(options: Iterable[str], claim: Claim | None) -> dict[str, str]:
    """Return the gateway's names, in its own case, of the claim's `options` → the claim's.

    Where two of them are one for the gateway the last holds: it is of the stronger source.
    """
    offered = {name.lower(): name for name in options} | {name: name for name in options}
    said = claim.options if claim is not None else {}
    return {offered.get(name, offered.get(name.lower(), name)): name for name in said}


def _own(options: MutableMapping[str, Any], claim: Claim) -> dict[str, Any]:
    """Return the claim's `options` by the names that the gateway has for them."""
    return {name: claim.options[said] for name, said in own_names(options, claim).items()}


def _take_verbatim(
    options: MutableMapping[str, Any], own: Mapping[str, Any]
) -> tuple[list[str], list[str]]:
    """Set the claim's own options, which are in the gateway's own terms.

    Returns what is wrong, and the names that the gateway does not offer.
    """
    faults, unknown = [], []
    for name, value in own.items():
        if name not in options:
            unknown.append(name)
            continue
        option = Option(name, spec_of(options, name))
        try:
            options[name] = as_written(option.kind, value)
        except (TypeError, ValueError) as error:
            faults.append(f"{name} = {value}: {error}; this gateway offers {option.limits(name)}")
    return faults, unknown


def _set(
    options: MutableMapping[str, Any],
    option: Option,
    field_name: str,
    value: Any,
    understood: list[str],
    derived: bool = False,
) -> list[str]:
    """Set one option; return what is wrong. `derived`: nobody has claimed just this value.

    Raises Unsuitable where a derived value cannot be held.
    """
    try:
        options[option.name], concluded = converted(option, field_name, value, at_least=derived)
    except (TypeError, ValueError) as error:
        if derived and isinstance(error, Unsuitable):
            raise
        shown = f"{option.name} = {_shown(value)}: {error}"
        return [f"{shown}; this gateway offers {option.limits(field_name)}"]
    if option.name.lower() != field_name and not derived:
        understood.append(f"{field_name} is its {option.name}")
    understood += concluded
    return []


def _fault_of_missing(
    field_name: str, value: Any, lacking: Mapping[str, str], site: GatewayOptions
) -> str | None:
    # Nobody offers a GPU or a variable by default; what else is missing, the workers tell.
    none = field_name == "environment" or (field_name == "gpus" and value and site.default is None)
    if field_name not in lacking and not none:
        return None
    why = lacking.get(field_name, "")
    return f"{field_name} = {_shown(value)}: this gateway does not offer it{why}"


IDLE_TIMEOUT = "DASK_DISTRIBUTED__SCHEDULER__IDLE_TIMEOUT"


def variables_option(
    options: MutableMapping[str, Any], site: GatewayOptions | None, claim: Claim | None = None
) -> str | None:
    """Return the option that takes variables of scheduler and workers; None: there is none.

    Nor is there where the claim sets it by its own name.
    """
    own = own_names(options, claim)
    offered = [name for name in options if name not in own]
    name = (site or GatewayOptions()).option_for("environment", offered)
    return name if name is not None and kind_of(spec_of(options, name)) == "mapping" else None


def end_when_idle(
    options: MutableMapping[str, Any],
    claim: Claim,
    seconds: float,
    site: GatewayOptions | None = None,
) -> bool:
    """Have a cluster that nobody uses end by itself, where the gateway's options can say so.

    From its request on, without anything of ours in its image: a launcher whose whole container
    ends before its lease is placed leaves nothing else. The lease counts as use. Returns whether
    there is such an option.
    """
    found = False
    own = own_names(options, claim)
    if name := variables_option(options, site, claim):
        options[name] = {IDLE_TIMEOUT: f"{seconds:g}s", **(options[name] or {})}
        found = True
    for name in options:
        # Never, by default; a time that the site has chosen stays.
        if name.lower() in _IDLE and name not in own and not options[name]:
            amount = math.ceil(seconds / _IDLE[name.lower()])
            with contextlib.suppress(TypeError, ValueError):
                options[name] = amount
                found = True
    return found


_IDLE = {"idle_timeout": 1, "idle_timeout_seconds": 1, "idle_timeout_minutes": 60}


def _whole_cluster(
    options: MutableMapping[str, Any],
    claim: Claim,
    max_workers: int | None,
    site: GatewayOptions,
) -> Iterator[tuple[str, Any]]:
    """What some gateways ask for beside a worker: threads, a limit of its memory, the whole."""

    def of_scheduler(field: str, default: float) -> float:
        # It counts, too.
        if (name := site.option_for(field, options)) is None:
            return default
        option = Option(name, spec_of(options, name), site.unit_for(name))
        counted = option.counted(options[name], field)
        return default if counted is None else counted

    cores, memory = claim.worker_cores, claim.worker_memory
    if max_workers:
        yield "cluster_max_workers", max_workers
    if cores is not None:
        yield "worker_threads", max(1, int(cores))
        if max_workers:
            yield "cluster_max_cores", max_workers * cores + of_scheduler("scheduler_cores", 1)
    if memory is not None:
        yield "worker_memory_limit", memory
        if max_workers:
            # The server's own default is 2 GiB.
            own = of_scheduler("scheduler_memory", 2 * 2**30)
            yield "cluster_max_memory", Memory(max_workers * memory.bytes + math.ceil(own))


def _shown(value: Any) -> str:
    return ", ".join(value) if isinstance(value, Mapping) else str(value)
