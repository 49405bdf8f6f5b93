"""A claim in the terms of one gateway, within the site's policy. No I/O.

Options whose choices stand for a whole worker come first, then an option for each field that they
leave, then what some gateways want beside a worker.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Mapping, MutableMapping
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from dask_claim.claim.site_sections import SIZE, GatewayOptions
from dask_claim.claim.units import exact
from dask_claim.errors import OptionError
from dask_claim.providers.gateway.amounts import number_in
from dask_claim.providers.gateway.fit import Bounds, Fit, shown
from dask_claim.providers.gateway.option import (
    ROUNDED_UP_AT_MOST,
    Option,
    Unsuitable,
    own_names,
)

if TYPE_CHECKING:
    from dask_claim.claim.model import Claim
    from dask_claim.providers.values import Request

AMOUNTS = ("worker_cores", "worker_cores_limit", "worker_memory", "worker_memory_limit", "gpus")
_WRITE_DEFAULT = "it under gateway_options: {default: {cores: …, memory: …}}"
IDLE_TIMEOUT = "DASK_DISTRIBUTED__SCHEDULER__IDLE_TIMEOUT"
_IDLE = {"idle_timeout": 1, "idle_timeout_seconds": 1, "idle_timeout_minutes": 60}
"""Options for the same, in lower case, and the seconds that they count in."""


def fill_request(options: MutableMapping[str, Any], request: Request) -> Filling:
    """Set what a request asks for on `options`, as `Filling.fill` does."""
    bounds, site, workers = Bounds(), request.site, request.plan.max_workers
    if site is not None and site.policy is not None:
        bounds = Bounds(site.policy, site.path, request.site_fields, workers)
    return Filling(options, request.claim, workers, request.gateway_options, bounds).fill()


class Filling(Fit):
    """Sets a claim's values on a gateway's options."""

    def fill(self) -> Filling:
        """Set the claim's values on `options`.

        Raises
        ------
        OptionError
            Values outside the offered ranges or choices, each with its limits; fields that no
            default of a gateway satisfies; what exceeds the policy, or may exceed it: all at once.
            With `strict: false` only for `options` and the policy.
        """
        not_offered = [name for name in self.own if not self.take_verbatim(name)]
        decided: set[str] = set()
        self.size_is_certain = bool(self.sizes)
        for name, sizes in self.sizes.items():
            by_site = f"options.{self.own.get(name)}" in self.bounds.site_fields
            if name not in self.own:
                decided |= self.choose_worker(name, sizes)
            elif not by_site:
                self.refuse_choice(name, self.options[name], sizes)
            # Whether choices tell the size of the whole worker.
            certain = by_site or self.options[name] in sizes
            self.size_is_certain = self.size_is_certain and certain
        for name in ("image", *AMOUNTS, "environment"):
            value = getattr(self.claim, name, None)
            claimed = value is not None and value != {} and name not in decided
            if (option := self.option_for(name)) is None:
                self.leave_to_default(name, value if claimed else None)
                continue
            given = claimed and self.set_field(option, name, value)
            if not given and name in self.bounds.limits and name not in self.named:
                self.lower(option, name)
        for name, amount in self.whole_cluster():
            if (option := self.option_for(name)) is None or option.choices:
                continue
            default = option.amount(self.options[option.name], name)
            # Of the runs that may join the scheduler keeps the sum within the policy.
            joinable = self.claim.share and name.startswith("cluster_max_")
            if not joinable or default is None or default < amount:
                self.set_beside(option, name, amount)
        self.missing += not_offered
        if faults := self.wrong + (self.given_up if self.claim.strict else []):
            raise OptionError("the gateway cannot give what is claimed:\n  " + "\n  ".join(faults))
        return self

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

    def set_field(self, option: Option, name: str, value: Any) -> bool:
        """Set the option that stands for a field of the claim.

        False: its default is left, and not compared with the policy.
        """
        chosen = False
        notes = [] if option.name.lower() == name else [f"{name} is its {option.name}"]
        try:
            if name not in AMOUNTS:
                self.options[option.name] = option.plain(value)
            elif option.choices:
                if any(number_in(choice) is not None for choice in option.choices):
                    notes += option.unit_note(name)
                sizes, chosen = option.sizes(name), True
                self.choose(option.name, sizes, {name: value})
            else:
                notes += option.unit_note(name)  # which the default tells
                self.options[option.name] = option.value_of(name, exact(value))
        except (TypeError, ValueError) as error:
            self.given_up.append(f"{option.name} = {_text(value)}: {error}; {option.offer(name)}")
            return chosen
        self.understood += notes
        return True

    def set_beside(self, option: Option, name: str, amount: Fraction) -> None:
        """Set an option for what follows from the claim, where its type can hold that."""
        try:
            self.options[option.name] = option.value_of(name, amount, "up")
        except Unsuitable:
            return
        except (TypeError, ValueError) as error:
            fault = f"{option.name} = {shown(name, amount)}: {error}; {option.offer(name)}"
            # Threads do not make the worker smaller.
            (self.less if name == "worker_threads" else self.given_up).append(fault)

    def lower(self, option: Option, name: str) -> None:
        """Lower what is not claimed to its limit; refuse where that is impossible or uncertain."""
        limit, default = self.bounds.limits[name], self.options[option.name]
        has, most = option.amount(default, name), limit.amount
        if self.size_is_certain if has is None else has <= most * ROUNDED_UP_AT_MOST:
            return
        if has is None:
            # Its limit may be more than it has.
            whole = name.removesuffix("_limit")
            likely = getattr(self.claim, whole) or getattr(self.names.default, whole, None)
            if likely is None or option.choices:
                unknown = f"it is unclear how much {option.name} {default!r} is; claim {whole}"
                operator = f"or its operator writes {_WRITE_DEFAULT}"
                self.refuse(f"{name}: {unknown}, {operator}; it may exceed", name)
                return
            most = min(most, exact(likely))
        if option.choices:
            self.choose(option.name, option.sizes(name), {})
            return
        try:
            self.options[option.name] = option.value_of(name, most, "down")
        except ValueError as error:
            self.refuse(f"{name}: {error}; it may exceed", name)
            return
        lowered = f"{option.name} is {self.options[option.name]!r}, for policy.{limit.bound}"
        self.understood.append(lowered)

    def leave_to_default(self, name: str, value: Any) -> None:
        """Note what no option stands for: a fault where the default is not enough, or too much."""
        default = getattr(self.names.default, name, None)
        why = "" if default is None else f", and its default is {default}"
        if value is not None:
            enough = name not in ("gpus", "environment") or not value
            if default < value if default is not None else not enough:
                fault = f"{name} = {_text(value)}: this gateway does not offer it{why}"
                self.given_up.append(fault)
            elif name != "gpus":
                self.missing.append(name)  # the workers will tell
        limit = self.bounds.limits.get(name)
        if limit is None or self.size_is_certain or name in self.named or name not in SIZE:
            return
        if default is None and name != "gpus":
            why = f", and no file tells its default; its operator writes {_WRITE_DEFAULT}"
        elif default is None or exact(default) <= limit.amount:
            return
        self.refuse(f"{name}: this gateway does not offer it{why}; it may exceed", name)

    def whole_cluster(self) -> Iterator[tuple[str, Fraction]]:
        """Yield what some gateways ask for beside a worker: threads, a limit, the whole."""
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
                own = math.ceil(self.of_scheduler("memory", 2 * 2**30))
                yield "cluster_max_memory", workers * exact(memory) + own

    def of_scheduler(self, part: str, default: int) -> Fraction:
        """Return what the scheduler has of `cores` or `memory`, where an option tells it."""
        name = self.names.option_for(f"scheduler_{part}", self.every)
        amount = self.every[name].amount(self.options[name], f"scheduler_{part}") if name else None
        return Fraction(default) if amount is None else amount


def _text(value: Any) -> str:
    return ", ".join(value) if isinstance(value, Mapping) else str(value)


def variables_option(
    options: MutableMapping[str, Any], site: GatewayOptions | None = None
) -> str | None:
    """Return the option that takes variables of scheduler and workers; None: there is none."""
    name = (site or GatewayOptions()).option_for("environment", options)
    return name if name and Option.of(options, name).kind == "mapping" else None


def end_when_idle(
    options: MutableMapping[str, Any],
    claim: Claim,
    seconds: float,
    site: GatewayOptions | None = None,
) -> bool:
    """Have an unused cluster end by itself; whether the gateway has an option for it.

    From its request on, without anything of ours in its image: a launcher whose whole container
    ends before its lease is placed leaves nothing else. The lease counts as use.
    """
    own, offered = own_names(options, claim), False
    if name := variables_option(options, site):
        options[name] = {IDLE_TIMEOUT: f"{seconds:g}s", **(options[name] or {})}
        offered = True
    for name in options:
        # Never, by default; a time that the site has chosen stays.
        if (unit := _IDLE.get(name.lower())) and name not in own and not options[name]:
            with contextlib.suppress(TypeError, ValueError):
                options[name] = math.ceil(seconds / unit)
                offered = True
    return offered
