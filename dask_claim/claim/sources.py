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
from dask_claim.claim.fields import FIELDS, MAPPINGS
from dask_claim.claim.names import NOT_FIELDS, SERVICE_LINK, dask_conflicts
from dask_claim.claim.origin import CLAIM, Origin
from dask_claim.claim.site import SECTIONS, Site, read_site
from dask_claim.claim.spellings import Reading, read, resolve
from dask_claim.claim.texts import Plain, parse_json
from dask_claim.claim.units import FrozenDict
from dask_claim.claim.validation import check_fields, completed, cross_faults, leaves
from dask_claim.errors import ClaimError, Fault
from dask_claim.redact import redact

_PREFIX = "DASK_CLAIM_"

# Dask reads two underscores as a level, so that this would be a part of DASK_CLAIM, which is none.
_OLD_PREFIX = "DASK_CLAIM__"

_ADDRESSES = ("gateway_url", "proxy_url", "public_url")


@dataclass
class Layer:
    """What one source says, each field checked by itself: a flag, a variable, a file."""

    source: str
    reading: Reading
    group: str = ""
    """The source as a whole, such as all flags: the addresses of a gateway in it belong together.
    By default this layer alone."""

    trusted: bool = True
    """Whether it is the operator's, not the package's developer's."""

    def __post_init__(self) -> None:
        self.group = self.group or self.source
        self.values, faults, self.doubtful = check_fields(self.reading)
        self.faults = [replace(fault, source=self.source) for fault in faults]

    def leaves(self) -> Iterator[tuple[str, object]]:
        """Yield (name, value) of every field that is sound, those of mappings entry by entry."""
        yield from leaves(self.values)

    def without(self, names: Iterable[str]) -> Layer:
        """Return this layer without some of its fields."""
        found = copy(self)
        found.values = {name: self.values[name] for name in self.values if name not in names}
        return found


@dataclass(frozen=True)
class Overruled:
    """What a source says and another one overrules."""

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
    """What all sources say together."""

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
    """Return what this environment and the command line say, each layer parsed once.

    `flags` maps canonical fields to what the command line says (None: nothing). `claim` has the
    fields of a program's own, in the place of `DASK_CLAIM`, and `origin` tells where from. Raises
    ClaimError with every fault of every layer.
    """
    site = read_site(environ)
    own = list(_claim_text(environ) if claim is None else _of_program({CLAIM: claim}))
    weak = [*own, _site_layer(site)]
    layers = [*_flags(flags), *_variables(environ, weak), *weak]
    layers[-1:-1] = _profile(layers, site)
    # Nothing of Dask can be imported before the environment is one that it can read.
    faults = [*_old_names(environ), *dask_conflicts(_without_old_names(environ), {})]
    of_dask = [] if faults else [Layer(*said, "Dask") for said in said_by_dask(environ)]
    if claim is not None:
        at, others = layers.index(own[0]), [each for each in (*layers, *of_dask) if each.trusted]
        said = ((layer.source, completed(layer.values)) for layer in others)
        layers[at : at + 1] = _of_program((origin or Origin()).divided(claim, said))
    operator_gateways = _operator_gateways((*layers, *of_dask), site)
    layers, set_aside = _of_one_gateway(layers, of_dask)
    faults += [fault for layer in layers for fault in layer.faults]
    winners = {name: layer for layer in reversed(layers) for name in _said(layer)}
    merged = _merged([layer.values for layer in layers])
    doubtful = {name for layer in layers for name in layer.doubtful}
    for fault in cross_faults(merged, doubtful):
        names = fault.path.split("/")
        path = "/".join(_path(winners.get(name), name) for name in names)
        named = dict.fromkeys(winners[name].source for name in names if name in winners)
        faults.append(Fault(path, fault.value, fault.hint, ", ".join(named)))
    if faults:
        raise ClaimError(faults)
    sources_of = {name: layer.source for name, layer in winners.items()}
    return Gathered(
        completed(merged),
        {**dict.fromkeys(FIELDS, "default"), **sources_of},
        (*set_aside, *_overruled(layers, winners, merged)),
        operator_gateways,
        site,
    )


