"""A gateway's own defaults within the site's policy: what no file tells is seen here. No I/O."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, MutableMapping
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from dask_claim.claim.effective import SIZES, number, order
from dask_claim.claim.memory import Memory
from dask_claim.claim.site_sections import GatewayOptions
from dask_claim.errors import OptionError
from dask_claim.providers.gateway.choices import sized
from dask_claim.providers.gateway.conversion import converted
from dask_claim.providers.gateway.kinds import Option, is_memory, spec_of
from dask_claim.providers.gateway.options import Filled, fill, own_names

if TYPE_CHECKING:
    from dask_claim.claim.model import Claim
    from dask_claim.claim.site_sections import Policy, WorkerSize
    from dask_claim.providers.values import Request

# An option that counts in whole units may be so many times what is claimed.
_ROUNDED_UP = Fraction("1.01")


@dataclass(frozen=True)
class Limit:
    """The most that one worker may have of something."""

    bound: str
    amount: Fraction

    def value(self, field: str) -> Any:
        """Return it as a claim has it."""
        if is_memory(field):
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
    return found | {f"{name}_limit": limit for name, limit in found.items() if name != "gpus"}


def fill_within(options: MutableMapping[str, Any], request: Request) -> tuple[Filled, list[str]]:
    """Fill in the claim, and keep the rest within the policy, as both functions describe it.

    Returns what was filled in, and what is less than claimed.
    """
    claim, workers = request.claim, request.plan.max_workers
    filled, less = fill(options, claim, workers, request.gateway_options), list[str]()
    if request.policy is not None:
        site = request.gateway_options or GatewayOptions()
        lowered, less = keep_within(
            options, claim, workers, site, request.policy, request.site_file, request.sites
        )
        filled.understood += lowered
    return filled, less


def keep_within(
    options: MutableMapping[str, Any],
    claim: Claim,
    workers: int,
    site: GatewayOptions,
    policy: Policy,
    path: str,
    sites: frozenset[str],
) -> tuple[list[str], list[str]]:
    """Lower the defaults of a gateway that exceed the policy in the file at `path`.

    `options` are filled with the claim, and changed in place; but for those that the claim names,
    which keep to the policy or are refused. What the site's own file asks for, `sites`, stays.
    Returns what was lowered, in words: what nobody has claimed, and what is less than claimed (a
    policy that cuts, `strict: false`).

    Raises
    ------
    OptionError
        A worker would have more, or nobody can tell what it would have.
    """
    own = own_names(options, claim)
    exempt = {name for name, said in own.items() if f"options.{said}" in sites}
    offered = [Option(name, spec_of(options, name), site.unit_for(name)) for name in options]
    choices = sized(offered, site)
    free = {one.name: one for one in offered if one.name not in own and one.name not in choices}
    lenient = policy.excess == "cut" or not claim.strict
    bounds = _Bounds(options, claim, site, limits(policy, workers), path, workers, lenient)
    for name, sizes in choices.items():
        if name not in exempt:
            bounds.keep_choice(name, sizes, free, kept=name in own)
    # Whether choices tell the size of the whole worker.
    known = [name in exempt or options[name] in sizes for name, sizes in choices.items()]
    told = bool(known) and all(known)
    named = {site.field_of(name) for name in own}
    for field, limit in bounds.allowed.items():
        if field in named:
            continue
        option = free.get(site.option_for(field, free) or "")
        try:
            bounds.keep_field(field, limit, option, told)
        except ValueError as error:
            bounds.refuse(f"{field}: {error}; it may exceed", field, limit)
    if bounds.faults:
        raise OptionError(
            "the site's policy bounds what is claimed:\n  " + "\n  ".join(bounds.faults)
        )
    return bounds.notes, bounds.less


class _Bounds:
    """The limits of a worker, and what has been done about them."""

    def __init__(
        self,
        options: MutableMapping[str, Any],
        claim: Claim,
        site: GatewayOptions,
        allowed: Mapping[str, Limit],
        path: str,
        workers: int,
        lenient: bool,
    ) -> None:
        self.options, self.claim, self.site, self.allowed = options, claim, site, allowed
        self.path, self.workers, self.lenient = path, workers, lenient
        self.notes: list[str] = []
        self.less: list[str] = []
        self.faults: list[str] = []

    def refuse(self, words: str, field: str, limit: Limit) -> None:
        self.faults.append(
            f"{words} policy.{limit.bound} in {self.path} (allowed: at most {limit.value(field)} "
            f"for each of {self.workers} workers)"
        )

    def keep_choice(
        self, name: str, sizes: Mapping[str, WorkerSize], free: Mapping[str, Option], *, kept: bool
    ) -> None:
        """Take a smaller choice of a whole size where it is too large, unless it is to be kept."""
        chosen = self.options[name]
        over = dict(self._over(sizes[chosen])) if chosen in sizes else {}
        if not over:
            return
        within = [] if kept else [one for one in sizes if not dict(self._over(sizes[one]))]
        # What it has to be enough for: what no other option stands for.
        needed = {
            part: number(value)
            for field, part in SIZES.items()
            if (value := getattr(self.claim, field)) is not None
            and self.site.option_for(field, free) is None
        }
        enough = [
            one
            for one in within
            if all(number(getattr(sizes[one], part)) >= least for part, least in needed.items())
        ]
        if fitting := enough or (within if self.lenient else []):
            self.options[name] = max(fitting, key=lambda one: order(sizes[one]))
            bound = next(iter(over.values())).bound
            (self.notes if enough else self.less).append(
                f"{name} is {self.options[name]!r}, for policy.{bound} in {self.path}"
            )
            return
        for field, limit in over.items():
            self.refuse(f"{name} {chosen!r} exceeds", field, limit)

    def _over(self, size: WorkerSize) -> Iterator[tuple[str, Limit]]:
        for field, part in SIZES.items():
            limit = self.allowed.get(field)
            if limit is not None and number(getattr(size, part)) > limit.amount:
                yield field, limit

    def keep_field(self, field: str, limit: Limit, option: Option | None, told: bool) -> None:
        """Lower one option to its limit. Raises ValueError where that cannot be, or be known.

        `told`: a choice tells the worker's size.
        """
        whole = field.removesuffix("_limit")
        claimed = getattr(self.claim, field, None)
        claimed = getattr(self.claim, whole) if claimed is None else claimed
        default = getattr(self.site.default, SIZES[whole], None)
        if option is None:
            if field == whole and not told:
                _check_default(field, default, limit)
            return
        has = option.counted(self.options[option.name], field)
        if told if has is None else Fraction(str(has)) <= limit.amount * _ROUNDED_UP:
            return
        most = limit.value(field)
        if has is None:
            # Its limit may be more than it has.
            known = default if claimed is None else claimed
            if known is None:
                raise ValueError(
                    f"nobody can tell how much {option.name} {self.options[option.name]!r} is; "
                    f"claim {whole}, or its operator writes {_WRITE_DEFAULT}"
                )
            most = min(most, known, key=number)
        needed = Fraction(0) if claimed is None or self.lenient else number(claimed)
        self.options[option.name], given = _at_most(option, field, most, needed)
        less = claimed is not None and given < number(claimed)
        (self.less if less else self.notes).append(
            f"{option.name} is {self.options[option.name]!r}, for policy.{limit.bound}"
        )


_WRITE_DEFAULT = "it under gateway_options: {default: {cores: …, memory: …}}"


def _check_default(field: str, default: Any, limit: Limit) -> None:
    """Raise ValueError where what is not offered is too large by default, or nobody knows it."""
    if default is not None and number(default) > limit.amount:
        raise ValueError(f"this gateway does not offer it, and its default is {default}")
    if default is None and field != "gpus":
        raise ValueError(
            "this gateway does not offer it, and no file tells its default; its operator writes "
            f"{_WRITE_DEFAULT}"
        )


def _at_most(option: Option, field: str, most: Any, needed: Fraction) -> tuple[Any, Fraction]:
    """Return the largest value of an option that is small enough, and how much that is.

    Raises ValueError where that is less than `needed`, or there is none.
    """
    room = number(most)
    value: Any
    if option.choices:
        counted = {one: option.counted(one, field) for one in option.choices}
        sizes = {one: Fraction(str(size)) for one, size in counted.items() if size is not None}
        within = {one: size for one, size in sizes.items() if needed <= size <= room}
        value, given = max(within.items(), key=lambda item: item[1], default=(None, Fraction(-1)))
    elif option.kind == "integer":
        unit = option.unit().bytes if is_memory(field) else 1
        value = int(room // unit)
        given = Fraction(value * unit) if value or not room else Fraction(-1)
    else:
        value, given = converted(option, field, most)[0], room
    if given < needed:
        enough = "both enough and " if needed else ""
        what = "choice" if option.choices else option.kind
        raise ValueError(f"no {what} of {option.name} is {enough}small enough")
    return value, given
