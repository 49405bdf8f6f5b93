"""The files of a CWL document: what `run`, `$import` and the like refer to."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from dask_claim.cwl.document import CwlError, Document, Place, parse, read_document


class Library:
    """Reads each file once; finds processes by what a `run` says."""

    def __init__(self) -> None:
        self._documents: dict[Path, Document] = {}

    def open(self, path: Path, name: str | None = None) -> Document:
        """Read a file. What it refers to is relative to the folder of the file opened first."""
        path = path.resolve()
        if path not in self._documents:
            document = read_document(path, name)
            _expand(document.root, document, 0)
            first = next(iter(self._documents.values()), document)
            rebase(document.root, document.folder, first.folder)
            document.folder = first.folder
            self._documents[path] = document
        return self._documents[path]

    def find(self, run: str, home: Document, place: Place) -> tuple[Any, Document] | None:
        """Return the process that a `run` in `home` names; None where it is not on this machine."""
        target, _, fragment = run.partition("#")
        path = local_path(target, home.folder)
        if path is None:
            return None
        document = home
        if target:
            if not path.exists():
                raise CwlError([(place, f"run: {run} is not there")])
            document = self.open(path, os.path.relpath(path))
        process = process_named(document, fragment)
        if process is None:
            raise CwlError([(place, f"run: {run} names no process of {document.name}")])
        return process, document


def processes(document: Document) -> list[Any]:
    """The processes of a file, those within steps apart."""
    graph = document.root.get("$graph")
    if isinstance(graph, list):
        return [item for item in graph if isinstance(item, Mapping)]
    return [document.root]


def process_named(document: Document, fragment: str) -> Any:
    """The process with this id; without one, the only one or `main`."""
    found = processes(document)
    if "$graph" not in document.root and (not fragment or _id(found[0]) in ("", fragment)):
        return found[0]
    wanted = fragment.lstrip("/") or "main"
    return next((item for item in found if _id(item) == wanted), None)


def _id(process: Mapping[str, Any]) -> str:
    return str(process.get("id", "")).rpartition("#")[2]


def local_path(reference: str, folder: Path) -> Path | None:
    """The path that a reference means; None for a URL."""
    split = urlsplit(reference)
    if split.scheme == "file":
        return Path(unquote(split.path))
    if split.scheme and len(split.scheme) > 1:
        return None
    return folder / unquote(reference) if reference else folder


def rebase(node: Any, old: Path, new: Path) -> None:
    """Make all relative references of a tree hold from another folder."""
    if old == new:
        return
    for owner, key in _references(node):
        reference = str(owner[key])
        target, hash_sign, fragment = reference.partition("#")
        if target and not urlsplit(target).scheme and not target.startswith("/"):
            path = os.path.relpath(old / target, new)
            owner[key] = f"{path}{hash_sign}{fragment}"


_SAYS = re.compile(r"\$(?:import|include|mixin)|run")


def _references(node: Any) -> Iterator[tuple[Any, Any]]:
    """Places (owner, key) in which a tree names another file."""
    if isinstance(node, list):
        for item in node:
            yield from _references(item)
    if not isinstance(node, Mapping):
        return
    is_file = node.get("class") in ("File", "Directory")
    for key, value in node.items():
        if isinstance(value, str):
            named = _SAYS.fullmatch(str(key)) or (is_file and key in ("location", "path"))
            if named and "$(" not in value and "${" not in value:
                yield node, key
        elif key == "$schemas" and isinstance(value, list):
            yield from ((value, index) for index, item in enumerate(value) if isinstance(item, str))
        else:
            yield from _references(value)


def _expand(node: Any, document: Document, depth: int) -> None:
    """Put in what is imported where a claim may stand: in graphs, requirements, hints and steps."""
    if depth > 40:
        raise CwlError([(document.place(node), "imports itself, or is nested too deeply")])
    if isinstance(node, list):
        for item in node:
            _expand(item, document, depth + 1)
    if not isinstance(node, dict):
        return
    for key in list(node):
        value = node[key]
        if key in ("requirements", "hints", "$graph", "steps", "run"):
            if _is_import(value):
                node[key] = value = _imported(value, document, depth)
            if isinstance(value, list):
                for index, item in enumerate(value):
                    if _is_import(item):
                        value[index] = _imported(item, document, depth)
        _expand(value, document, depth + 1)


def _is_import(value: Any) -> bool:
    return isinstance(value, Mapping) and list(value) == ["$import"]


def _imported(node: Any, document: Document, depth: int) -> Any:
    place = document.place(node, "$import")
    path = local_path(str(node["$import"]), document.folder)
    if path is None:
        raise CwlError([(place, f"$import: {node['$import']} is not on this machine")])
    try:
        content = parse(path.read_text(encoding="utf-8"), os.path.relpath(path))
    except OSError as error:
        reason = f"$import: {node['$import']} cannot be read: {error.strerror}"
        raise CwlError([(place, reason)]) from None
    folder = path.resolve().parent
    _expand(content, Document(folder, os.path.relpath(path), {}, False), depth + 1)
    rebase(content, folder, document.folder)
    _at(content, place.line)
    return content


def _at(node: Any, line: int) -> None:
    """Let faults in something imported point to the line that imports it."""
    position = getattr(node, "lc", None)
    if position is not None:
        position.line, position.data = line - 1, {}
    parts = node.values() if isinstance(node, Mapping) else node
    for part in parts if isinstance(node, (Mapping, list)) else ():
        _at(part, line)
