"""The sources of a claim: what each of them sets, checked by itself."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from dask_claim.claim.fields import FIELDS, MAPPINGS, RUN_OPTIONS, Path, leaves
from dask_claim.claim.names import NOT_FIELDS, SERVICE_LINK
from dask_claim.claim.site import SECTIONS, Site
from dask_claim.claim.spellings import Reading, read, resolve
from dask_claim.claim.texts import Plain, parse_json
from dask_claim.claim.validation import check, complete
from dask_claim.errors import Fault
from dask_claim.redact import redact

CLAIM = "claim"
"""The source of what a program sets itself."""

CLAIM_TEXT = "DASK_CLAIM"

_PREFIX = "DASK_CLAIM_"

OF_DASK = "DASK_CLAIM__"
"""How the variables begin that Dask reads as entries of DASK_CLAIM, which is a text."""


@dataclass
class Layer(Reading):
    """What one source sets, each field checked by itself: a flag, a variable, a file."""

    source: str = ""
    group: str = ""
    """The source as a whole, such as all flags: the addresses of a gateway in it belong together.
    By default this layer alone."""

    trusted: bool = True
    """Whether it is the operator's, not the package's developer's."""

    @classmethod
    def of(cls, source: str, reading: Reading, group: str = "", trusted: bool = True) -> Layer:
        """Return the layer of what a source says."""
        checked = check(reading)
        faults = [replace(fault, source=source) for fault in checked.faults]
        if not trusted and (value := checked.values.get(("share",))):
            problem = "may come from an operator's source only, for runs use each other's workers"
            hint = "set DASK_CLAIM_SHARE, or give --share"
            faults.append(Fault(("share",), value, problem, hint, source))
        return cls(
            checked.values, faults, checked.written, checked.doubtful,
            source=source, group=group or source, trusted=trusted,
        )  # fmt: skip

    def names(self, field: str) -> bool:
        """Whether the source gives a field a value, be it a sound one or not."""
        return (field,) in self.values or field in self.doubtful


def flag(name: str) -> str:
    """Return the command line's option for a field."""
    return "--option" if name == "options" else f"--{name.replace('_', '-')}"


def flag_layers(flags: Mapping[str, object]) -> Iterator[Layer]:
    for name, value in flags.items():
        if value is not None:
            source = flag(f"no_{name}" if value is False else name)
            yield Layer.of(source, read({name: value}), "flags")


def variable_layers(environ: Mapping[str, str]) -> list[Layer]:
    """Read `DASK_CLAIM_FIELD`, `DASK_CLAIM_ENV__X` and `DASK_CLAIM_OPTIONS__X`."""
    ours = sorted(name for name in environ if _is_ours(name, environ[name]))
    layers = [Layer.of(name, _read_variable(name, environ[name]), "variables") for name in ours]
    # What names one entry is stronger than what gives env or options whole.
    return sorted(layers, key=lambda layer: "__" not in layer.source)


def _read_variable(variable: str, value: str) -> Reading:
    name = variable[len(_PREFIX) :]
    if variable.upper().startswith(OF_DASK):
        problem = "two underscores would make this a Dask setting"
        return Reading(faults=[Fault((), None, problem, f"write {_PREFIX}{name.lstrip('_')}")])
    head, nested, tail = name.partition("__")
    field = resolve(head)
    if field is None:
        names = [name.upper() for name in (*FIELDS, "site", *RUN_OPTIONS)]
        near = difflib.get_close_matches(head.upper()[:64], names, n=1, cutoff=0.65)
        hint = f"did you mean {_PREFIX}{near[0]}{nested}{tail}?" if near else ""
        return Reading(faults=[Fault((), None, "unknown variable", hint)])
    if not value.strip():
        return Reading()
    if field not in MAPPINGS and not nested:
        return read({head.lower(): value})
    if field not in MAPPINGS or (nested and not tail):
        hint = f"only {', '.join(f'{_PREFIX}{name.upper()}__…' for name in MAPPINGS)} have them"
        return Reading(faults=[Fault((), None, "has no parts", hint)])
    if not nested:
        raw, faults = parse_json(value)
        return Reading(faults=faults) if faults else read({field: raw})
    # Variables are mostly written in capitals, the gateway's options never are.
    if field in ("env", "hpc") or (field == "options" and tail.isupper()):
        tail = tail.lower()
    return read({field: {tail: Plain(value)}})


def _is_ours(variable: str, value: str) -> bool:
    upper = variable.upper()
    is_link = upper.endswith("_PORT") and SERVICE_LINK.fullmatch(value)
    return upper.startswith(_PREFIX) and not is_link and not NOT_FIELDS.fullmatch(upper)


def claim_text_layer(environ: Mapping[str, str]) -> Layer:
    text = environ.get(CLAIM_TEXT, "")
    reading = read(*parse_json(text)) if text.strip() else Reading()
    return Layer.of(CLAIM_TEXT, reading, trusted=False)


def program_layer(source: str, values: Mapping[Path, object]) -> Layer:
    return Layer.of(source, Reading(dict(values)), CLAIM, trusted=False)


def program_layers(
    values: Mapping[Path, Any], sources: Mapping[str, str], layers: Iterable[Layer]
) -> list[Layer]:
    """Return the layers of a program's claim: its own values, and those of the DASK_CLAIM text.

    `sources` says where its values came from. Left out is what came from another one of `layers`
    that still sets it; where that does so no more, the value is the program's own.
    """
    still_set = {
        (layer.source, path): value
        for layer in layers
        for path, value in leaves(complete(layer.values)).items()
    }
    own: dict[Path, Any] = {}
    of_text: dict[Path, Any] = {}
    for path, value in values.items():
        source = sources.get(".".join(path), CLAIM)
        if (source, path) not in still_set or still_set[source, path] != value:
            own[path] = value
        elif source == CLAIM_TEXT:
            of_text[path] = value
    return [program_layer(CLAIM_TEXT, of_text), program_layer(CLAIM, own)]


def site_layer(site: Site) -> Layer:
    return Layer.of(site.path, read(site.claim, site.faults, SECTIONS))


def profile_layers(layers: Iterable[Layer], site: Site) -> Iterator[Layer]:
    """Yield the profile that the strongest layer chooses: stronger only than the site's own."""
    chosen = next((layer for layer in layers if layer.names("profile")), None)
    name = chosen.values.get(("profile",)) if chosen else None
    if chosen is None or name is None:
        return
    if name in site.profiles:
        yield Layer.of(f"{site.path}, profile {name}", read(site.profiles[name]))
    elif not site.faults:
        problem = f"unknown profile; this site has: {', '.join(site.profiles) or 'none'}"
        yield Layer.of(chosen.source, Reading(faults=[Fault(("profile",), redact(name), problem)]))
