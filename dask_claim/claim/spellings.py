"""The spellings of a claim that are in the wild → the canonical, flat one. No I/O."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from dask_claim.claim.fields import FIELDS, MAPPINGS, RESULTS
from dask_claim.claim.texts import Plain, as_data
from dask_claim.errors import Fault
from dask_claim.redact import redact

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_BOUNDED = {"min": ("cores", "workers"), "max": ("cores", "workers", "memory")}

ALIASES: dict[str, str] = {
    **{name.replace("_", ""): name for name in (*FIELDS, *RESULTS)},
    **{
        spelled: f"{bound}_{what}"
        for bound, whats in _BOUNDED.items()
        for what in whats
        for spelled in (f"{what}{bound}", f"cluster{bound}{what}", f"cluster{what}{bound}")
    },
    # Calrissian's published documents have the singular, too.
    "clustermincore": "min_cores",
    "clustermaxcore": "max_cores",
}
"""Key in lower case, without `_` and `-` → canonical name."""

_NAMES, _VALUES, _CLASS = "envvarrequirement", "runtimerequirement", "class"
_REQUIREMENT = "daskgatewayrequirement"
_KNOWN = ALIASES | {_NAMES: "EnvVarRequirement", _VALUES: "RuntimeRequirement"}

_DEEPEST = 4
"""Wrappings around one another. One is in the wild; more than a few is no claim."""

_LARGEST = 200
"""Keys of one object. A hostile one is not worth a look at each of its keys."""


@dataclass
class Reading:
    """One claim, read. `paths` tells how the author spelled what is now called otherwise."""

    fields: dict[str, object] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)
    paths: dict[str, str] = field(default_factory=dict)
    known: Mapping[str, str] = field(default_factory=lambda: _KNOWN, repr=False)
    """Plain name → what is known by it, to name the nearest one."""

    def fault(self, path: str, value: object, hint: str) -> None:
        self.faults.append(Fault(path, redact(value, path), hint))


def canonical(raw: Mapping[str, object]) -> tuple[dict[str, object], list[Fault]]:
    """Return the canonical fields of a claim in any spelling, and what is wrong with its keys.

    The values are taken over as they are; `null` and what is faulty is left out. Never raises.
    """
    reading = read(raw)
    return reading.fields, reading.faults


def read(raw: object, beside: Iterable[str] = ()) -> Reading:
    """Like `canonical`, and also tells the path in `raw` of every field that was found.

    `beside` names what else may stand there, for whoever has misspelt it.
    """
    reading = Reading(known={**_KNOWN, **{plain_name(name): name for name in beside}})
    if isinstance(raw, Mapping):
        _object(reading, raw, "", 0)
    else:
        reading.fault("", raw, 'is not an object; write one, for example {"worker_cores": 1}')
    return reading


def _object(reading: Reading, raw: Mapping[object, object], prefix: str, depth: int) -> None:
    if _too_many(reading, raw, prefix[:-1]):
        return
    for key, value in raw.items():
        path, plain = f"{prefix}{_written(key)}", plain_name(key)
        if plain == _CLASS:
            if not plain_name(value).endswith(_REQUIREMENT):
                reading.fault(path, value, "is not DaskGatewayRequirement; leave class out")
        elif value is None:
            continue
        elif plain.endswith(_REQUIREMENT) or plain == _VALUES:
            if not isinstance(value, Mapping):
                reading.fault(path, value, "is not an object of fields and their values")
            elif depth >= _DEEPEST:
                reading.fault(path, None, "is wrapped too deeply; write its fields alone")
            else:
                _object(reading, value, f"{path}.", depth + 1)
        elif plain in (_NAMES, "env"):
            _env(reading, value, path)
        elif plain in ALIASES:
            _field(reading, ALIASES[plain], value, path)
        else:
            hint = f"is not a field of the claim{nearest(key, reading.known)}"
            if not hint.endswith("?"):
                hint += "; an option of the gateway's own goes into options"
            reading.fault(path, value, hint)


def _too_many(reading: Reading, raw: Mapping[object, object], path: str) -> bool:
    if len(raw) > _LARGEST:
        reading.fault(path, None, f"has {len(raw)} keys; a claim has a few")
    return len(raw) > _LARGEST


def _field(reading: Reading, name: str, value: object, path: str) -> None:
    if isinstance(value, Mapping) and (name not in MAPPINGS or _is_pair(value)):
        for key, item in value.items():
            where = f"{path}.{_written(key)}"
            if plain_name(key) == "value":
                _value(reading, name, item, where)
            elif plain_name(key) != "name":
                known = {"name": "name", "value": "value"}
                hint = f"is neither name nor value of {name}{nearest(key, known)}"
                reading.fault(where, item, hint)
            elif item is not None:
                _put(reading, f"env.{name}", item, where)
    else:
        _value(reading, name, value, path)


def _value(reading: Reading, name: str, value: object, path: str) -> None:
    if value is None:
        return
    if name in RESULTS:
        hint = f'is known only at run time; to have it in a variable: "env": {{"{name}": "NAME"}}'
        reading.fault(path, value, hint)
    elif name in MAPPINGS and isinstance(value, Mapping):
        for entry, chosen in value.items():
            # A batch system's words stay texts, whatever they look like; directives are a list.
            if name == "options" or (isinstance(chosen, Plain) and chosen.startswith("[")):
                chosen = as_data(chosen)
            if chosen is not None:
                _put(reading, f"{name}.{safe_text(entry)}", chosen, f"{path}.{_written(entry)}")
    else:
        _put(reading, name, value, path)


def _is_pair(options: Mapping[object, object]) -> bool:
    # The gateway's own options may well be called "name" or "value"; an object of options not.
    plain = {plain_name(key): item for key, item in options.items()}
    return plain.keys() <= {"name", "value"} and isinstance(plain.get("value"), Mapping)


def _env(reading: Reading, value: object, path: str) -> None:
    if not isinstance(value, Mapping):
        hint = 'is not an object of fields and names; write {"worker_cores": "DASK_WORKER_CORES"}'
        reading.fault(path, value, hint)
        return
    if _too_many(reading, value, path):
        return
    for key, name in value.items():
        where = f"{path}.{_written(key)}"
        if plain_name(key) == "envdef":
            for one, other, at in _definitions(reading, name, where):
                # CWL writes NAME: value, the claim field: NAME; only one reading names a field.
                turned = resolve(one) is None and resolve(other) is not None
                _name(reading, *((other, one) if turned else (one, other)), at)
        elif not (plain_name(key) == _CLASS and plain_name(name) == _NAMES):
            _name(reading, key, name, where)


def _definitions(
    reading: Reading, value: object, path: str
) -> Iterator[tuple[object, object, str]]:
    if isinstance(value, Mapping):
        for name, wanted in value.items():
            yield name, wanted, f"{path}.{_written(name)}"
    elif isinstance(value, list):
        for index, entry in enumerate(value):
            where = f"{path}[{index}]"
            is_map = isinstance(entry, Mapping)
            plain = {plain_name(key): item for key, item in entry.items()} if is_map else {}
            if plain.keys() == {"envname", "envvalue"}:
                yield plain["envname"], plain["envvalue"], where
            else:
                reading.fault(where, entry, "is not an object of envName and envValue")
    else:
        reading.fault(path, value, "is neither an object nor a list of definitions")


def _name(reading: Reading, key: object, name: object, path: str) -> None:
    known = resolve(key)
    if known is None:
        hint = f"is not a field whose value a variable can hold{nearest(key)}"
        reading.fault(path, name, hint)
    elif name is not None:
        _put(reading, f"env.{known}", name, path)


def _put(reading: Reading, name: str, value: object, path: str) -> None:
    """Set a field (or `env.X`, `options.X`), unless something else was said of it before."""
    parent, entry, child = name.partition(".")
    if entry:
        inner = reading.fields.setdefault(parent, {})
        if not isinstance(inner, dict):
            # `options` was given before as something that is no object: its own fault, later.
            return
        target, key = inner, child
    else:
        target, key = reading.fields, name
    if key in target and not _same(target[key], value):
        earlier = reading.paths.get(name, name)
        reading.fault(path, value, f"contradicts {earlier}, the same field; keep one of them")
        return
    target.setdefault(key, value)
    reading.paths.setdefault(name, path)


def _same(one: object, other: object) -> bool:
    if isinstance(one, (dict, list)) or isinstance(other, (dict, list)):
        try:
            return one == other
        except RecursionError:
            return False
    # 4 and "4", "4G" and "4 G" are no contradiction; that 4.0 and "4" are is no harm.
    return _bare(one) == _bare(other)


def _bare(value: object) -> str:
    return safe_text(value).replace(" ", "").lower()


def _written(key: object) -> str:
    """Return a key as its author wrote it, fit for a path."""
    return str(redact(safe_text(key)))[:60]


def resolve(key: object) -> str | None:
    """Return the canonical name of a field or result that `key` spells, None if it is none."""
    return ALIASES.get(plain_name(key))


def nearest(key: object, known: Mapping[str, str] = ALIASES) -> str:
    """Return `"; did you mean …?"`, or nothing where no known name is near."""
    near = difflib.get_close_matches(plain_name(key)[:64], known, n=1, cutoff=0.65)
    return f"; did you mean {known[near[0]]}?" if near else ""


def plain_name(key: object) -> str:
    """Return a key in lower case, without `_`, `-` and any namespace."""
    # A namespace may stand before any key: calrissian:X, https://…/schema#X.
    return re.split(r"[:#/]", safe_text(key))[-1].lower().replace("_", "").replace("-", "")


def safe_text(value: object) -> str:
    """Return the text of any value that JSON or YAML can hold."""
    try:
        return str(value)
    except ValueError:  # Python does not write out numbers of many thousand digits
        return hex(value) if isinstance(value, int) else "…"
    except RecursionError:
        return "…"
