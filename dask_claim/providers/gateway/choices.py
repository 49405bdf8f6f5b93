"""Options whose choices stand for a worker's size. No I/O."""

from __future__ import annotations

import re
from collections.abc import MutableMapping
from typing import TYPE_CHECKING, Any

from dask_claim.claim.site_sections import WorkerSize
from dask_claim.providers.gateway.kinds import bytes_of, spec_of

if TYPE_CHECKING:
    from dask_claim.claim.model import Claim
    from dask_claim.claim.site_sections import GatewayOptions

    Wanted = list[tuple[str, str | None, Any]]
    """Field of the claim, the gateway's option or None, value."""

_SIZES = {"worker_cores": "cores", "worker_memory": "memory", "gpus": "gpus"}


def choose(
    options: MutableMapping[str, Any],
    wanted: Wanted,
    claim: Claim,
    site: GatewayOptions,
    understood: list[str],
    faults: list[str],
) -> Wanted:
    """Take the smallest choice that is large enough, where choices tell a worker's size.

    By the site's file, or by their own texts. Returns what is still wanted of the other options.
    """
    needed = {name: value for name, option, value in wanted if option is None and name in _SIZES}
    if not any(needed.values()):
        return wanted
    for name in options:
        spec = spec_of(options, name)
        sizes = _sizes(name, getattr(spec, "options", None), site)
        if name in claim.options or not sizes:
            continue
        if not any(size.gpus for size in sizes.values()):
            needed.pop("gpus", None)  # it is no matter of these choices
        fitting = [choice for choice, size in sizes.items() if _enough(size, needed)]
        if fitting:
            options[name] = chosen = min(fitting, key=lambda choice: _order(sizes[choice]))
            understood.append(f"{name} {chosen!r} is its smallest choice that is enough")
        else:
            said = ", ".join(f"{field} = {value}" for field, value in needed.items())
            offered = ", ".join(sizes)
            faults.append(f"{said}: no choice is enough; this gateway offers one of {offered}")
        return [want for want in wanted if want[0] not in needed]
    return wanted


def too_small(wanted: Wanted, default: WorkerSize | None) -> dict[str, str]:
    """Field that is not offered → what a site's default worker has, where that is less."""
    if default is None:
        return {}
    return {
        name: f", and its default is {getattr(default, _SIZES[name])}"
        for name, option, value in wanted
        if option is None and name in _SIZES and not _enough(default, {name: value})
    }


def _sizes(name: str, choices: Any, site: GatewayOptions) -> dict[str, WorkerSize]:
    """Choice → size; empty where that is not known of each."""
    if name in site.choices:
        said = site.choices[name]
        return {choice: said[choice] for choice in said if not choices or choice in choices}
    read = {str(choice): _read(str(choice)) for choice in choices or ()}
    known = {choice: size for choice, size in read.items() if size is not None}
    return known if len(known) == len(read) else {}


def _read(text: str) -> WorkerSize | None:
    """Cores and memory of a choice such as "4CPU, 28.9Gi"; None where its text has not both."""
    cores = re.search(r"(\d+(?:\.\d+)?)\s?(?:v?CPUs?|cores?)\b", text, re.IGNORECASE)
    memory = re.search(r"(\d+(?:\.\d+)?)\s?([KMGT]i?B?)\b", text)
    if not cores or not memory or not bytes_of(memory.group()) or not float(cores.group(1)):
        return None
    return WorkerSize.model_validate({"cores": float(cores.group(1)), "memory": memory.group()})


def _enough(size: WorkerSize, needed: dict[str, Any]) -> bool:
    return all(getattr(size, _SIZES[name]) >= value for name, value in needed.items())


def _order(size: WorkerSize) -> tuple[int, int, float]:
    return size.gpus, size.memory.bytes, size.cores
