"""A CWL file as data: its values, the line of each, and the files it refers to."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable
from copy import copy
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from dask_claim.claim.texts import Plain
from dask_claim.errors import ConfigurationError

VERSIONS = ("v1.0", "v1.1", "v1.2")

Keys = tuple[str | int, ...]
"""The way to a value from the root: keys of objects, indices of lists."""

_MOST_NODES = 500_000
"""Aliases of aliases multiply; no document written by hand has as many parts."""


@dataclass(frozen=True)
class Place:
    """A line of a file, counted from 1; 0 for the file as a whole."""

    file: str
    line: int = 0

    def __str__(self) -> str:
        return f"{self.file}:{self.line}" if self.line else self.file


@dataclass(frozen=True)
class Finding:
    """One thing that is, or may go, wrong."""

    level: str
    """`error`: it does not work; `warning`: it does not do what was meant somewhere."""

    place: Place
    text: str


class CwlError(ConfigurationError):
    """A document cannot be translated. Carries every fault (status 78)."""

    def __init__(self, faults: Iterable[tuple[Place, str]]) -> None:
        # A tool is looked at once for each step that runs it.
        self.faults = tuple(dict.fromkeys(faults))
        super().__init__(self.faults)

    def __str__(self) -> str:
        return "\n".join(f"{place}: {reason}" for place, reason in self.faults)


class Values:
    """The node of a YAML document → its value, in types of JSON; keys are texts."""

    def __init__(self, node: Any) -> None:
        self.lines: dict[Keys, int] = {(): node.start_mark.line}
        """The line on which each entry begins, counted from 0."""

        self.plain: dict[Keys, str] = {}
        """What stands there without quotes, as it was written."""

        self._count = 0
        self.root = self._value(node, ())

    def _value(self, node: Any, keys: Keys) -> Any:
        self._count += 1
        if self._count > _MOST_NODES:
            raise ValueError("it has too many parts")
        if isinstance(node.value, str):
            return self._scalar(node, keys)
        if node.tag.endswith(":map"):
            return self._mapping(node, keys)
        items = [((*keys, index), item) for index, item in enumerate(node.value)]
        self.lines |= {at: item.start_mark.line for at, item in items}
        return [self._value(item, at) for at, item in items]

    def _scalar(self, node: Any, keys: Keys) -> Any:
        self.plain.pop(keys, None)
        if node.style is not None:
            return node.value
        typed = node.tag.rpartition(":")[2] in ("int", "float", "bool", "null")
        value = _yaml().constructor.construct_object(node) if typed else node.value
        if value is not None:
            self.plain[keys] = node.value
        return value

    def _mapping(self, node: Any, keys: Keys) -> dict[str, Any]:
        from ruamel.yaml.constructor import DuplicateKeyError

        values: dict[str, Any] = {}
        # The object's own entries win over merged ones, and those over what is merged later.
        merges = [item for key, item in node.value if key.tag.endswith(":merge")]
        for item in reversed(merges):
            for other in reversed(item.value) if item.tag.endswith(":seq") else [item]:
                if not isinstance(merged := self._value(other, keys), dict):
                    raise ValueError("<< needs an object")
                values |= merged
        own = set[str]()
        for key, item in node.value:
            name, at = str(key.value), (*keys, str(key.value))
            if name in own:
                raise DuplicateKeyError(None, None, f"duplicate key {name}", key.start_mark)
            if not key.tag.endswith(":merge"):
                own.add(name)
                self.lines[at] = key.start_mark.line
                values[name] = self._value(item, at)
        return values


@dataclass(frozen=True)
class Document:
    """One file. Its values are never changed in place."""

    name: str
    """As the user named it, for messages."""

    path: Path
    text: str
    node: Any
    """The YAML node of the whole, with the marks of each part."""

    values: Values

    @property
    def root(self) -> Any:
        return self.values.root

    @property
    def version(self) -> str:
        return str(self.root.get("cwlVersion", ""))

    def place(self, keys: Keys = ()) -> Place:
        """The line of the entry that `keys` lead to, or of the innermost that is there."""
        lines = self.values.lines
        # Paths of faults have indices as texts: [0].
        indices = (re.fullmatch(r"\[(\d+)\]", str(key)) for key in keys)
        keys = tuple(int(i[1]) if i else key for i, key in zip(indices, keys, strict=True))
        while keys not in lines:
            keys = keys[:-1]
        return Place(self.name, lines[keys] + 1)

    def written(self, value: Any, keys: Keys) -> Any:
        """Return a value that is at `keys`, with what stands there without quotes as written."""
        if isinstance(value, dict):
            return {key: self.written(item, (*keys, key)) for key, item in value.items()}
        if isinstance(value, list):
            return [self.written(item, (*keys, index)) for index, item in enumerate(value)]
        return Plain(self.values.plain[keys]) if keys in self.values.plain else value

    def is_this(self, reference: str) -> bool:
        """Whether a reference is to this file, or to a part of it."""
        target = reference.partition("#")[0]
        return not target or (self.path.parent / target).resolve() == self.path


def read_document(name: str | Path) -> Document:
    """Read a CWL file by its name, which may end in `#id`; `-` is standard input.

    Raises CwlError.
    """
    name = str(name)
    if "://" in name:
        raise CwlError([(Place(name), "is a URL; download the file and name it")])
    path = Path(name if Path(name).exists() else name.partition("#")[0])
    try:
        text = sys.stdin.read() if name == "-" else path.read_text(encoding="utf-8-sig")
        if text.lstrip()[:1] == "{" and "\t" in text:
            # JSON may be indented with tabs, YAML may not.
            text = json.dumps(json.loads(text), indent=2, ensure_ascii=False)
    except json.JSONDecodeError as error:
        raise CwlError([(Place(name, error.lineno), error.msg)]) from None
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise CwlError([(Place(name), f"cannot be read: {reason}")]) from None
    node, values = parse(text, str(path))
    if values is None or not isinstance(values.root, dict):
        raise CwlError([(Place(name), "is not a CWL document: no object with a cwlVersion")])
    document = Document(str(path), path.resolve(), text, node, values)
    version = values.root.get("cwlVersion")
    if version not in VERSIONS:
        reason = f"has {f'cwlVersion {version}' if version else 'no cwlVersion'}"
        place = document.place(("cwlVersion",))
        raise CwlError([(place, f"{reason}; dask-claim reads {', '.join(VERSIONS)}")])
    return document


def parse(text: str, name: str) -> tuple[Any, Values | None]:
    """The YAML node of a text, and its values. The node of an alias has the alias's marks.

    Raises CwlError.
    """
    from ruamel.yaml.error import MarkedYAMLError, YAMLError

    try:
        node = _yaml().compose(text)
        return node, None if node is None else Values(node)
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        reason = " ".join(str(error.problem or error.context).split())
        raise CwlError([(Place(name, mark.line + 1 if mark else 0), reason)]) from None
    except (YAMLError, ValueError, RecursionError) as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise CwlError([(Place(name), f"is neither YAML nor JSON: {reason}")]) from None


@cache
def _yaml() -> Any:
    from ruamel.yaml import YAML
    from ruamel.yaml.composer import Composer
    from ruamel.yaml.events import AliasEvent

    class MarkingComposer(Composer):
        def compose_node(self, parent: Any, index: int) -> Any:
            event = self.parser.peek_event()
            node = super().compose_node(parent, index)
            if isinstance(event, AliasEvent):
                node = copy(node)
                node.start_mark, node.end_mark = event.start_mark, event.end_mark
                node.comment = AliasEvent
            return node

    yaml = YAML(typ="safe", pure=True)
    yaml.Composer = MarkingComposer
    return yaml


def is_alias(node: Any) -> bool:
    return isinstance(node.comment, type)
