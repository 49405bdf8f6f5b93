"""CWL files in and out: YAML or JSON, with comments, order and line numbers kept for faults."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterable, Mapping
from copy import deepcopy
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from dask_claim.claim.texts import Plain
from dask_claim.errors import ConfigurationError

VERSIONS = ("v1.0", "v1.1", "v1.2")

_MOST_NODES = 500_000
"""Aliases of aliases multiply; no document that somebody wrote has as many parts."""


@dataclass(frozen=True)
class Place:
    """A line of a file, counted from 1; 0 for the file as a whole."""

    file: str
    line: int = 0

    def __str__(self) -> str:
        return f"{self.file}:{self.line}" if self.line else self.file


class CwlError(ConfigurationError):
    """A document cannot be translated. Carries every fault that was found (status 78)."""

    def __init__(self, faults: Iterable[tuple[Place, str]]) -> None:
        # The same tool may have been looked at once for each step that runs it.
        self.faults = tuple(dict.fromkeys(faults))
        super().__init__(self.faults)

    def __str__(self) -> str:
        return "\n".join(f"{place}: {reason}" for place, reason in self.faults)


@dataclass
class Document:
    """One file, read."""

    folder: Path
    """Where its relative references start from."""

    name: str
    """As the user named it, for messages."""

    root: Any
    is_json: bool

    _indents: tuple[int, int, int] = (2, 4, 2)

    def place(self, node: Any, key: object = None) -> Place:
        return Place(self.name, line_of(node, key))

    @property
    def version(self) -> str:
        return str(self.root.get("cwlVersion", ""))

    def write(self, as_json: bool = False) -> str:
        """Return the text: JSON where the file was JSON or `as_json` says so, else YAML."""
        if as_json or self.is_json:
            return json.dumps(plain(self.root), indent=2, ensure_ascii=False) + "\n"
        yaml = _yaml()
        mapping, sequence, offset = self._indents
        yaml.indent(mapping=mapping, sequence=sequence, offset=offset)
        stream = io.StringIO()
        yaml.dump(self.root, stream)
        return stream.getvalue()


def read_document(path: Path, name: str | None = None) -> Document:
    """Read one CWL file. Raises CwlError."""
    name = name or str(path)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise CwlError([(Place(name), f"cannot be read: {reason}")]) from None
    is_json = text.lstrip()[:1] == "{"
    root = parse(text, name)
    if not isinstance(root, Mapping):
        raise CwlError([(Place(name), "is not a CWL document: no object with a cwlVersion")])
    return Document(path.resolve().parent, name, root, is_json, _guess_indents(text))


def parse(text: str, name: str) -> Any:
    """Parse YAML or JSON; no two places of the result share a part."""
    yaml = _yaml()
    from ruamel.yaml.error import MarkedYAMLError, YAMLError

    try:
        if text.lstrip()[:1] == "{" and "\t" in text:
            # JSON may be indented with tabs, YAML may not.
            text = json.dumps(json.loads(text), indent=2, ensure_ascii=False)
        return _unshared(yaml.load(text), set(), [0])
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        reason = " ".join(str(error.problem or error.context).split())
        raise CwlError([(Place(name, mark.line + 1 if mark else 0), reason)]) from None
    except json.JSONDecodeError as error:
        raise CwlError([(Place(name, error.lineno), error.msg)]) from None
    except (YAMLError, ValueError, RecursionError) as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise CwlError([(Place(name), f"is neither YAML nor JSON: {reason}")]) from None


def plain(value: Any) -> Any:
    """Return a deep copy made of Python's own types, fit for JSON."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if value is None or isinstance(value, bool):
        return value
    for kind in (str, int, float):
        if isinstance(value, kind):
            return kind(value)
    # YAML reads a boolean with an anchor, a date and others as types of its own.
    return bool(value) if type(value).__name__ == "ScalarBoolean" else str(value)


