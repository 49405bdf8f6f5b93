"""What a gateway offers for a claim, within the limits of the site's policy. No I/O."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, MutableMapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from dask_claim.claim.effective import SIZES
from dask_claim.claim.memory import Memory
from dask_claim.claim.site_sections import GatewayOptions, WorkerSize
from dask_claim.claim.units import exact
from dask_claim.providers.gateway.amounts import cores_in, gpus_in, memory_in
from dask_claim.providers.gateway.option import Option, is_memory

if TYPE_CHECKING:
    from dask_claim.claim.model import Claim
    from dask_claim.claim.site_sections import Policy

# An option that counts in whole units may be so many times what the policy allows.
_ROUNDED_UP = Fraction("1.01")

_WRITE_DEFAULT = "it under gateway_options: {default: {cores: …, memory: …}}"


@dataclass(frozen=True)
class Limit:
    """The most that one worker may have of something."""

    bound: str
    """The policy's name for it."""

    amount: Fraction
    """Cores, GPUs, or bytes."""

    def value(self, field: str) -> Any:
        """Return it as a claim has it."""
        if is_memory(field):
            return Memory(f"{int(self.amount) // 2**20 or 1} M")
        return int(self.amount) if self.amount >= 1 or not self.amount else float(self.amount)


@dataclass(frozen=True)
class Bounds:
    """The policy of the site's file, for each of so many workers."""

    policy: Policy
    path: str
    """Of the site's file."""

    sites: frozenset[str]
    """What that file itself asks for, such as `options.X`: it may exceed the policy."""

    workers: int

    def limits(self) -> dict[str, Limit]:
        """Return field → limit, where there is one."""
        found: dict[str, Limit] = {}
        wholes = {"worker_cores": "max_cores", "worker_memory": "max_memory"}
        for name in SIZES:
            limits = []
            if (each := getattr(self.policy, name)) is not None:
                limits.append(Limit(name, exact(each)))
            whole = wholes.get(name, "")
            if (together := getattr(self.policy, whole, None)) is not None:
                limits.append(Limit(whole, exact(together) / max(1, self.workers)))
            if limits:
                found[name] = min(limits, key=lambda limit: limit.amount)
        return found | {f"{name}_limit": found[name] for name in wholes if name in found}


def own_names(options: Iterable[str], claim: Claim | None) -> dict[str, str]:
    """Return the gateway's names, in its own case, of the claim's `options` → the claim's.

    Where two of them are one for the gateway the last holds: it is of the stronger source.
    """
    offered = {name.lower(): name for name in options} | {name: name for name in options}
    claimed = claim.options if claim is not None else {}
    return {offered.get(name, offered.get(name.lower(), name)): name for name in claimed}