def _of_one_gateway(
    layers: list[Layer], of_dask: list[Layer]
) -> tuple[list[Layer], list[Overruled]]:
    """Return all layers without what belongs to another gateway than the effective one.

    `of_dask`, the weakest, is for everything that uses Dask here: what is wrong with a gateway
    there that is not taken stops nobody.
    """
    winner = next((one for one in layers if "gateway_url" in one.reading.fields), None)
    if winner is None:
        return [*layers, *of_dask], []
    effective = winner.values.get("gateway_url")
    named: dict[str, object] = {}
    for layer in (*layers, *of_dask):
        if "gateway_url" in layer.reading.fields:
            named.setdefault(layer.group, layer.values.get("gateway_url"))
    kept: list[Layer] = []
    aside: list[Overruled] = []
    for layer in (*layers, *of_dask):
        if not _is_other(named.get(layer.group, effective), effective):
            kept.append(layer)
            continue
        names = _ADDRESSES if layer in of_dask else _ADDRESSES[1:]
        why = f"{winner.source}, which names another gateway"
        aside += [
            Overruled(name, layer.values[name], layer.source, why)
            for name in names
            if name in layer.values
        ]
        if layer not in of_dask:
            kept.append(layer.without(names))
    return kept, aside


def _is_other(gateway: object, effective: object) -> bool:
    def plain(url: object) -> object:
        with suppress(ValueError):
            return UrlPrefix.of(str(url))
        return url

    return plain(gateway) != plain(effective)


def _overruled(
    layers: list[Layer], winners: Mapping[str, Layer], merged: Mapping[str, Any]
) -> Iterator[Overruled]:
    effective = dict(leaves(merged))
    for layer in layers:
        for name, value in layer.leaves():
            if winners[name] is not layer and value != effective[name]:
                yield Overruled(name, value, layer.source, winners[name].source)


def _operator_gateways(layers: Iterable[Layer], site: Site) -> OperatorGateways:
    urls = {
        layer.values["gateway_url"]
        for layer in layers
        if layer.trusted and "gateway_url" in layer.values
    }
    if site.credentials:
        urls.add(str(site.credentials.gateway))
    return OperatorGateways(frozenset(urls))


