"""Options whose choices stand for a worker's size. No I/O."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, MutableMapping
from typing import TYPE_CHECKING, Any

from dask_claim.claim.site_sections import WorkerSize
from dask_claim.providers.gateway import readings
from dask_claim.providers.gateway.kinds import Option, bytes_of

if TYPE_CHECKING:
    from dask_claim.claim.site_sections import GatewayOptions

    Wanted = list[tuple[str, str | None, Any]]
    """Field of the claim, the gateway's option or None, value."""

    Sized = dict[str, dict[str, WorkerSize]]
    """Option → each of its choices → the size of a worker."""

_SIZES = {"worker_cores": "cores", "worker_memory": "memory", "gpus": "gpus"}


def sized(options: Iterable[Option], site: GatewayOptions) -> Sized:
    """Return the options whose choices tell a worker's size, by the site's file or their texts."""
    found = {option.name: _sizes(option, site) for option in options}
    return {name: sizes for name, sizes in found.items() if sizes}


def choose(
    options: MutableMapping[str, Any],
    wanted: Wanted,
    sizes: Sized,
    understood: list[str],
    faults: list[str],
) -> Wanted:
    """Take the smallest choice that is large enough, of each option that tells a worker's size.

    Returns what is still wanted of the other options.
    """
    needed = {name: value for name, option, value in wanted if option is None and name in _SIZES}
    if not any(needed.values()):
        return wanted
    chosen_for: set[str] = set()
    for name, of_choice in sizes.items():
        told = dict(needed)
        if not any(size.gpus for size in of_choice.values()):
            told.pop("gpus", None)  # it is no matter of these choices
        fitting = [choice for choice, size in of_choice.items() if _enough(size, told)]
        if fitting:
            options[name] = chosen = min(fitting, key=lambda choice: _order(of_choice[choice]))
            size = of_choice[chosen]
            has = f"{size.cores:g} cores, {size.memory}, {size.gpus} GPUs"
            understood.append(f"{name} {chosen!r} is its smallest choice that is enough ({has})")
        else:
            said = ", ".join(f"{field} = {value}" for field, value in told.items())
            offered = ", ".join(of_choice)
            faults.append(f"{said}: no choice is enough; this gateway offers one of {offered}")
        chosen_for |= told.keys()
    return [want for want in wanted if want[0] not in chosen_for]


def too_small(wanted: Wanted, default: WorkerSize | None) -> dict[str, str]:
    """Field that is not offered → what a site's default worker has, where that is less."""
    if default is None:
        return {}
    return {
        name: f", and its default is {getattr(default, _SIZES[name])}"
        for name, option, value in wanted
        if option is None and name in _SIZES and not _enough(default, {name: value})
    }


def _sizes(option: Option, site: GatewayOptions) -> dict[str, WorkerSize]:
    """Choice → size; empty where that is not known of each."""
    if said := site.choices_for(option.name):
        return {choice: said[choice] for choice in said if choice in (option.choices or said)}
    if "scheduler" in option.name.lower():
        return {}
    read = {choice: _read(choice) for choice in option.choices}
    known = {choice: size for choice, size in read.items() if size is not None}
    return known if len(known) == len(read) else {}


def _read(text: str) -> WorkerSize | None:
    """The size that a text such as "4CPU, 28.9Gi" tells; None where it has not both."""
    cores, memory = readings.cores(text), readings.amount(text)
    if not cores or not memory or not bytes_of(memory):
        return None
    said = {"cores": cores, "memory": memory, "gpus": readings.gpus(text)}
    return WorkerSize.model_validate(said)


def _enough(size: WorkerSize, needed: Mapping[str, Any]) -> bool:
    return all(getattr(size, _SIZES[name]) >= value for name, value in needed.items())


def _order(size: WorkerSize) -> tuple[int, int, float]:
    return size.gpus, size.memory.bytes, size.cores
