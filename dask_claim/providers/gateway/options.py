"""The claim in the terms of one gateway: its options, their types and limits. No I/O."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from dask_claim.claim.site_sections import GatewayOptions
from dask_claim.errors import OptionError
from dask_claim.providers.gateway.choices import choose, too_small
from dask_claim.providers.gateway.kinds import (
    bytes_of,
    converted,
    kind_of,
    limits,
    number_unit,
    spec_of,
)

if TYPE_CHECKING:
    from dask_claim.claim.model import Claim

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
    faults: list[str] = []
    for known in site.units.keys() & options:
        # The client shows a label and does nothing else with it.
        spec_of(options, known).label = site.units[known]
    offered = [name for name in options if name not in claim.options]
    wanted: list[tuple[str, str | None, Any]] = []
    for field_name in FIELDS:
        value = getattr(claim, field_name)
        if value is not None and value != {}:
            wanted.append((field_name, site.option_for(field_name, offered), value))
    wanted = choose(options, wanted, claim, site, filled.understood, faults)
    lacking = too_small(wanted, site.default)
    wanted += _whole_cluster(options, offered, claim, max_workers, site)
    for field_name, name, value in wanted:
        if name is None:
            # Nobody offers a GPU or a variable by default; what else is missing, the workers tell.
            none = field_name == "environment" or (
                field_name == "gpus" and value and site.default is None
            )
            if field_name in lacking or none:
                why = lacking.get(field_name, "")
                faults.append(
                    f"{field_name} = {_shown(value)}: this gateway does not offer it{why}"
                )
            elif field_name != "gpus":
                filled.missing.append(field_name)
            continue
        spec = spec_of(options, name)
        try:
            options[name] = converted(field_name, value, spec)
        except (TypeError, ValueError) as error:
            shown = f"{name} = {_shown(value)}: {error}"
            faults.append(f"{shown}; this gateway offers {limits(spec, field_name)}")
        else:
            if name.lower() != field_name and field_name in FIELDS:
                filled.understood.append(f"{field_name} is its {name}")
    if not claim.strict:
        filled.given_up, faults = faults, []
    for name, value in claim.options.items():
        if name not in options:
            filled.missing.append(name)
            continue
        spec = spec_of(options, name)
        # In the gateway's own terms already; only digits for a text lose their quotes on the way
        # (YAML, variables).
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        try:
            options[name] = str(value) if number and kind_of(spec) == "string" else value
        except (TypeError, ValueError) as error:
            faults.append(f"{name} = {value}: {error}; this gateway offers {limits(spec, name)}")
    if faults:
        raise OptionError("the gateway cannot give what is claimed:\n  " + "\n  ".join(faults))
    return filled


IDLE_TIMEOUT = "DASK_DISTRIBUTED__SCHEDULER__IDLE_TIMEOUT"


def variables_option(
    options: MutableMapping[str, Any], site: GatewayOptions | None, claim: Claim | None = None
) -> str | None:
    """Return the option that takes variables of scheduler and workers; None: there is none.

    Nor is there where the claim sets it by its own name.
    """
    offered = [name for name in options if claim is None or name not in claim.options]
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
    if name := variables_option(options, site, claim):
        options[name] = {IDLE_TIMEOUT: f"{seconds:g}s", **(options[name] or {})}
        found = True
    for name in options:
        # Never, by default; a time that the site has chosen stays.
        if name.lower() in _IDLE and name not in claim.options and not options[name]:
            amount = math.ceil(seconds / _IDLE[name.lower()])
            with contextlib.suppress(TypeError, ValueError):
                options[name] = amount
                found = True
    return found


_IDLE = {"idle_timeout": 1, "idle_timeout_seconds": 1, "idle_timeout_minutes": 60}


def _whole_cluster(
    options: MutableMapping[str, Any],
    offered: list[str],
    claim: Claim,
    max_workers: int | None,
    site: GatewayOptions,
) -> list[tuple[str, str | None, Any]]:
    """What some gateways ask for beside a worker: threads, a limit of its memory, the whole."""
    from dask_claim.claim.memory import Memory

    cores, memory = claim.worker_cores, claim.worker_memory
    found: dict[str, Any] = {}
    if cores is not None:
        found["worker_threads"] = max(1, int(cores))
    if memory is not None:
        found["worker_memory_limit"] = memory
    if max_workers:
        found["cluster_max_workers"] = max_workers
        if cores is not None:
            # The scheduler counts, too.
            own = options.get("scheduler_core_limit", options.get("scheduler_cores", 1))
            found["cluster_max_cores"] = max_workers * cores + own
        if memory is not None:
            own = _scheduler_memory(options)
            found["cluster_max_memory"] = Memory(max_workers * memory.bytes + own)
    named = ((field, site.option_for(field, offered), value) for field, value in found.items())
    return [(field, name, value) for field, name, value in named if name is not None]


def _scheduler_memory(options: MutableMapping[str, Any]) -> int:
    """Bytes that the scheduler takes of a cluster's; the server's own default is 2 GiB."""
    for name in ("scheduler_memory_limit", "scheduler_memory"):
        if name in options:
            value, spec = options[name], spec_of(options, name)
            if isinstance(value, str):
                return bytes_of(value) or 2 * 2**30
            return int(value * number_unit(spec)[1])
    return 2 * 2**30


def _shown(value: Any) -> str:
    return ", ".join(value) if isinstance(value, Mapping) else str(value)
