"""A gateway's own defaults within the site's policy: what no file tells is seen here. No I/O."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, MutableMapping
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from dask_claim.claim.effective import SIZES, number, order
from dask_claim.claim.memory import Memory
from dask_claim.errors import OptionError
from dask_claim.providers.gateway.choices import sized
from dask_claim.providers.gateway.conversion import converted
from dask_claim.providers.gateway.kinds import Option, spec_of

if TYPE_CHECKING:
    from dask_claim.claim.model import Claim
    from dask_claim.claim.site_sections import GatewayOptions, Policy

# An option that counts in whole units may be so many times what is claimed.
_ROUNDED_UP = Fraction("1.01")


@dataclass(frozen=True)
class Limit:
    """The most that one worker may have of something."""

    bound: str
    amount: Fraction

    def value(self, field: str) -> Any:
        """Return it as a claim has it."""
        if field == "worker_memory":
            return Memory(f"{int(self.amount) // 2**20 or 1} M")
        return int(self.amount) if self.amount >= 1 or not self.amount else float(self.amount)


def limits(policy: Policy, workers: int) -> dict[str, Limit]:
    """Return the limits of a worker, of so many as may be."""
    found: dict[str, Limit] = {}
    for field, whole in (("worker_cores", "max_cores"), ("worker_memory", "max_memory"),
                         ("gpus", None)):  # fmt: skip
        each = getattr(policy, field)
        together = getattr(policy, whole) if whole else None
        bounds = [Limit(field, number(each))] if each is not None else []
        if whole and together is not None:
            bounds.append(Limit(whole, number(together) / max(1, workers)))
        if bounds:
            found[field] = min(bounds, key=lambda limit: limit.amount)
    if "worker_cores" in found:
        found["worker_cores_limit"] = found["worker_cores"]
    return found


def keep_within(
    options: MutableMapping[str, Any],
    claim: Claim,
    workers: int,
    site: GatewayOptions,
    policy: Policy,
    path: str,
) -> tuple[list[str], list[str]]:
    """Lower the defaults of a gateway that exceed the policy in the file at `path`.

    `options` are filled with the claim, and changed in place. Returns what was lowered, in words:
    what nobody has claimed, and what is less than claimed (a policy that cuts, `strict: false`).

    Raises
    ------
    OptionError
        A worker would have more, or nobody can tell what it would have.
    """
    free = [
        Option(name, spec_of(options, name), site.unit_for(name))
        for name in options
        if name not in claim.options
    ]
    allowed = limits(policy, workers)
    choices = sized(free, site)
    by_name = {option.name: option for option in free if option.name not in choices}
    # What a choice of a whole size has to be enough for.
    needed = {
        part: value
        for field, part in SIZES.items()
        if (value := getattr(claim, field)) is not None and site.option_for(field, by_name) is None
    }
    lenient = policy.excess == "cut" or not claim.strict
    notes: list[str] = []
    less: list[str] = []
    faults, told = [], set[str]()
    for name, sizes in choices.items():
        told |= set(SIZES)
        within = [one for one in sizes if not list(_over(sizes[one], allowed))]
        enough = [one for one in within if _has(sizes[one], needed)]
        fitting = enough or (within if lenient else [])
        over = list(_over(sizes[options[name]], allowed)) if options[name] in sizes else []
        if over and fitting:
            options[name] = max(fitting, key=lambda one: order(sizes[one]))
            (notes if enough else less).append(
                f"{name} is {options[name]!r}, for policy.{over[0].bound} in {path}"
            )
        faults += [
            f"{name} {options[name]!r} exceeds policy.{limit.bound} in {path} (allowed: at most "
            f"{limit.value(field)} for each of {workers} workers)"
            for field, limit in allowed.items()
            if limit in over and not fitting
        ]
    for field, limit in allowed.items():
        if field in told or any(site.field_of(name) == field for name in claim.options):
            continue
        option = by_name.get(site.option_for(field, by_name) or "")
        try:
            claimed = getattr(claim, field) is not None
            lowered = _lower(options, option, field, limit, site, claimed and not lenient)
            (less if claimed else notes).extend(lowered)
        except ValueError as error:
            faults.append(
                f"{field}: {error}; it may exceed policy.{limit.bound} in {path} (allowed: at most "
                f"{limit.value(field)} for each of {workers} workers)"
            )
    if faults:
        raise OptionError("the site's policy bounds what is claimed:\n  " + "\n  ".join(faults))
    return notes, less


def _has(size: Any, needed: Mapping[str, Any]) -> bool:
    return all(number(getattr(size, part)) >= number(value) for part, value in needed.items())


def _over(size: Any, allowed: dict[str, Limit]) -> Iterator[Limit]:
    for field, part in SIZES.items():
        if field in allowed and number(getattr(size, part)) > allowed[field].amount:
            yield allowed[field]


def _lower(
    options: MutableMapping[str, Any],
    option: Option | None,
    field: str,
    limit: Limit,
    site: GatewayOptions,
    kept: bool,
) -> list[str]:
    """Lower one option to its limit. Raises ValueError where that cannot be, or be known.

    `kept`: no choice that is less than claimed will do.
    """
    if option is None:
        default = getattr(site.default, SIZES[field]) if site.default and field in SIZES else None
        if default is not None and number(default) > limit.amount:
            raise ValueError(f"this gateway does not offer it, and its default is {default}")
        if default is None and field in ("worker_cores", "worker_memory"):
            raise ValueError(
                "this gateway does not offer it, and no file tells its default; its operator "
                "writes it under gateway_options: {default: {cores: …, memory: …}}"
            )
        return []
    has = option.counted(options[option.name], field)
    if has is not None and Fraction(str(has)) <= limit.amount * _ROUNDED_UP:
        return []
    value = limit.value(field)
    if option.choices:
        counted = {one: option.counted(one, field) for one in option.choices}
        within = {
            one: size for one, size in counted.items() if size is not None and size <= limit.amount
        }
        if not within or kept:
            enough = "both enough and " if kept else ""
            raise ValueError(f"no choice of {option.name} is {enough}small enough")
        options[option.name] = chosen = max(within, key=lambda one: within[one])
        return [f"{option.name} is {chosen!r}, for policy.{limit.bound}"]
    options[option.name], _ = converted(option, field, value)
    return [f"{option.name} is {value}, its limit by policy.{limit.bound}"]
