"""Sizes of workers as amounts (cores, GPUs, bytes): those of choices, and a policy's limits."""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping
from contextlib import suppress
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cached_property
from typing import TYPE_CHECKING, Any

from dask_claim.claim.site_sections import SIZE, GatewayOptions, Limit, Policy
from dask_claim.claim.units import exact
from dask_claim.providers.gateway.amounts import cores_in, gpus_in, is_memory, memory_in, written
from dask_claim.providers.gateway.option import Option, own_names

if TYPE_CHECKING:
    from dask_claim.claim.model import Claim

Size = Mapping[str, Fraction]
"""Field → amount, in the order by which sizes are compared."""


@dataclass(frozen=True)
class Bounds:
    """What the site's file allows."""

    policy: Policy | None = None
    path: str = ""
    """Of that file."""

    site_fields: frozenset[str] = frozenset()
    """What the file itself asks for, such as `options.X`: it may exceed the policy."""

    workers: int = 1

    @cached_property
    def limits(self) -> dict[str, Limit]:
        """Field → limit of each of so many workers."""
        return self.policy.limits(self.workers) if self.policy else {}

    @property
    def cut(self) -> bool:
        """Whether what exceeds the policy may be less than claimed."""
        return self.policy is not None and self.policy.excess == "cut"

    def exceeded(self, size: Size) -> dict[str, Limit]:
        """Return field → limit, of those that a size exceeds."""
        return {
            name: self.limits[name]
            for name, amount in size.items()
            if name in self.limits and amount > self.limits[name].amount
        }

    def refusal(self, words: str, name: str) -> str:
        """Return the fault of what exceeds the limit of a field."""
        limit = self.limits[name]
        return (
            f"{words} policy.{limit.bound} in {self.path} (allowed: at most "
            f"{shown(name, limit.amount)} for each of {self.workers} workers)"
        )


def worker_sizes(option: Option, site: GatewayOptions) -> dict[Any, Size]:
    """Return choice → worker, by the site's file or by the texts of all choices; else nothing.

    A choice that the option cannot have is left out.
    """
    if by_site := site.choices_for(option.name):
        by_choice: dict[Any, Size] = {}
        for choice, worker in by_site.items():
            with suppress(TypeError, ValueError):
                by_choice[option.spec.validate(option.as_written(choice))] = {
                    name: exact(getattr(worker, name)) for name in SIZE
                }
        return by_choice
    if "scheduler" in option.name.lower():
        return {}
    sizes = {choice: size for choice in option.choices if (size := _worker_in(choice))}
    return dict(sizes) if len(sizes) == len(option.choices) else {}


def _worker_in(text: str) -> Size | None:
    """Return the worker that a text such as "4CPU, 28.9Gi" tells; None where it has not both."""
    cores, memory = cores_in(text), memory_in(text)
    if not cores or not memory:
        return None
    return {
        "gpus": Fraction(gpus_in(text)),
        "worker_memory": exact(memory),
        "worker_cores": exact(cores),
    }


def shown(name: str, amount: Fraction) -> str:
    """Write the amount of a field for a person."""
    return written(int(amount)) if is_memory(name) else f"{float(amount):g}"


@dataclass
class Fit:
    """How a claim and what a gateway offers fit together."""

    options: MutableMapping[str, Any]
    """The gateway's, with its defaults (`dask_gateway.options.Options`); changed in place."""

    claim: Claim

    workers: int | None = None
    """The most that the plan has, for gateways that also want the size of the whole cluster."""

    site: GatewayOptions | None = None
    """What the site's file says of the options."""

    bounds: Bounds = field(default_factory=Bounds)
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
        self.sizes = {
            name: sizes
            for name, option in self.every.items()
            if (sizes := worker_sizes(option, self.names))
        }
        # What a choice of a whole worker stands for is not chosen once more by a part of it.
        taken = self.own.keys() | self.sizes.keys()
        self.free = {name: self.every[name] for name in self.options if name not in taken}
        self.named = {self.names.field_of(name) for name in self.own}
        """Fields that options of the claim stand for: compared with the policy as a claim."""

        self.lenient = not self.claim.strict or self.bounds.cut
        self.wrong: list[str] = []
        """Faults whatever the claim's `strict` says."""

    def option_for(self, name: str) -> Option | None:
        return self.free.get(self.names.option_for(name, self.free) or "")

    def choose_worker(self, name: str, sizes: Mapping[Any, Size]) -> set[str]:
        """Set an option whose choices stand for a whole worker; return the fields it decides."""
        needed = {
            part: value
            for part in SIZE
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
                f"{claimed}: {error}; this gateway offers one of {', '.join(map(str, sizes))}"
            )
        return set(needed)

    def choose(self, name: str, sizes: Mapping[Any, Size], needed: Mapping[str, Any]) -> None:
        """Take the smallest choice that is enough and within the policy, else keep the default.

        Raises ValueError where no choice is enough; the default then keeps to the policy.
        """
        ranked = sorted(sizes, key=lambda choice: tuple(sizes[choice].values()))
        within = [choice for choice in ranked if not self.bounds.exceeded(sizes[choice])]
        enough = [
            choice
            for choice in ranked
            if all(sizes[choice][part] >= exact(least) for part, least in needed.items())
        ]
        chosen = enough[0] if needed and enough else self.options[name]
        if over := self.bounds.exceeded(sizes.get(chosen, {})):
            allowed = [choice for choice in within if choice in enough]
            if not allowed and not (self.lenient and within):
                self.refuse_choice(name, chosen, sizes)
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

    def refuse_choice(self, name: str, choice: Any, sizes: Mapping[Any, Size]) -> None:
        for part in self.bounds.exceeded(sizes.get(choice, {})):
            self.refuse(f"{name} {choice!r} exceeds", part)

    def refuse(self, words: str, name: str) -> None:
        self.wrong.append(self.bounds.refusal(words, name))
