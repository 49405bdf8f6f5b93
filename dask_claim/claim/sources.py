"""Where the values of a claim come from, and which of them wins."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from copy import copy
from dataclasses import dataclass, replace
from typing import Any

from dask_claim.claim import units
from dask_claim.claim.addresses import OperatorGateways, UrlPrefix
from dask_claim.claim.dask_config import said_by_dask
from dask_claim.claim.fields import FIELDS, MAPPINGS, RUN_OPTIONS, Path, leaves
from dask_claim.claim.names import NOT_FIELDS, SERVICE_LINK, dask_conflicts
from dask_claim.claim.origin import CLAIM, Origin
from dask_claim.claim.site import SECTIONS, Site, read_site
from dask_claim.claim.spellings import Reading, read, resolve
from dask_claim.claim.texts import Plain, parse_json
from dask_claim.claim.validation import check, completed, cross_faults, respelled
from dask_claim.errors import ClaimError, Fault
from dask_claim.redact import redact

_PREFIX = "DASK_CLAIM_"

# Dask reads two underscores as a level: this would be an entry of DASK_CLAIM, which is a text.
_OLD_PREFIX = "DASK_CLAIM__"

_GATEWAY, *_BESIDE = _ADDRESSES = (("gateway_url",), ("proxy_url",), ("public_url",))
_DASK = "Dask"


@dataclass
class Layer:
    """What one source sets, each field checked by itself: a flag, a variable, a file."""

    source: str
    reading: Reading
    group: str = ""
    """The source as a whole, such as all flags: the addresses of a gateway in it belong together.
    By default this layer alone."""

    trusted: bool = True
    """Whether it is the operator's, not the package's developer's."""

    def __post_init__(self) -> None:
        self.group = self.group or self.source
        checked = check(self.reading)
        self.values, self.doubtful = checked.values, checked.doubtful
        self.faults = [replace(fault, source=self.source) for fault in checked.faults]

    def without(self, paths: Iterable[Path]) -> Layer:
        """Return this layer without some of its values."""
        fewer = copy(self)
        fewer.values = {path: self.values[path] for path in self.values if path not in paths}
        return fewer


@dataclass(frozen=True)
class Overruled:
    """What a source sets and another one overrules."""

    field: str
    """Also `env.X` and the like."""

    value: object
    source: str
    by: str
    """What overrules it, in words."""

    def to_dict(self) -> dict[str, object]:
        """Return this, fit for JSON, without its secrets."""
        shown = redact(units.json_value(getattr(self.value, "written", self.value)), self.field)
        return {"field": self.field, "value": shown, "source": self.source, "by": self.by}


@dataclass(frozen=True)
class Gathered:
    """The claim of all sources together."""

    values: dict[str, Any]
    """Field → value, as a sound claim holds it; defaults left out."""

    sources: dict[str, str]
    overruled: tuple[Overruled, ...]
    operator_gateways: OperatorGateways
    site: Site


def gather(
    flags: Mapping[str, object],
    environ: Mapping[str, str],
    claim: Mapping[str, Any] | None = None,
    origin: Origin | None = None,
) -> Gathered:
    """Return the claim of this environment and the command line, each layer parsed once.

    `flags` maps canonical fields to values (None: not given). `claim` has the fields of a
    program's own, in the place of `DASK_CLAIM`, and `origin` tells where from. Raises ClaimError
    with every fault of every layer.
    """
    site = read_site(environ)
    program = {} if claim is None else leaves(claim)
    own = [*_claim_text(environ)] if claim is None else [_program_layer(CLAIM, program)]
    weak = [*own, _site_layer(site)]
    layers = [*_flags(flags), *_variables(environ, weak), *weak]
    layers[-1:-1] = _profile(layers, site)
    faults = [*_old_names(environ), *dask_conflicts(_without_old_names(environ), {})]
    if not faults:  # Dask can be imported only where it can read the environment
        layers += [Layer(source, reading, _DASK) for source, reading in said_by_dask(environ)]
    if claim is not None:
        at = layers.index(own[0])
        layers[at : at + 1] = _program_layers(program, origin or Origin(), layers)
    operator_gateways = _operator_gateways(layers, site)
    layers, dropped = _of_one_gateway(layers)
    merged: dict[Path, Any] = {}
    winners: dict[Path, Layer] = {}
    for layer in reversed(layers):
        # Last comes the strongest, where a gateway takes names that differ in case only for one.
        merged = {path: merged[path] for path in merged if path not in layer.values}
        merged |= layer.values
        for path in layer.values:
            winners[path[:1]] = winners[path] = layer
    faults += [fault for layer in layers for fault in layer.faults]
    doubtful = {name for layer in layers for name in layer.doubtful}
    faults += [_explained(fault, winners) for fault in cross_faults(merged, doubtful)]
    if faults:
        raise ClaimError(faults)
    sources = {".".join(path): layer.source for path, layer in winners.items()}
    return Gathered(
        completed(merged),
        {**dict.fromkeys(FIELDS, "default"), **sources},
        (*dropped, *_overruled(layers, winners, merged)),
        operator_gateways,
        site,
    )


