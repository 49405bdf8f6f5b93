"""A CWL file as data: its values, the line of each, and the files it refers to."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from dask_claim.cwl.nodes import CwlError, Place, Values, entry_of, parse

VERSIONS = ("v1.0", "v1.1", "v1.2")

Keys = tuple[str | int, ...]
"""The way to a value from the root: keys of objects, indices of lists."""


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
            if (entry := entry_of(node, key)) is None:
                break
            line, node = entry[0].start_mark.line, entry[1]
        return Place(self.name, line + 1)

    def written(self, keys: Keys) -> Any:
        """The value at `keys`, with what stands there without quotes as it was written."""
        node = self.node
        for key in keys:
            node = (entry_of(node, key) or (None, node))[1]
        return Values(written=True).of(node)

    def is_this(self, reference: str) -> bool:
        """Whether a reference is to this file, or to a part of it."""
        target = reference.partition("#")[0]
        return not target or (self.path.parent / target).resolve() == self.path

    def rebased(self, root: Any, folder: Path) -> Any:
        """Return `root` with its relative references made to hold from another folder."""

        def moved(value: Any, key: str) -> Any:
            if isinstance(value, Mapping):
                return {name: moved(item, str(name)) for name, item in value.items()}
            if isinstance(value, list):
                return [moved(item, key) for item in value]
            target, hash_sign, fragment = str(value).partition("#")
            names_file = key in _REFERENCES or (hash_sign and (here / target).is_file())
            if not isinstance(value, str) or not target or not names_file:
                return value
            if "$(" in value or "${" in value or urlsplit(target).scheme:
                return value
            return f"{os.path.relpath(here / target, folder)}{hash_sign}{fragment}"

        here = self.path.parent
        return root if folder == here else moved(root, "")


_REFERENCES = ("run", "$import", "$include", "$mixin", "$schemas", "location", "path")


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
