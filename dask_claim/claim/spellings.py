"""The spellings of a claim that are in the wild → the canonical, flat one. No I/O."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from dask_claim.claim.fields import FIELDS, MAPPINGS, RESULTS, Path
from dask_claim.claim.texts import Plain, as_data
from dask_claim.errors import Fault, dotted
from dask_claim.redact import redact

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
_KEYS = ALIASES | {_NAMES: "EnvVarRequirement", _VALUES: "RuntimeRequirement"}


@dataclass
class Reading:
    """What one source says of a claim, in canonical names: as it stands, or checked."""

    values: dict[Path, Any] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)
    written: dict[Path, Path] = field(default_factory=dict)
    """Path → how the author spelled it."""

    doubtful: set[str] = field(default_factory=set)
    """Fields whose value is not sound, once it is checked."""

    options: dict[str, Path] = field(default_factory=dict)
    """Option in lower case → its path: a gateway has one for all names that differ in case only."""

    def fault(self, path: Path, value: object, problem: str, hint: str = "") -> None:
        """Note what is wrong with a value."""
        self.faults.append(Fault(path, redact(value, dotted(path)), problem, hint))

    def put(self, path: Path, value: object, written: Path) -> None:
        """Set a field or an entry, unless it has another value already."""
        taken = path
        if path[:1] in self.values:
            taken = path[:1]
        elif path[0] in MAPPINGS and len(path) == 1:
            taken = next((one for one in self.values if one[0] == path[0]), path)
        elif path[0] == "options":
            taken = path = self.options.setdefault(path[1].lower(), path)
        if taken in self.values and not _same(path, self.values[taken], value):
            problem = f"contradicts {dotted(self.written[taken])}, the same field"
            self.fault(written, value, problem, "keep one of them")
            return
        self.values.setdefault(path, value)
        self.written.setdefault(path, written)


def read(raw: object, faults: Iterable[Fault] = (), beside: Iterable[str] = ()) -> Reading:
    """Return the canonical fields of a claim in any spelling. Never raises.

    Values are taken over as they are; `null` and what is faulty is left out. `faults` are those of
    the text that `raw` was in, None where nothing of it could be read. `beside` names what else may
    stand there, to suggest it for a misspelt key.
    """
    reading = Reading(faults=[*faults])
    keys = {**_KEYS, **{plain_name(name): name for name in beside}}
    try:
        if isinstance(raw, Mapping):
            _read_object(reading, raw, (), keys)
        elif raw is not None or not reading.faults:
            reading.fault((), raw, "is not an object", 'write one, for example {"worker_cores": 1}')
    except RecursionError:
        reading.faults = [Fault((), None, "is nested too deeply", "write a flat claim")]
    return reading


def _read_object(
    reading: Reading, raw: Mapping[object, object], prefix: Path, keys: Mapping[str, str]
) -> None:
    """Read an object of fields; `keys`: plain name → key that may stand there."""
    for key, value in raw.items():
        path, plain = (*prefix, _written(key)), plain_name(key)
        if plain == _CLASS:
            if value is not None and not plain_name(value).endswith(_REQUIREMENT):
                reading.fault(path, value, "is not DaskGatewayRequirement", "leave class out")
        elif value is None:
            continue
        elif plain.endswith(_REQUIREMENT) or plain == _VALUES:
            if isinstance(value, Mapping):
                _read_object(reading, value, path, keys)
            else:
                reading.fault(path, value, "is not an object of fields and their values")
        elif plain in (_NAMES, "env"):
            _read_names(reading, value, path)
        elif plain in ALIASES:
            _read_field(reading, ALIASES[plain], value, path)
        else:
            hint = suggest(key, keys) or "an option of the gateway's own goes into options"
            reading.fault(path, value, "is not a field of the claim", hint)


def _read_field(reading: Reading, name: str, value: object, path: Path) -> None:
    """Read a value, a pair of name and value, or an object of entries."""
    if not isinstance(value, Mapping) or (name in MAPPINGS and not _is_pair(value)):
        _read_value(reading, name, value, path)
        return
    for key, item in value.items():
        where = (*path, _written(key))
        if plain_name(key) == "value":
            _read_value(reading, name, item, where)
        elif plain_name(key) != "name":
            hint = suggest(key, {"name": "name", "value": "value"})
            reading.fault(where, item, f"is neither name nor value of {name}", hint)
        elif item is not None:
            reading.put(("env", name), item, where)


def _read_value(reading: Reading, name: str, value: object, path: Path) -> None:
    if value is None:
        return
    if name in RESULTS:
        hint = f'to have it in a variable: "env": {{"{name}": "NAME"}}'
        reading.fault(path, value, "exists only at run time", hint)
    elif name in MAPPINGS and isinstance(value, Mapping):
        for entry, item in value.items():
            # A batch system's words stay texts, whatever they look like; directives are a list.
            if name == "options" or (isinstance(item, Plain) and item.startswith("[")):
                item = as_data(item)
            if item is not None:
                reading.put((name, str(entry)), item, (*path, _written(entry)))
    else:
        reading.put((name,), value, path)


def _is_pair(options: Mapping[object, object]) -> bool:
    # The gateway's own options may well be called "name" or "value"; an object of options not.
    plain = {plain_name(key): item for key, item in options.items()}
    return plain.keys() <= {"name", "value"} and isinstance(plain.get("value"), Mapping)


def _read_names(reading: Reading, value: object, path: Path) -> None:
    """Read which variables the program wants its values in."""
    if not isinstance(value, Mapping):
        hint = 'write {"worker_cores": "DASK_WORKER_CORES"}'
        reading.fault(path, value, "is not an object of fields and names", hint)
        return
    for key, name in value.items():
        where = (*path, _written(key))
        if field_name := resolve(key):
            if name is not None:
                reading.put(("env", field_name), name, where)
        elif not (plain_name(key) == _CLASS and plain_name(name) == _NAMES):
            problem = "is not a field whose value a variable can hold"
            reading.fault(where, name, problem, suggest(key))


def _written(key: object) -> str:
    """Return a key as its author wrote it, fit for a path."""
    return str(redact(str(key)))[:60]


def _same(path: Path, one: object, other: object) -> bool:
    """Whether two values are one: 4 and "4"; of a field also 4.0, "4G" and "4 G", true and "true".

    What an entry of `options` means only its gateway can tell.
    """
    with suppress(ValueError, ArithmeticError):  # no number, or an endless one
        first, second = (str(each).strip() for each in (one, other))
        if first == second or len(path) > 1:
            return first == second
        first, second = ("".join(each.split()) for each in (first, second))
        if isinstance(one, bool) or isinstance(other, bool):
            first, second = first.lower(), second.lower()
        return first == second or Decimal(first) == Decimal(second)
    return False


def resolve(key: object) -> str | None:
    """Return the canonical name of the field or result that `key` spells, None if there is none."""
    return ALIASES.get(plain_name(key))


def suggest(key: object, names: Mapping[str, str] = ALIASES) -> str:
    """Return `"did you mean …?"`, or nothing where no name is near. `names`: plain → shown."""
    near = difflib.get_close_matches(plain_name(key)[:64], names, n=1, cutoff=0.65)
    return f"did you mean {names[near[0]]}?" if near else ""


def plain_name(key: object) -> str:
    """Return a key in lower case, without `_`, `-` and namespace; empty where it is no text."""
    # A namespace may stand before any key: calrissian:X, https://…/schema#X.
    text = key if isinstance(key, str) else ""
    return re.split(r"[:#/]", text)[-1].lower().replace("_", "").replace("-", "")