def _of_one_gateway(layers: list[Layer]) -> tuple[list[Layer], list[Overruled]]:
    """Return all layers without the addresses of another gateway than the effective one.

    Dask's configuration is for everything that uses Dask here: what is wrong with a gateway there
    that is not used stops nothing.
    """
    named = {one.group: one for one in reversed(layers) if _GATEWAY in one.reading.values}
    winner = next((one for one in layers if _GATEWAY in one.reading.values), None)
    kept: list[Layer] = []
    dropped: list[Overruled] = []
    for layer in layers:
        own = named.get(layer.group, winner)
        if winner is None or own is None or _same_gateway(own, winner):
            kept.append(layer)
            continue
        why = f"{winner.source}, which names another gateway"
        paths = _ADDRESSES if layer.group == _DASK else _BESIDE
        dropped += [
            Overruled(path[0], layer.values[path], layer.source, why)
            for path in paths
            if path in layer.values
        ]
        if layer.group != _DASK:
            kept.append(layer.without(paths))
    return kept, dropped


def _same_gateway(one: Layer, other: Layer) -> bool:
    def comparable(url: object) -> object:
        with suppress(ValueError):
            return UrlPrefix.of(str(url))
        return url

    return comparable(one.values.get(_GATEWAY)) == comparable(other.values.get(_GATEWAY))


def _overruled(
    layers: list[Layer], winners: Mapping[Path, Layer], merged: Mapping[Path, Any]
) -> Iterator[Overruled]:
    for layer in layers:
        for path, value in layer.values.items():
            if winners[path] is not layer and value != merged[path]:
                yield Overruled(".".join(path), value, layer.source, winners[path].source)


def _operator_gateways(layers: Iterable[Layer], site: Site) -> OperatorGateways:
    urls = {one.values[_GATEWAY] for one in layers if one.trusted and _GATEWAY in one.values}
    if site.credentials:
        urls.add(str(site.credentials.gateway))
    return OperatorGateways(frozenset(urls))


def _explained(fault: Fault, winners: Mapping[Path, Layer]) -> Fault:
    """Return a fault between two fields, in the words of the sources of both."""
    involved = [winners[path] for path in (fault.path, fault.other) if path in winners]
    for layer in involved:
        fault = respelled(fault, layer.reading.written)
    return replace(fault, source=", ".join(dict.fromkeys(layer.source for layer in involved)))


def _flags(flags: Mapping[str, object]) -> Iterator[Layer]:
    for name, value in flags.items():
        if value is not None:
            yield Layer(f"--{name.replace('_', '-')}", read({name: value}), "flags")


def _variables(environ: Mapping[str, str], weaker: list[Layer]) -> list[Layer]:
    """Read `DASK_CLAIM_FIELD`, `DASK_CLAIM_ENV__X` and `DASK_CLAIM_OPTIONS__X`."""
    options = {
        path[1].lower(): path[1]
        for layer in weaker
        for path in layer.reading.values
        if path[0] == "options" and len(path) > 1
    }
    layers: list[Layer] = []
    seen: dict[tuple[str, str], str] = {}
    for variable in sorted(name for name in environ if _is_ours(name, environ[name])):
        value = environ[variable]
        head, _, tail = variable[len(_PREFIX) :].partition("__")
        field = resolve(head)
        if field is not None and not value.strip():
            continue
        reading = _read_variable(variable, value, options)
        if field is not None:
            entry = tail if field == "environment" else tail.lower()
            first = seen.setdefault((field, entry), variable)
            if environ[first] != value:
                reading.fault((), None, f"contradicts {first}, the same field", "keep one of them")
        layers.append(Layer(variable, reading, "variables"))
    # What names one entry is stronger than what gives env or options whole.
    return sorted(layers, key=lambda layer: "__" not in layer.source)