@dataclass
class Bounded:
    """A claim, what a gateway offers for it, and the limits of the site's policy."""

    options: MutableMapping[str, Any]
    """The gateway's, with its defaults (`dask_gateway.options.Options`); changed in place."""

    claim: Claim

    workers: int | None = None
    """The most that the plan has, for gateways that also want the size of the whole cluster."""

    site: GatewayOptions | None = None
    """What the site's file says of the options."""

    bounds: Bounds | None = None
    """What a worker may have at most. Defaults that exceed it are lowered; options that the claim
    names are refused, but for those that the site's own file sets."""

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
        self.limits = self.bounds.limits() if self.bounds else {}
        self.own = own_names(self.options, self.claim)
        self.every = {
            name: Option.of(self.options, name, self.names.unit_for(name)) for name in self.options
        }
        sizes = {name: worker_sizes(option, self.names) for name, option in self.every.items()}
        self.sizes = {name: of_choice for name, of_choice in sizes.items() if of_choice}
        # What a choice of a whole size stands for is not chosen once more by a part of it.
        taken = self.own.keys() | self.sizes.keys()
        self.free = {name: self.every[name] for name in self.options if name not in taken}
        self.wrong: list[str] = []
        """Faults whatever the claim's `strict` says."""

    def option_for(self, field_name: str) -> Option | None:
        return self.free.get(self.names.option_for(field_name, self.free) or "")

    def exceeded(self, name: str, choice: str) -> dict[str, Limit]:
        """Return field → limit, of those that a choice of a whole worker exceeds."""
        size = self.sizes[name].get(choice)
        return {
            part: limit
            for part, limit in self.limits.items()
            if size and part in SIZES and exact(getattr(size, SIZES[part])) > limit.amount
        }

    def is_lenient(self) -> bool:
        return not self.claim.strict or (
            self.bounds is not None and self.bounds.policy.excess == "cut"
        )

    def is_sites_own(self, name: str) -> bool:
        """Whether the site's file itself sets an option: it may exceed its policy."""
        return bool(self.bounds and f"options.{self.own.get(name)}" in self.bounds.sites)

    def refuse_choice(self, name: str, choice: str) -> None:
        for part, limit in self.exceeded(name, choice).items():
            self.refuse(f"{name} {choice!r} exceeds", part, limit)

    def refuse(self, words: str, name: str, limit: Limit) -> None:
        assert self.bounds is not None
        self.wrong.append(
            f"{words} policy.{limit.bound} in {self.bounds.path} (allowed: at most "
            f"{limit.value(name)} for each of {self.bounds.workers} workers)"
        )

    def keep_defaults_within(self) -> None:
        """Lower what the gateway gives by default, where that exceeds the policy or may do so."""
        # Whether choices tell the size of the whole worker.
        told = bool(self.sizes) and all(
            self.is_sites_own(name) or self.options[name] in sizes
            for name, sizes in self.sizes.items()
        )
        named = {self.names.field_of(name) for name in self.own}
        for name, limit in self.limits.items():
            if name in named:
                continue
            try:
                self.keep_default(name, limit, told)
            except ValueError as error:
                self.refuse(f"{name}: {error}; it may exceed", name, limit)

    def keep_default(self, name: str, limit: Limit, told: bool) -> None:
        whole, option = name.removesuffix("_limit"), self.option_for(name)
        default = getattr(self.names.default, SIZES[whole], None)
        if option is None:
            if name != whole or told:
                return
            if default is not None and exact(default) > limit.amount:
                raise ValueError(f"this gateway does not offer it, and its default is {default}")
            if default is None and name != "gpus":
                raise ValueError(
                    "this gateway does not offer it, and no file tells its default; its operator "
                    f"writes {_WRITE_DEFAULT}"
                )
            return
        claimed = getattr(self.claim, name, None)
        claimed = getattr(self.claim, whole) if claimed is None else claimed
        has = option.amount(self.options[option.name], name)
        if told if has is None else Fraction(str(has)) <= limit.amount * _ROUNDED_UP:
            return
        most = limit.value(name)
        if has is None:
            # Its limit may be more than it has.
            known = default if claimed is None else claimed
            if known is None:
                raise ValueError(
                    f"nobody can tell how much {option.name} {self.options[option.name]!r} is; "
                    f"claim {whole}, or its operator writes {_WRITE_DEFAULT}"
                )
            most = min(most, known, key=exact)
        needed = Fraction(0) if claimed is None or self.is_lenient() else exact(claimed)
        self.options[option.name], given = option.at_most(name, most, needed)
        is_less = claimed is not None and given < exact(claimed)
        (self.less if is_less else self.understood).append(
            f"{option.name} is {self.options[option.name]!r}, for policy.{limit.bound}"
        )


def worker_sizes(option: Option, site: GatewayOptions) -> Mapping[str, WorkerSize]:
    """Return choice → worker, by the site's file or by the texts of all choices; else nothing."""
    if sizes := site.choices_for(option.name):
        offered = option.choices or sizes
        return {choice: size for choice, size in sizes.items() if choice in offered}
    if "scheduler" in option.name.lower():
        return {}
    read = {choice: _worker_in(choice) for choice in option.choices}
    sizes = {choice: size for choice, size in read.items() if size is not None}
    return sizes if len(sizes) == len(read) else {}


def _worker_in(text: str) -> WorkerSize | None:
    """Return the worker that a text such as "4CPU, 28.9Gi" tells; None where it has not both."""
    cores, memory = cores_in(text), memory_in(text)
    if not cores or not memory:
        return None
    return WorkerSize(cores=cores, memory=memory, gpus=gpus_in(text))