def _merged(layers: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the values of all layers: the strongest wins, entry by entry in mappings."""
    merged: dict[str, Any] = {}
    for values in reversed(layers):
        for name, value in values.items():
            if name in MAPPINGS:
                # The stronger source's entries stand behind those of the weaker.
                weaker = merged.get(name, {})
                kept = {key: weaker[key] for key in weaker if key not in value}
                value = FrozenDict({**kept, **value})
            merged[name] = value
    return merged


def _said(layer: Layer) -> Iterator[str]:
    for name, _ in layer.leaves():
        yield name
        if "." in name:
            yield name.partition(".")[0]


def _path(layer: Layer | None, name: str) -> str:
    return layer.reading.paths.get(name, name) if layer else name


def _flags(flags: Mapping[str, object]) -> Iterator[Layer]:
    for name, value in flags.items():
        if value is not None:
            yield Layer(f"--{name.replace('_', '-')}", read({name: value}), "flags")


def _variables(environ: Mapping[str, str], weaker: list[Layer]) -> list[Layer]:
    """Read `DASK_CLAIM_FIELD`, `DASK_CLAIM_ENV__X` and `DASK_CLAIM_OPTIONS__X`."""
    options = {
        option.lower(): option
        for layer in weaker
        for name, _ in leaves(layer.reading.fields)
        for option in [name.partition("options.")[2]]
    }
    layers: list[Layer] = []
    seen: dict[tuple[str, str], str] = {}
    for variable in sorted(name for name in environ if _is_ours(name, environ[name])):
        value = environ[variable]
        head, nested, tail = variable[len(_PREFIX) :].partition("__")
        field = resolve(head)
        if field is None:
            layers.append(Layer(variable, Reading(faults=[Fault("", None, _unknown(variable))])))
            continue
        if not value.strip():
            continue
        if field == "options" and tail:
            # Variables are mostly written in capitals, the gateway's options never are.
            lower = tail.lower() if tail.isupper() else tail
            reading = read({"options": {options.get(tail.lower(), lower): Plain(value)}})
        elif field == "environment" and tail:
            reading = read({field: {tail: value}})
        elif field in MAPPINGS and tail:
            reading = read({field: {tail.lower(): Plain(value)}})
        elif nested:
            having = ", ".join(f"{_PREFIX}{name.upper()}__…" for name in MAPPINGS)
            hint = f"has no parts; only {having} have them"
            reading = Reading(faults=[Fault("", None, hint)])
        elif field in MAPPINGS:
            raw, faults = parse_json(value)
            reading = Reading(faults=faults) if faults else read({field: raw})
        else:
            reading = read({head.lower(): value})
        first = seen.setdefault((field, tail if field == "environment" else tail.lower()), variable)
        if environ[first] != value:
            hint = f"contradicts {first}, the same field; keep one of them"
            reading.faults.append(Fault("", None, hint))
        layers.append(Layer(variable, reading, "variables"))
    # What names one entry is stronger than what gives env or options whole.
    return sorted(layers, key=lambda layer: "__" not in layer.source)


def _is_ours(variable: str, value: str) -> bool:
    upper = variable.upper()
    if not upper.startswith(_PREFIX) or upper.startswith(_OLD_PREFIX):
        return False
    link = upper.endswith("_PORT") and SERVICE_LINK.fullmatch(value)
    return not link and not NOT_FIELDS.fullmatch(upper)


def _unknown(variable: str) -> str:
    head, nested, tail = variable[len(_PREFIX) :].partition("__")
    own = ("SITE", "RECEIPT", "START", "START_TIMEOUT", "STOP_TIMEOUT", "GRACE")
    known = [*(name.upper() for name in FIELDS), *own]
    near = difflib.get_close_matches(head.upper()[:64], known, n=1, cutoff=0.65)
    right = f"; did you mean {_PREFIX}{near[0]}{nested}{tail}?" if near else ""
    return f"is no variable of dask-claim{right}"


def _old_names(environ: Mapping[str, str]) -> Iterator[Fault]:
    for variable in sorted(environ):
        if variable.upper().startswith(_OLD_PREFIX):
            name = f"{_PREFIX}{variable[len(_OLD_PREFIX) :].lstrip('_')}"
            hint = f"is a part of a setting of Dask's, by its two underscores; write {name}"
            yield Fault("", None, hint, variable)


def _without_old_names(environ: Mapping[str, str]) -> dict[str, str]:
    return {name: environ[name] for name in environ if not name.upper().startswith(_OLD_PREFIX)}


def _claim_text(environ: Mapping[str, str]) -> Iterator[Layer]:
    text = environ.get("DASK_CLAIM", "")
    if text.strip():
        raw, faults = parse_json(text)
        reading = Reading() if faults and raw is None else read(raw)
        reading.faults[:0] = faults
        yield Layer("DASK_CLAIM", reading, trusted=False)


def _of_program(said: Mapping[str, Mapping[str, Any]]) -> Iterator[Layer]:
    for source, fields in said.items():
        yield Layer(source, Reading(dict(fields)), CLAIM, trusted=False)


def _site_layer(site: Site) -> Layer:
    reading = read(site.claim, SECTIONS)
    reading.faults[:0] = site.faults
    return Layer(site.path, reading)


def _profile(layers: list[Layer], site: Site) -> Iterator[Layer]:
    """The profile that the strongest layer chooses: stronger than the site's own claim alone."""
    chosen = next((layer for layer in layers if "profile" in layer.reading.fields), None)
    name = chosen.values.get("profile") if chosen else None
    if chosen is None or name is None:
        return
    if name in site.profiles:
        yield Layer(f"{site.path}, profile {name}", read(site.profiles[name]))
    elif not site.faults:
        fault = Fault("profile", redact(name), site.unknown_profile(name))
        yield Layer(chosen.source, Reading(faults=[fault]))
