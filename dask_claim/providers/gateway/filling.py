"""A claim in the terms of one gateway, within the site's policy. No I/O.

Options whose choices stand for a whole worker come first, then an option for each field that they
leave, then what some gateways want beside a worker; what nobody has claimed keeps to the policy.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, MutableMapping
from typing import TYPE_CHECKING, Any

from dask_claim.claim.effective import SIZES, order
from dask_claim.claim.memory import Memory
from dask_claim.claim.site_sections import WorkerSize
from dask_claim.errors import OptionError
from dask_claim.providers.gateway.bounds import Bounded, Bounds
from dask_claim.providers.gateway.option import Option, Unsuitable

if TYPE_CHECKING:
    from dask_claim.claim.model import Claim
    from dask_claim.providers.values import Request

FIELDS = ("image", "worker_cores", "worker_cores_limit", "worker_memory", "gpus", "environment")
"""Fields of the claim that an option can stand for."""


def fill_request(options: MutableMapping[str, Any], request: Request) -> Filling:
    """Set what a request asks for on `options`, as `Filling` describes it."""
    workers, bounds = request.plan.max_workers, None
    if request.site is not None and request.site.policy is not None:
        bounds = Bounds(request.site.policy, request.site.path, request.site_fields, workers)
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


class Filling(Bounded):
    """How a claim and what a gateway offers fit together."""

    def fill(self) -> None:
        claim = self.claim
        not_offered = [name for name in self.own if not self.take_verbatim(name)]
        chosen: set[str] = set()
        for name in self.sizes:
            chosen |= self.choose_size(name)
        for name in FIELDS:
            value = getattr(claim, name)
            if value is None or value == {} or name in chosen:
                continue
            if (option := self.option_for(name)) is not None:
                self.set_field(option, name, value)
            elif fault := self.not_offered(name, value):
                self.given_up.append(fault)
            elif name != "gpus":
                self.missing.append(name)
        for name, value in self.whole_cluster():
            if (option := self.option_for(name)) is not None:
                self.set_field(option, name, value, derived=True)
        self.keep_defaults_within()
        self.missing += not_offered
        if faults := self.wrong + (self.given_up if claim.strict else []):
            raise OptionError("the gateway cannot give what is claimed:\n  " + "\n  ".join(faults))

    def take_verbatim(self, name: str) -> bool:
        """Set one of the claim's own options; whether the gateway offers it."""
        option, value = self.every.get(name), self.claim.options[self.own[name]]
        if option is None:
            return False
        try:
            self.options[name] = option.as_written(value)
        except (TypeError, ValueError) as error:
            offers = f"this gateway offers {option.limits(name)}"
            self.wrong.append(f"{name} = {value}: {error}; {offers}")
        return True

    def choose_size(self, name: str) -> set[str]:
        """Take the smallest choice of a whole worker that is enough and within the policy.

        Returns the fields of the claim that it stands for.
        """
        sizes, chosen = self.sizes[name], self.options[name]
        if name in self.own:
            if not self.is_sites_own(name):
                self.refuse_choice(name, chosen)
            return set()
        needed = self.needed_of(sizes)
        enough = sorted(
            (
                choice
                for choice, size in sizes.items()
                if all(getattr(size, SIZES[part]) >= least for part, least in needed.items())
            ),
            key=lambda choice: order(sizes[choice]),
        )
        if needed and enough:
            chosen = enough[0]
        elif needed:
            claimed = ", ".join(f"{part} = {value}" for part, value in needed.items())
            self.given_up.append(
                f"{claimed}: no choice is enough; this gateway offers one of {', '.join(sizes)}"
            )
        if over := self.exceeded(name, chosen):
            allowed = [choice for choice in enough if not self.exceeded(name, choice)]
            within = [choice for choice in sizes if not self.exceeded(name, choice)]
            if not allowed and not (self.is_lenient() and within):
                self.refuse_choice(name, chosen)
                return set(needed)
            largest = max(allowed or within, key=lambda choice: order(sizes[choice]))
            chosen = allowed[0] if needed and allowed else largest
            note = f"{name} is {chosen!r}, for policy.{next(iter(over.values())).bound}"
            (self.understood if allowed else self.less).append(note)
        elif needed and enough:
            size = sizes[chosen]
            has = f"{size.cores:g} cores, {size.memory}, {size.gpus} GPUs"
            self.understood.append(
                f"{name} {chosen!r} is its smallest choice that is enough ({has})"
            )
        self.options[name] = chosen
        return set(needed)

    def needed_of(self, sizes: Mapping[str, WorkerSize]) -> dict[str, Any]:
        """Return what is claimed of a worker, where no other option stands for it."""
        needed = {
            name: value
            for name in SIZES
            if (value := getattr(self.claim, name)) is not None and self.option_for(name) is None
        }
        if not any(size.gpus for size in sizes.values()):
            needed.pop("gpus", None)  # these choices do not say
        return needed if any(needed.values()) else {}

    def set_field(self, option: Option, name: str, value: Any, *, derived: bool = False) -> None:
        """Set the option that stands for a field; `derived`: nobody has claimed just this value."""
        try:
            self.options[option.name], notes = option.converted(name, value, at_least=derived)
        except (TypeError, ValueError) as error:
            if not (derived and isinstance(error, Unsuitable)):
                offers = f"this gateway offers {option.limits(name)}"
                self.given_up.append(f"{option.name} = {_shown(value)}: {error}; {offers}")
            return
        if option.name.lower() != name and not derived:
            self.understood.append(f"{name} is its {option.name}")
        self.understood += notes

    def not_offered(self, name: str, value: Any) -> str | None:
        """Return the fault of a field that no option stands for, None where the default will do."""
        default, why = self.names.default, ""
        if default is not None and name in SIZES:
            if (has := getattr(default, SIZES[name])) >= value:
                return None
            why = f", and its default is {has}"
        elif not (name == "environment" or (name == "gpus" and value)):
            return None  # the workers will tell
        return f"{name} = {_shown(value)}: this gateway does not offer it{why}"

    def whole_cluster(self) -> Iterator[tuple[str, Any]]:
        """What some gateways ask for beside a worker: threads, a limit of its memory, the whole."""
        cores, memory, workers = self.claim.worker_cores, self.claim.worker_memory, self.workers
        if workers:
            yield "cluster_max_workers", workers
        if cores is not None:
            yield "worker_threads", max(1, int(cores))
            if workers:
                # The scheduler counts, too.
                yield "cluster_max_cores", workers * cores + self.of_scheduler("cores", 1)
        if memory is not None:
            yield "worker_memory_limit", memory
            if workers:
                # The server's own default is 2 GiB.
                own = math.ceil(self.of_scheduler("memory", 2 * 2**30))
                yield "cluster_max_memory", Memory(workers * memory.bytes + own)

    def of_scheduler(self, part: str, default: float) -> float:
        name = self.names.option_for(f"scheduler_{part}", self.every)
        amount = self.every[name].amount(self.options[name], f"scheduler_{part}") if name else None
        return default if amount is None else amount


def _shown(value: Any) -> str:
    return ", ".join(value) if isinstance(value, Mapping) else str(value)
