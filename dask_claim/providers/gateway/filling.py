"""A claim in the terms of one gateway, within the site's policy. No I/O.

Options whose choices stand for a whole worker come first, then an option for each field that they
leave, then what some gateways want beside a worker.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterable, Iterator, Mapping, MutableMapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from dask_claim.claim.effective import SIZES
from dask_claim.claim.site_sections import GatewayOptions
from dask_claim.claim.units import exact
from dask_claim.errors import OptionError
from dask_claim.providers.gateway.amounts import number_in
from dask_claim.providers.gateway.bounds import Bounds, Limit, Size, shown, worker_sizes
from dask_claim.providers.gateway.option import ROUNDED_UP_AT_MOST, Option, Unsuitable

if TYPE_CHECKING:
    from dask_claim.claim.model import Claim
    from dask_claim.providers.values import Request

AMOUNTS = ("worker_cores", "worker_cores_limit", "worker_memory", "worker_memory_limit", "gpus")
_WRITE_DEFAULT = "it under gateway_options: {default: {cores: …, memory: …}}"


def fill_request(options: MutableMapping[str, Any], request: Request) -> Filling:
    """Set what a request asks for on `options`, as `fill` does."""
    bounds, site = None, request.site
    if site is not None and site.policy is not None:
        bounds = Bounds(site.policy, site.path, request.site_fields)
    workers = request.plan.max_workers
    return fill(options, request.claim, workers, request.gateway_options, bounds)


def fill(options: MutableMapping[str, Any], claim: Claim, *more: Any, **named: Any) -> Filling:
    """Set the claim's values on `options`; the arguments are those of `Filling`.

    Raises
    ------
    OptionError
        Values outside the offered ranges or choices, each with its limits; fields that no default
        of a gateway satisfies; what exceeds the policy, or may exceed it: all at once. With
        `strict: false` only for `options` and the policy.
    """
    filling = Filling(options, claim, *more, **named)
    filling.fill()
    return filling


def own_names(options: Iterable[str], claim: Claim | None) -> dict[str, str]:
    """Return the gateway's names, in its own case, of the claim's `options` → the claim's.

    Where two of them are one for the gateway the last holds: it is of the stronger source.
    """
    offered = {name.lower(): name for name in options} | {name: name for name in options}
    claimed = claim.options if claim is not None else {}
    return {offered.get(name, offered.get(name.lower(), name)): name for name in claimed}


@dataclass
class Filling:
    """How a claim and what a gateway offers fit together."""

    options: MutableMapping[str, Any]
    """The gateway's, with its defaults (`dask_gateway.options.Options`); changed in place."""

    claim: Claim

    workers: int | None = None
    """The most that the plan has, for gateways that also want the size of the whole cluster."""

    site: GatewayOptions | None = None
    """What the site's file says of the options."""

    bounds: Bounds | None = None
    """Defaults that exceed these are lowered; options that the claim names are refused."""

    missing: list[str] = field(default_factory=list)
    """Fields and options of the claim that this gateway does not offer."""

    understood: list[str] = field(default_factory=list)
    """What was concluded from names and texts, or lowered for the policy, for a person to check."""

    less: list[str] = field(default_factory=list)
    """What is less than claimed, for a policy that cuts or a claim that is not strict."""

    given_up: list[str] = field(default_factory=list)
    """What cannot be given, where the claim is not strict."""

    def __post_init__(self) -> None:
        self.names = self.site or GatewayOptions()
        self.own = own_names(self.options, self.claim)
        self.every = {
            name: Option.of(self.options, name, self.names.unit_for(name)) for name in self.options
        }
        sizes = {name: worker_sizes(option, self.names) for name, option in self.every.items()}
        self.sizes = {name: of_choice for name, of_choice in sizes.items() if of_choice}
        # What a choice of a whole worker stands for is not chosen once more by a part of it.
        taken = self.own.keys() | self.sizes.keys()
        self.free = {name: self.every[name] for name in self.options if name not in taken}
        self.limits = dict(self.bounds.limits(self.workers or 1)) if self.bounds else {}
        for name in self.own:
            self.limits.pop(self.names.field_of(name) or "", None)  # compared with the claim
        self.lenient = not self.claim.strict or (
            self.bounds is not None and self.bounds.policy.excess == "cut"
        )
        self.wrong: list[str] = []
        """Faults whatever the claim's `strict` says."""

    def fill(self) -> None:
        not_offered = [name for name in self.own if not self.take_verbatim(name)]
        decided: set[str] = set()
        told = bool(self.sizes)
        for name, sizes in self.sizes.items():
            by_site = self.bounds and f"options.{self.own.get(name)}" in self.bounds.site_fields
            if name not in self.own:
                decided |= self.choose_worker(name, sizes)
            elif not by_site:
                self.refuse_choice(name, sizes.get(self.options[name], {}))
            # Whether choices tell the size of the whole worker.
            told = told and bool(by_site or self.options[name] in sizes)
        for name in ("image", *AMOUNTS, "environment"):
            value = getattr(self.claim, name, None)
            claimed = value is not None and value != {} and name not in decided
            if (option := self.option_for(name)) is not None:
                self.set_field(option, name, value if claimed else None, told)
                continue
            if claimed:
                self.report_missing(name, value)
            if name in SIZES and name in self.limits and not told:
                self.check_default(name, self.limits[name])
        for name, amount in self.whole_cluster():
            if (option := self.option_for(name)) is not None and not option.choices:
                with contextlib.suppress(Unsuitable):
                    self.options[option.name] = option.value_of(name, amount, "up")
        self.missing += not_offered
        if faults := self.wrong + (self.given_up if self.claim.strict else []):
            raise OptionError("the gateway cannot give what is claimed:\n  " + "\n  ".join(faults))

    def option_for(self, name: str) -> Option | None:
        return self.free.get(self.names.option_for(name, self.free) or "")

    def take_verbatim(self, name: str) -> bool:
        """Set one of the claim's own options; whether the gateway offers it."""
        option, value = self.every.get(name), self.claim.options[self.own[name]]
        if option is None:
            return False
        try:
            self.options[name] = option.as_written(value)
        except (TypeError, ValueError) as error:
            self.wrong.append(f"{name} = {value}: {error}; {option.offer(name)}")
        return True

    def set_field(self, option: Option, name: str, value: Any, told: bool) -> None:
        """Set the option that stands for a field; without a value, keep it within the policy."""
        limit = self.limits.get(name)
        notes = [] if option.name.lower() == name else [f"{name} is its {option.name}"]
        try:
            if value is None and limit is not None:
                self.lower(option, name, limit, told)
            elif value is None:
                return
            elif name not in AMOUNTS:
                self.options[option.name] = option.plain(value)
            elif option.choices:
                if any(number_in(choice) is not None for choice in option.choices):
                    notes += option.unit_note(name)
                self.choose(option.name, option.sizes(name), {name: value})
            else:
                notes += option.unit_note(name)  # which the default tells
                self.options[option.name] = option.value_of(name, exact(value))
        except (TypeError, ValueError) as error:
            if value is None and limit is not None:
                self.refuse(f"{name}: {error}; it may exceed", name, limit)
                return
            self.given_up.append(f"{option.name} = {_text(value)}: {error}; {option.offer(name)}")
        else:
            self.understood += notes if value is not None else []

    def lower(self, option: Option, name: str, limit: Limit, told: bool) -> None:
        """Lower what is not claimed to its limit. Raises ValueError where nobody knows it."""
        default = self.options[option.name]
        has = option.amount(default, name)
        if told if has is None else has <= limit.amount * ROUNDED_UP_AT_MOST:
            return
        most, whole = limit.amount, name.removesuffix("_limit")
        if has is None:
            # Its limit may be more than it has.
            known = getattr(self.claim, whole) or getattr(self.names.default, SIZES[whole], None)
            if known is None or option.choices:
                raise ValueError(
                    f"nobody can tell how much {option.name} {default!r} is; claim {whole}, or its "
                    f"operator writes {_WRITE_DEFAULT}"
                )
            most = min(most, exact(known))
        if option.choices:
            self.choose(option.name, option.sizes(name), {})
            return
        self.options[option.name] = option.value_of(name, most, "down")
        lowered = f"{option.name} is {self.options[option.name]!r}, for policy.{limit.bound}"
        self.understood.append(lowered)

    def report_missing(self, name: str, value: Any) -> None:
        """Note a field that no option stands for: a fault where the default cannot do."""
        default, why = self.names.default, ""
        if default is not None and name in SIZES:
            if (has := getattr(default, SIZES[name])) >= value:
                self.missing += [name] if name != "gpus" else []
                return
            why = f", and its default is {has}"
        elif not (name == "environment" or name == "gpus"):
            self.missing.append(name)  # the workers will tell
            return
        if value:
            fault = f"{name} = {_text(value)}: this gateway does not offer it{why}"
            self.given_up.append(fault)

    def check_default(self, name: str, limit: Limit) -> None:
        """Refuse what is not offered where its default is too large, or nobody knows it."""
        default = getattr(self.names.default, SIZES[name], None)
        if default is not None and exact(default) > limit.amount:
            why = f"its default is {default}"
        elif default is None and name != "gpus":
            why = f"no file tells its default; its operator writes {_WRITE_DEFAULT}"
        else:
            return
        self.refuse(
            f"{name}: this gateway does not offer it, and {why}; it may exceed", name, limit
        )

    def choose_worker(self, name: str, sizes: Mapping[str, Size]) -> set[str]:
        """Set an option whose choices stand for a whole worker; return the fields it decides."""
        needed = {
            part: value
            for part in SIZES
            if (value := getattr(self.claim, part)) is not None and self.option_for(part) is None
        }
        if not any(size["gpus"] for size in sizes.values()):
            needed.pop("gpus", None)  # these choices do not say
        needed = needed if any(needed.values()) else {}
        try:
            self.choose(name, sizes, needed)
        except ValueError as error:
            claimed = ", ".join(f"{part} = {value}" for part, value in needed.items())
            self.given_up.append(
                f"{claimed}: {error}; this gateway offers one of {', '.join(sizes)}"
            )
        return set(needed)

    def choose(self, name: str, sizes: Mapping[str, Size], needed: Mapping[str, Any]) -> None:
        """Take the smallest choice that is enough and within the policy, else keep the default.

        Raises ValueError where no choice is enough; the default then keeps to the policy.
        """
        ranked = sorted(sizes, key=lambda choice: tuple(sizes[choice].values()))
        within = [choice for choice in ranked if not self.exceeded(sizes[choice])]
        enough = [
            choice
            for choice in ranked
            if all(sizes[choice][part] >= exact(least) for part, least in needed.items())
        ]
        chosen = enough[0] if needed and enough else self.options[name]
        if over := self.exceeded(sizes.get(chosen, {})):
            allowed = [choice for choice in within if choice in enough]
            if not allowed and not (self.lenient and within):
                self.refuse_choice(name, sizes[chosen])
            else:
                chosen = within[-1] if not allowed else allowed[0] if needed else allowed[-1]
                note = f"{name} is {chosen!r}, for policy.{next(iter(over.values())).bound}"
                (self.understood if allowed else self.less).append(note)
                self.options[name] = chosen
        elif needed and enough:
            self.options[name] = chosen
            has = ", ".join(f"{part}: {shown(part, has)}" for part, has in sizes[chosen].items())
            self.understood.append(
                f"{name} {chosen!r} is its smallest choice that is enough ({has})"
            )
        if not enough:
            raise ValueError("no choice is enough")

    def exceeded(self, size: Size) -> dict[str, Limit]:
        """Return field → limit, of those that a size exceeds."""
        return {
            part: self.limits[part]
            for part, amount in size.items()
            if part in self.limits and amount > self.limits[part].amount
        }

    def refuse_choice(self, name: str, size: Size) -> None:
        for part, limit in self.exceeded(size).items():
            self.refuse(f"{name} {self.options[name]!r} exceeds", part, limit)

    def refuse(self, words: str, name: str, limit: Limit) -> None:
        assert self.bounds is not None
        self.wrong.append(
            f"{words} policy.{limit.bound} in {self.bounds.path} (allowed: at most "
            f"{shown(name, limit.amount)} for each of {self.workers or 1} workers)"
        )

    def whole_cluster(self) -> Iterator[tuple[str, Fraction]]:
        """What some gateways ask for beside a worker: threads, a limit of its memory, the whole."""
        cores, memory, workers = self.claim.worker_cores, self.claim.worker_memory, self.workers
        if workers:
            yield "cluster_max_workers", Fraction(workers)
        if cores is not None:
            yield "worker_threads", Fraction(max(1, int(cores)))
            if workers:
                # The scheduler counts, too.
                yield "cluster_max_cores", workers * exact(cores) + self.of_scheduler("cores", 1)
        if memory is not None:
            yield "worker_memory_limit", exact(memory)
            if workers:
                # The server's own default is 2 GiB.
                own = self.of_scheduler("memory", 2 * 2**30)
                yield "cluster_max_memory", workers * exact(memory) + math.ceil(own)

    def of_scheduler(self, part: str, default: int) -> Fraction:
        name = self.names.option_for(f"scheduler_{part}", self.every)
        amount = self.every[name].amount(self.options[name], f"scheduler_{part}") if name else None
        return Fraction(default) if amount is None else amount


def _text(value: Any) -> str:
    return ", ".join(value) if isinstance(value, Mapping) else str(value)