def _read_variable(variable: str, value: str, options: Mapping[str, str]) -> Reading:
    """Read one variable. `options` maps options in lower case to how weaker sources spell them."""
    head, nested, tail = variable[len(_PREFIX) :].partition("__")
    field = resolve(head)
    if field is None:
        names = [name.upper() for name in (*FIELDS, "site", *RUN_OPTIONS)]
        near = difflib.get_close_matches(head.upper()[:64], names, n=1, cutoff=0.65)
        hint = f"did you mean {_PREFIX}{near[0]}{nested}{tail}?" if near else ""
        return Reading(faults=[Fault((), None, "unknown variable", hint)])
    if field not in MAPPINGS and not nested:
        return read({head.lower(): value})
    if field not in MAPPINGS or (nested and not tail):
        hint = f"only {', '.join(f'{_PREFIX}{name.upper()}__…' for name in MAPPINGS)} have them"
        return Reading(faults=[Fault((), None, "has no parts", hint)])
    if not nested:
        raw, faults = parse_json(value)
        return Reading(faults=faults) if faults else read({field: raw})
    if field == "options":
        # Variables are mostly written in capitals, the gateway's options never are.
        tail = options.get(tail.lower(), tail.lower() if tail.isupper() else tail)
    elif field != "environment":
        tail = tail.lower()
    return read({field: {tail: Plain(value)}})


def _is_ours(variable: str, value: str) -> bool:
    upper = variable.upper()
    if not upper.startswith(_PREFIX) or upper.startswith(_OLD_PREFIX):
        return False
    is_link = upper.endswith("_PORT") and SERVICE_LINK.fullmatch(value)
    return not is_link and not NOT_FIELDS.fullmatch(upper)


def _old_names(environ: Mapping[str, str]) -> Iterator[Fault]:
    for variable in sorted(environ):
        if variable.upper().startswith(_OLD_PREFIX):
            hint = f"write {_PREFIX}{variable[len(_OLD_PREFIX) :].lstrip('_')}"
            problem = "two underscores would make this a Dask setting"
            yield Fault((), None, problem, hint, variable)


def _without_old_names(environ: Mapping[str, str]) -> dict[str, str]:
    return {name: environ[name] for name in environ if not name.upper().startswith(_OLD_PREFIX)}


def _claim_text(environ: Mapping[str, str]) -> Iterator[Layer]:
    text = environ.get("DASK_CLAIM", "")
    if text.strip():
        raw, faults = parse_json(text)
        reading = Reading() if faults and raw is None else read(raw)
        reading.faults[:0] = faults
        yield Layer("DASK_CLAIM", reading, trusted=False)


def _program_layer(source: str, values: Mapping[Path, object]) -> Layer:
    return Layer(source, Reading(dict(values)), CLAIM, trusted=False)


def _program_layers(
    values: Mapping[Path, Any], origin: Origin, layers: Iterable[Layer]
) -> list[Layer]:
    """Return the layers of a program's claim: its own values, and those of the DASK_CLAIM text.

    Left out is what came from another source that still sets it; where that does so no more, the
    value is the program's own.
    """
    still_set = {
        (layer.source, path): value
        for layer in layers
        if layer.trusted
        for path, value in leaves(completed(layer.values)).items()
    }
    by_source: dict[str, dict[Path, Any]] = {}
    for path, value in values.items():
        source = origin.of(path)
        if (source, path) not in still_set or still_set[source, path] != value:
            by_source.setdefault(source if source == "DASK_CLAIM" else CLAIM, {})[path] = value
    return [_program_layer(source, own) for source, own in by_source.items()]


def _site_layer(site: Site) -> Layer:
    reading = read(site.claim, SECTIONS)
    reading.faults[:0] = site.faults
    return Layer(site.path, reading)


def _profile(layers: list[Layer], site: Site) -> Iterator[Layer]:
    """Yield the profile that the strongest layer chooses: stronger only than the site's own."""
    chosen = next((layer for layer in layers if ("profile",) in layer.reading.values), None)
    name = chosen.values.get(("profile",)) if chosen else None
    if chosen is None or name is None:
        return
    if name in site.profiles:
        yield Layer(f"{site.path}, profile {name}", read(site.profiles[name]))
    elif not site.faults:
        problem = f"unknown profile; this site has: {', '.join(site.profiles) or 'none'}"
        yield Layer(chosen.source, Reading(faults=[Fault(("profile",), redact(name), problem)]))