def as_written(value: Any) -> Any:
    """Like `plain`, but a scalar that JSON would write otherwise (1.10, 007, a date) is `Plain`."""
    if isinstance(value, Mapping):
        return {str(key): as_written(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [as_written(item) for item in value]
    simple = plain(value)
    if isinstance(value, str) or simple is None or isinstance(simple, bool):
        return simple
    text = getattr(value, "written", None)
    if text is None:
        stream = io.StringIO()
        _yaml().dump(value, stream)
        text = stream.getvalue().partition("\n")[0]
    return simple if text == json.dumps(simple) else Plain(text)


def line_of(node: Any, key: object = None) -> int:
    """Return the line, from 1, of a node as it was read, or of one of its entries; 0: unknown."""
    position = getattr(node, "lc", None)
    if position is None:
        return 0
    if key is not None:
        entry = (position.data or {}).get(key)
        if entry:
            return int(entry[0]) + 1
    return 0 if position.line is None else int(position.line) + 1


def line_at(node: Any, path: str) -> int:
    """Return the line of the entry that `path` (`options.queue`, `envDef[1]`) leads to."""
    line = line_of(node)
    while path:
        if isinstance(node, Mapping):
            found = [
                key for key in node if path == str(key) or path.startswith((f"{key}.", f"{key}["))
            ]
            if not found:
                return line
            key = max(found, key=lambda name: len(str(name)))
            line, node = line_of(node, key) or line, node[key]
            path = path[len(str(key)) :].lstrip(".")
        elif path.startswith("[") and isinstance(node, list):
            number, _, rest = path[1:].partition("]")
            if not number.isdigit() or int(number) >= len(node):
                return line
            line, node = line_of(node, int(number)) or line, node[int(number)]
            path = rest.lstrip(".")
        else:
            return line
    return line


def _yaml() -> Any:
    from ruamel.yaml import YAML

    yaml = YAML()
    yaml.Constructor = _constructor()
    yaml.preserve_quotes = True
    yaml.width = 4096
    return yaml


@cache
def _constructor() -> Any:
    from ruamel.yaml.constructor import RoundTripConstructor
    from ruamel.yaml.scalarfloat import ScalarFloat

    class Constructor(RoundTripConstructor):
        """Keeps the text of a number: one such as 12e4567 is infinite otherwise."""

        def construct_yaml_float(self, node: Any) -> Any:
            found = super().construct_yaml_float(node)
            if isinstance(found, ScalarFloat):
                found.written = node.value  # type: ignore[attr-defined]
            return found

    Constructor.add_constructor("tag:yaml.org,2002:float", Constructor.construct_yaml_float)
    return Constructor


def _unshared(node: Any, seen: set[int], count: list[int]) -> Any:
    """Give every alias its own copy, so that a change in one place changes no other."""
    if not isinstance(node, (dict, list)):
        return node
    count[0] += 1
    if count[0] > _MOST_NODES:
        raise ValueError("it has too many parts")
    if id(node) in seen:
        node = deepcopy(node)
    seen.add(id(node))
    if getattr(node, "merge", None):
        # `<<: *x` becomes the keys that it stands for.
        copied = {key: deepcopy(value) for key, value in node.items()}
        node.merge[:] = []
        for key, value in copied.items():
            node[key] = value
    if getattr(node, "anchor", None) is not None and node.anchor.value:
        node.yaml_set_anchor(None)
    for key in list(node) if isinstance(node, dict) else range(len(node)):
        part = _unshared(node[key], seen, count)
        if part is not node[key]:
            node[key] = part
    return node


def _guess_indents(text: str) -> tuple[int, int, int]:
    """Return the indents of mappings and of sequences, and the dash's offset, as ruamel wants."""
    step = re.search(r"^\S[^\n]*:[ ]*\n(?:[ ]*(?:#[^\n]*)?\n)*([ ]+)[^\s\-#]", text, re.MULTILINE)
    mapping = min(len(step[1]), 8) if step else 2
    dash = re.search(
        r"^([ ]*)(?:- )?[^\s#\-][^\n]*:[ ]*\n(?:[ ]*(?:#[^\n]*)?\n)*([ ]*)- ", text, re.MULTILINE
    )
    offset = max(0, min(len(dash[2]) - len(dash[1]), 8)) if dash else 2
    return mapping, offset + 2, offset
