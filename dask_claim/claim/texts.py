"""Texts that nobody vouches for → plain objects, or faults that say where the text is broken."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from typing import Any

from dask_claim.errors import Fault

_LARGEST = 2**20
_EXAMPLE = 'write one JSON object, for example {"worker_cores": 1}'


def parse_json(text: str) -> tuple[object, list[Fault]]:
    """Return what a JSON text holds, and what is wrong with the text. Never raises."""
    if len(text) > _LARGEST:
        hint = f"is longer than {_LARGEST} characters; a claim is a few hundred"
        return None, [Fault("", None, hint)]
    try:
        raw = json.loads(text, object_pairs_hook=_Object)
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        return None, [Fault("", None, f"is not JSON: {error.msg} at {where}; {_EXAMPLE}")]
    except RecursionError:
        return None, [Fault("", None, f"is nested too deeply; {_EXAMPLE}")]
    except ValueError:
        return None, [Fault("", None, "holds a number of too many digits; write a smaller one")]
    hint = "is given twice in one object; keep one of them"
    return raw, [Fault(path, None, hint) for path in _twice(raw)]


class _Object(dict[str, object]):
    """A JSON object that knows which of its keys the text gave more than once."""

    def __init__(self, pairs: list[tuple[str, object]]) -> None:
        super().__init__(pairs)
        counts = Counter(key for key, _ in pairs)
        self.twice = [key for key, count in counts.items() if count > 1]


def _twice(raw: object) -> Iterator[str]:
    pending = [("", raw)]
    while pending:
        prefix, value = pending.pop()
        if isinstance(value, _Object):
            yield from (f"{prefix}{key}" for key in value.twice)
            pending += [(f"{prefix}{key}.", item) for key, item in value.items()]
        elif isinstance(value, list):
            pending += [(f"{prefix[:-1]}[{index}].", item) for index, item in enumerate(value)]


def parse_yaml(text: str) -> tuple[object, list[Fault]]:
    """Return what a YAML text holds, and what is wrong with the text."""
    import yaml  # only a site with such a file pays for it

    class Loader(yaml.SafeLoader):
        def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
            seen = set()
            for key, _ in node.value:
                if not isinstance(key, yaml.ScalarNode):
                    problem = "a key is a list or an object; write a name"
                    raise yaml.MarkedYAMLError(problem=problem, problem_mark=key.start_mark)
                if key.value in seen and key.value != "<<":
                    problem = f"{key.value} is given twice"
                    raise yaml.MarkedYAMLError(problem=problem, problem_mark=key.start_mark)
                seen.add(key.value)
            return super().construct_mapping(node, deep)

    try:
        return yaml.load(text, Loader), []  # a SafeLoader, no other
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f" at line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        return None, [Fault("", None, f"is not YAML of a claim: {error.problem}{where}")]
    # Values under a tag such as !!int '' fail in PyYAML itself in various ways.
    except (yaml.YAMLError, ValueError, LookupError, AttributeError, RecursionError) as error:
        problem = " ".join(str(error).split())
        return None, [Fault("", None, f"is not YAML of a claim: {problem}")]
