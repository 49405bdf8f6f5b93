"""The values of a claim from all its sources, and which source wins."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from dask_claim.claim.addresses import OperatorGateways, UrlPrefix
from dask_claim.claim.dask_config import gateway_of_dask
from dask_claim.claim.fields import FIELDS, Path, leaves
from dask_claim.claim.layers import (
    CLAIM,
    OF_DASK,
    Layer,
    claim_text_layer,
    flag_layers,
    profile_layers,
    program_layer,
    program_layers,
    site_layer,
    variable_layers,
)
from dask_claim.claim.names import find_conflicts
from dask_claim.claim.site import Site, read_site
from dask_claim.claim.validation import complete, cross_faults, respell
from dask_claim.errors import ClaimError, Fault
from dask_claim.redact import redact, redact_text

_GATEWAY, *_BESIDE = (("gateway_url",), ("proxy_url",), ("public_url",))
_DASK = "Dask"


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
        shown = redact(getattr(self.value, "written", self.value), self.field)
        return {"field": self.field, "value": shown, "source": self.source, "by": self.by}


@dataclass(frozen=True)
class Provenance:
    """Where the values of a claim come from."""

    sources: dict[str, str]
    """Field, or an entry such as `options.X` → source; `default` where there is none."""

    overruled: tuple[Overruled, ...]
    """What the sources set beside that."""

    operator_gateways: OperatorGateways
    """Gateways that a source of the operator's names, also one that the claim overrules."""

    site: Site
    """The site's file, whose policy the claim keeps to."""

    def shown_sources(self) -> dict[str, str]:
        """Return the sources without secrets; a source is none because of its field's name."""
        return {name: redact_text(source) for name, source in self.sources.items()}


def gather(
    flags: Mapping[str, object],
    environ: Mapping[str, str],
    claim: Mapping[str, Any] | None = None,
    claim_sources: Mapping[str, str] | None = None,
) -> tuple[dict[str, Any], Provenance]:
    """Return the values of this environment and the command line, each layer parsed once.

    `flags` maps canonical fields to values (None: not given). `claim` has the fields of a
    program's own, in the place of `DASK_CLAIM`, and `claim_sources` says where they come from.
    Raises ClaimError with every fault of every layer.
    """
    site, program = read_site(environ), leaves(claim or {})
    readable = {name: environ[name] for name in environ if not name.upper().startswith(OF_DASK)}
    faults = find_conflicts(readable, {})
    strong = [*flag_layers(flags), *variable_layers(environ)]
    text = claim_text_layer(environ)
    own = [text] if claim is None else [program_layer(CLAIM, program)]
    of_site = site_layer(site)
    weak = [*profile_layers([*strong, *own, of_site], site), of_site]
    if not faults and len(readable) == len(environ):  # else Dask cannot be imported
        weak += [Layer.of(source, reading, _DASK) for source, reading in gateway_of_dask(environ)]
    if claim is not None:
        own = program_layers(program, claim_sources or {}, [*strong, text, *weak])
    layers = [*strong, *own, *weak]
    _match_option_names(layers)
    operator_gateways = _operator_gateways(layers, site)
    dropped = [*_drop_other_gateways(layers)]
    merged: dict[Path, Any] = {}
    winners: dict[Path, Layer] = {}
    for layer in reversed(layers):
        merged |= layer.values
        for path in layer.values:
            winners[path[:1]] = winners[path] = layer
    faults += [fault for layer in layers for fault in layer.faults]
    doubtful = {name for layer in layers for name in layer.doubtful}
    faults += [_explained(fault, winners) for fault in cross_faults(merged, doubtful)]
    if faults:
        raise ClaimError(faults)
    sources = {".".join(path): layer.source for path, layer in winners.items()}
    sources = dict.fromkeys(FIELDS, "default") | sources
    overruled = (*dropped, *_overruled(layers, winners, merged))
    return complete(merged), Provenance(sources, overruled, operator_gateways, site)


def _match_option_names(layers: Iterable[Layer]) -> None:
    """Spell options that differ in case only, which are one for a gateway, as the weakest does."""
    spelled: dict[str, str] = {}
    for layer in reversed(list(layers)):
        layer.values = {
            (name, spelled.setdefault(entry[0].lower(), entry[0]))
            if name == "options" and entry
            else (name, *entry): value
            for (name, *entry), value in layer.values.items()
        }


def _drop_other_gateways(layers: list[Layer]) -> Iterator[Overruled]:
    """Take the addresses beside another gateway than the effective one out of the layers.

    Dask's configuration is for everything that uses Dask here: what is wrong with a gateway there
    that is not used stops nothing.
    """
    named = {one.group: one for one in reversed(layers) if one.names("gateway_url")}
    winner = next((one for one in layers if one.names("gateway_url")), None)
    for layer in layers:
        own = named.get(layer.group)
        if winner is None or own is None or _place(own) == _place(winner):
            continue
        why = f"{winner.source}, which names another gateway"
        for path in _BESIDE:
            if path in layer.values:
                yield Overruled(path[0], layer.values.pop(path), layer.source, why)
        if layer.group == _DASK:
            layer.faults, layer.doubtful = [], set()


def _place(layer: Layer) -> object:
    """Return where a layer's gateway is, equal for all spellings of one address."""
    url = layer.values.get(_GATEWAY)
    with suppress(ValueError):
        return UrlPrefix.of(str(url))
    return url


def _overruled(
    layers: list[Layer], winners: Mapping[Path, Layer], merged: Mapping[Path, Any]
) -> Iterator[Overruled]:
    for layer in layers:
        # A reading has its fields in no order.
        for path in sorted(layer.values):
            value = layer.values[path]
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
        fault = respell(fault, layer.written)
    return replace(fault, source=", ".join(dict.fromkeys(layer.source for layer in involved)))
