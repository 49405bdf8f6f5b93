"""Where the values of a claim come from, and which of them wins."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, InitSettingsSource, PydanticBaseSettingsSource

from dask_claim.checks import check_fields, cross_faults, leaves
from dask_claim.dask_settings import said_by_dask
from dask_claim.errors import ClaimError, Fault
from dask_claim.fields import ClaimFields
from dask_claim.spellings import Reading, read
from dask_claim.texts import parse_json, parse_yaml
from dask_claim.vocabulary import FIELDS, resolve

SITE_FILE = "/etc/dask-claim/claim.yaml"
"""The site's file where `DASK_CLAIM_SITE` names no other one."""

_PREFIX = "DASK_CLAIM__"


@dataclass(frozen=True)
class Layer:
    """What one place says: a flag, a variable, a file."""

    place: str
    reading: Reading


def gather(
    flags: Mapping[str, object], environ: Mapping[str, str]
) -> tuple[dict[str, Any], dict[str, str]]:
    """Return the effective fields of the claim, every layer considered, and where each comes from.

    `flags` maps canonical fields to what the command line says (None: nothing). Raises ClaimError
    with every fault of every layer.
    """
    weak = [*_claim_text(environ), *_site_file(environ)]
    layers = [*_flags(flags), *_variables(environ, weak), *weak]
    if not any("gateway_url" in layer.reading.fields for layer in layers):
        layers += (Layer(*said) for said in said_by_dask(environ))
    faults: list[Fault] = []
    doubtful: set[str] = set()
    sound: list[dict[str, Any]] = []
    for layer in layers:
        fields, found, wrong = check_fields(layer.reading)
        sound.append(fields)
        doubtful |= wrong
        faults += [replace(fault, place=layer.place) for fault in found]
    winners = {name: layer for layer in reversed(layers) for name in _said(layer)}
    merged = _Merged(sound).model_dump(exclude_unset=True)
    for fault in cross_faults(merged, doubtful):
        names = fault.path.split("/")
        path = "/".join(_path(winners.get(name), name) for name in names)
        places = dict.fromkeys(winners[name].place for name in names if name in winners)
        faults.append(Fault(path, fault.value, fault.mend, ", ".join(places)))
    if faults:
        raise ClaimError(faults)
    places_of = {name: layer.place for name, layer in winners.items()}
    return merged, {**dict.fromkeys(FIELDS, "default"), **places_of}


class _Merged(BaseSettings, ClaimFields):  # type: ignore[misc]  # the two kinds of model_config
    """The layers, merged: the strongest one wins, entry by entry in `env` and `options`."""

    def __init__(self, layers: list[dict[str, Any]]) -> None:
        super().__init__(layers=layers)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        *_: PydanticBaseSettingsSource,
        **__: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        # The usual sources read the process's own environment; ours were given to us.
        assert isinstance(init_settings, InitSettingsSource)
        layers = init_settings.init_kwargs["layers"]
        return tuple(_Source(settings_cls, fields) for fields in layers)


class _Source(PydanticBaseSettingsSource):
    def __init__(self, settings_cls: type[BaseSettings], fields: dict[str, Any]) -> None:
        super().__init__(settings_cls)
        self._fields = fields

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        return self._fields.get(field_name), field_name, False

    def __call__(self) -> dict[str, Any]:
        return self._fields


def _said(layer: Layer) -> Iterator[str]:
    for name, _ in leaves(layer.reading.fields):
        yield name
        if "." in name:
            yield name.partition(".")[0]


def _path(layer: Layer | None, name: str) -> str:
    return layer.reading.paths.get(name, name) if layer else name


def _flags(flags: Mapping[str, object]) -> Iterator[Layer]:
    for name, value in flags.items():
        if value is not None:
            yield Layer(f"--{name.replace('_', '-')}", read({name: value}))


def _variables(environ: Mapping[str, str], weaker: list[Layer]) -> list[Layer]:
    """Read `DASK_CLAIM__FIELD`, `DASK_CLAIM__ENV__X` and `DASK_CLAIM__OPTIONS__X`."""
    options = {
        option.lower(): option
        for layer in weaker
        for name, _ in leaves(layer.reading.fields)
        for option in [name.partition("options.")[2]]
    }
    layers: list[Layer] = []
    seen: dict[tuple[str, str], str] = {}
    for variable in sorted(name for name in environ if name.upper().startswith(_PREFIX)):
        value = environ[variable]
        head, nested, tail = variable[len(_PREFIX) :].partition("__")
        field = resolve(head)
        if not value.strip():
            continue
        if field == "options" and tail:
            # Variables are mostly written in capitals, the gateway's options never are.
            lower = tail.lower() if tail.isupper() else tail
            reading = read({"options": {options.get(tail.lower(), lower): _option(value)}})
        elif field == "env" and tail:
            reading = read({"env": {tail.lower(): value}})
        elif field in ("env", "options"):
            raw, faults = parse_json(value)
            reading = Reading(faults=faults) if faults else read({field: raw})
        elif nested:
            mend = "has no parts; only DASK_CLAIM__ENV__… and DASK_CLAIM__OPTIONS__… have them"
            reading = Reading(faults=[Fault("", None, mend)])
        else:
            reading = read({head.lower(): value})
        first = seen.setdefault((field or head, tail.lower()), variable)
        if environ[first] != value:
            mend = f"contradicts {first}, the same field; keep one of them"
            reading.faults.append(Fault("", None, mend))
        layers.append(Layer(variable, reading))
    # What names one entry is stronger than what gives env or options whole.
    return sorted(layers, key=lambda layer: "__" not in layer.place[len(_PREFIX) :])


def _option(value: str) -> object:
    """Return JSON's reading of a text, but only where no sign of the text would be lost."""
    try:
        found: object = json.loads(value)
        plain = isinstance(found, (int, float)) and json.dumps(found) != value.strip()
    except (ValueError, RecursionError):
        return value
    return value if plain else found


def _claim_text(environ: Mapping[str, str]) -> Iterator[Layer]:
    text = environ.get("DASK_CLAIM", "")
    if text.strip():
        raw, faults = parse_json(text)
        reading = Reading() if faults and raw is None else read(raw)
        reading.faults[:0] = faults
        yield Layer("DASK_CLAIM", reading)


def _site_file(environ: Mapping[str, str]) -> Iterator[Layer]:
    chosen = environ.get("DASK_CLAIM_SITE", "").strip()
    path = chosen or SITE_FILE
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        if chosen or not isinstance(error, (FileNotFoundError, NotADirectoryError)):
            why = getattr(error, "strerror", None) or str(error)
            mend = f"cannot be read: {why}; mend it, or DASK_CLAIM_SITE"
            yield Layer(path, Reading(faults=[Fault("", None, mend)]))
        return
    raw, faults = parse_yaml(text)
    yield Layer(path, Reading(faults=faults) if faults else read({} if raw is None else raw))
