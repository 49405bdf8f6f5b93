"""Texts in JSON or YAML → plain objects, or faults that say where the text is broken."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from typing import Any

from dask_claim.errors import Fault

_LARGEST = 2**20
_MOST_NODES = 100_000
_DEEPEST = 50
_EXAMPLE = 'write one JSON object, for example {"worker_cores": 1}'


class Plain(str):
    """A text without quotes, of YAML, a variable or a flag: its type is that of the field."""


class Written(float):
    """A number of JSON that Python would write otherwise: 1.10, 1e3."""

    text: str

    def __new__(cls, text: str) -> Written:
        number = super().__new__(cls, text)
        number.text = text
        return number


def parse_json(text: str) -> tuple[object, list[Fault]]:
    """Return what a JSON text holds, and what is wrong with the text. Never raises."""
    if len(text) > _LARGEST:
        problem = f"is longer than {_LARGEST} characters"
        return None, [Fault((), None, problem, "a claim is a few hundred")]
    twice: list[str] = []

    def make_object(pairs: list[tuple[str, object]]) -> dict[str, object]:
        twice.extend(key for key, count in Counter(key for key, _ in pairs).items() if count > 1)
        return dict(pairs)

    try:
        raw = json.loads(text, object_pairs_hook=make_object, parse_float=_number)
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        return None, [Fault((), None, f"is not JSON: {error.msg} at {where}", _EXAMPLE)]
    except RecursionError:
        return None, [Fault((), None, "is nested too deeply", _EXAMPLE)]
    except ValueError:
        return None, [Fault((), None, "has a number of too many digits", "write a smaller one")]
    problem = "is given twice in one object"
    return raw, [Fault((key,), None, problem, "keep one of them") for key in twice]


def _number(text: str) -> float:
    number = float(text)
    return number if json.dumps(number) == text else Written(text)


def parse_yaml(text: str) -> tuple[object, list[Fault]]:
    """Return what a text of YAML 1.2 holds, and what is wrong with it. Never raises.

    What stands there without quotes is `Plain`, or None; keys are texts as they were written.
    """
    if len(text) > _LARGEST:
        return None, [Fault((), None, f"is longer than {_LARGEST} characters")]
    from ruamel.yaml import YAML  # only a site with such a file pays for it
    from ruamel.yaml.error import MarkedYAMLError, YAMLError

    try:
        # Only composed, not constructed: tags make no objects, and texts stay as they were written.
        node = YAML(typ="safe", pure=True).compose(text)
        return None if node is None else _Tree().value(node), []
    except _Unusable as error:
        mark, problem = error.mark, str(error)
    except MarkedYAMLError as error:
        mark, problem = error.problem_mark, error.problem or error.context
    except (YAMLError, ValueError, LookupError, AttributeError) as error:
        mark, problem = None, " ".join(str(error).split())
    except RecursionError:
        mark, problem = None, "it is nested too deeply"
    where = f" at line {mark.line + 1}, column {mark.column + 1}" if mark else ""
    return None, [Fault((), None, f"is not valid YAML for a claim: {problem}{where}")]


class _Unusable(Exception):
    def __init__(self, problem: str, node: Any) -> None:
        super().__init__(problem)
        self.mark = node.start_mark


_NULLS = ("", "~", "null", "Null", "NULL")
_TAGS = {
    "ScalarNode": ("null", "bool", "int", "float", "str", "timestamp", "value"),
    "SequenceNode": ("seq",),
    "MappingNode": ("map",),
}


class _Tree:
    """Nodes of YAML → plain objects. Aliases of aliases multiply, so nodes are counted."""

    def __init__(self) -> None:
        self._count = 0

    def value(self, node: Any, depth: int = 0) -> Any:
        self._count += 1
        if self._count > _MOST_NODES or depth > _DEEPEST:
            raise _Unusable("it is too large, or nested too deeply", node)
        kind, _, tag = node.tag.rpartition(":")
        if kind != "tag:yaml.org,2002" or tag not in _TAGS[type(node).__name__]:
            raise _Unusable(f"the tag {node.tag} is not allowed here", node)
        if tag == "seq":
            return [self.value(item, depth + 1) for item in node.value]
        if tag == "map":
            return self._mapping(node, depth + 1)
        if node.style is not None:
            return node.value
        return None if tag != "str" and node.value in _NULLS else Plain(node.value)

    def _mapping(self, node: Any, depth: int) -> dict[str, Any]:
        own: dict[str, Any] = {}
        merged: list[Any] = []
        for key, item in node.value:
            if not isinstance(key.value, str):
                raise _Unusable("a key is a list or an object; write a name", key)
            if key.value in own:
                raise _Unusable(f"{key.value} is given twice", key)
            value = self.value(item, depth)
            if key.tag.endswith(":merge"):
                merged += value if isinstance(value, list) else [value]
            else:
                own[key.value] = value
        for other in merged:
            if not isinstance(other, dict):
                raise _Unusable("<< needs an object", node)
            own = {**other, **own}
        return own


def as_data(value: object, depth: int = 0) -> object:
    """Return a value in whose place anything may stand, as an option of a gateway.

    A text without quotes is a number, true or false, or JSON, but only where no character of it
    is lost: 4 is a number, 1.10 and 007 are texts. Inside of lists and objects True is true.
    """
    if depth > _DEEPEST:
        return value
    if isinstance(value, Mapping):
        return {key: as_data(item, depth + 1) for key, item in value.items()}
    if isinstance(value, list):
        return [as_data(item, depth + 1) for item in value]
    if isinstance(value, Written):
        return float(value) if depth else value.text
    if not isinstance(value, Plain):
        return value
    if depth and value.lower() in ("true", "false"):
        return value.lower() == "true"
    try:
        data: object = json.loads(value)
    except (ValueError, RecursionError):
        return str(value)
    if isinstance(data, (int, float)) and abs(data) < 2**63:  # NaN is not
        return data if json.dumps(data) == value.strip() else str(value)
    return data if isinstance(data, (str, list, dict)) else str(value)
