"""A CWL file as data: its values, the line of each, and the files it refers to."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping
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


class CwlError(ConfigurationError):
    """A document cannot be translated. Carries every fault (status 78)."""

    def __init__(self, faults: Iterable[tuple[Place, str]]) -> None:
        # A tool is looked at once for each step that runs it.
        self.faults = tuple(dict.fromkeys(faults))
        super().__init__(self.faults)

    def __str__(self) -> str:
        return "\n".join(f"{place}: {reason}" for place, reason in self.faults)


@dataclass(frozen=True)
class Document:
    """One file. Its values are never changed in place."""

    name: str
    """As the user named it, for messages."""

    path: Path
    text: str
    node: Any
    """The YAML node of the whole, with the marks of each part."""

    root: Any

    @property
    def version(self) -> str:
        return str(self.root.get("cwlVersion", ""))

    def place(self, keys: Keys = ()) -> Place:
        """The line of the entry that `keys` lead to, or of the innermost that is there."""
        node, line = self.node, self.node.start_mark.line
        for key in keys:
            if (entry := _entry(node, key)) is None:
                break
            line, node = entry[0].start_mark.line, entry[1]
        return Place(self.name, line + 1)

    def written(self, keys: Keys) -> Any:
        """The value at `keys`, with what stands there without quotes as it was written."""
        node = self.node
        for key in keys:
            node = (_entry(node, key) or (None, node))[1]
        return _Values(written=True).of(node)

    def is_this(self, reference: str) -> bool:
        """Whether a reference is to this file, or to a part of it."""
        target = reference.partition("#")[0]
        return not target or (self.path.parent / target).resolve() == self.path


def entries(value: Any, name: str) -> list[tuple[Any, str, Any]]:
    """The entries of what CWL has as an object or as a list: (key or index, name, content).

    In a list the name is the content's own: its `name`, else its first key. Ids are without the
    file or process that they may begin with.
    """
    if isinstance(value, dict):
        return [(key, _last(key, name), item) for key, item in value.items()]
    return [
        (index, _last(item.get(name, next(iter(item))), name), item)
        for index, item in enumerate(value if isinstance(value, list) else ())
        if isinstance(item, dict) and item
    ]


def _last(text: Any, name: str) -> str:
    return str(text).rpartition("#")[2].rpartition("/")[2] if name == "id" else str(text)


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
    node, root = parse(text, str(path))
    if not isinstance(root, Mapping):
        raise CwlError([(Place(name), "is not a CWL document: no object with a cwlVersion")])
    version = root.get("cwlVersion")
    document = Document(str(path), path.resolve(), text, node, root)
    if version not in VERSIONS:
        reason = f"has {f'cwlVersion {version}' if version else 'no cwlVersion'}"
        place = document.place(("cwlVersion",))
        raise CwlError([(place, f"{reason}; dask-claim reads {', '.join(VERSIONS)}")])
    return document


def parse(text: str, name: str) -> tuple[Any, Any]:
    """The YAML node of a text, and its value. The node of an alias has the alias's marks.

    Raises CwlError.
    """
    from ruamel.yaml.error import MarkedYAMLError, YAMLError

    try:
        node = _yaml().compose(text)
        return node, None if node is None else _Values().of(node)
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


class _Values:
    """YAML nodes → Python's own types, fit for JSON. Keys are texts.

    `written` leaves what stands without quotes as it was written (`Plain`), or None.
    """

    def __init__(self, written: bool = False) -> None:
        self._written = written
        self._count = 0

    def of(self, node: Any) -> Any:
        self._count += 1
        if self._count > _MOST_NODES:
            raise ValueError("it has too many parts")
        if isinstance(node.value, str):
            return self._scalar(node)
        if node.tag.endswith(":map"):
            return self._mapping(node)
        return [self.of(item) for item in node.value]

    def _scalar(self, node: Any) -> Any:
        if node.style is not None:
            return node.value
        typed = node.tag.rpartition(":")[2] in ("int", "float", "bool", "null")
        value = _yaml().constructor.construct_object(node) if typed else node.value
        return Plain(node.value) if self._written and value is not None else value

    def _mapping(self, node: Any) -> dict[str, Any]:
        from ruamel.yaml.constructor import DuplicateKeyError

        values: dict[str, Any] = {}
        merged: dict[str, Any] = {}
        for key, item in node.value:
            name, value = str(key.value), self.of(item)
            if key.tag.endswith(":merge"):
                for other in value if isinstance(value, list) else [value]:
                    merged = {**other, **merged}
            elif name in values:
                problem = f"duplicate key {name}"
                raise DuplicateKeyError(None, None, problem, key.start_mark)
            else:
                values[name] = value
        return {**merged, **values}


def _entry(node: Any, key: str | int) -> tuple[Any, Any] | None:
    """The node that an entry begins with, and that of its value."""
    if isinstance(node.value, str):
        return None
    if not node.tag.endswith(":map"):
        # Paths of faults have indices as texts: [0].
        index = key if isinstance(key, int) else int(f"0{key.strip('[]')}", 10)
        return (node.value[index],) * 2 if index < len(node.value) else None
    for name, item in node.value:
        if str(name.value) == str(key):
            return name, item
    merged = (item for name, item in node.value if name.tag.endswith(":merge"))
    return next((entry for item in merged if (entry := _entry(item, key))), None)
