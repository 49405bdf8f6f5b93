"""A copy of a process for the one step that runs it."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from typing import Any

from dask_claim.cwl import comments
from dask_claim.cwl.document import CwlError, Document, Place
from dask_claim.cwl.walk import steps_of


def embed(process: Any, home: Document, document: Document, place: Place) -> Any:
    """Return a copy of `process`, of the file `home`, that can stand in a step of `document`."""
    copy = deepcopy(process)
    if home is not document:
        _share_namespaces(home, document, place)
    for key in ("cwlVersion", "$namespaces", "$schemas", "$graph"):
        if key in copy:
            comments.take(copy, key)
    _make_relative(copy)
    return copy


def _share_namespaces(home: Document, document: Document, place: Place) -> None:
    """Prefixes and schemas belong to the file as a whole."""
    for prefix, address in _mapping(home.root, "$namespaces").items():
        if "$namespaces" not in document.root:
            document.root["$namespaces"] = comments.made({})
        known = _mapping(document.root, "$namespaces")
        if known.setdefault(prefix, address) != address:
            reason = (
                f"{home.name} means {address} by the prefix {prefix}:, this file {known[prefix]}"
            )
            raise CwlError([(place, reason)])
    schemas = home.root.get("$schemas")
    for schema in schemas if isinstance(schemas, list) else []:
        known = document.root.setdefault("$schemas", comments.made([]))
        if isinstance(known, list) and schema not in known:
            known.append(schema)


def _mapping(root: Any, key: str) -> dict[Any, Any]:
    found = root.get(key)
    return found if isinstance(found, dict) else {}


def _make_relative(process: Any) -> None:
    """Drop the ids that hold for a whole file: `#tool/input` becomes `input`."""
    own = str(process.get("id", "")).rpartition("#")[2]
    if "id" in process:
        comments.take(process, "id")
    for section in ("inputs", "outputs", "steps"):
        _shorten_ids(process.get(section))
    if process.get("class") != "Workflow" or not own:
        return
    for item in _items(process.get("outputs")):
        _localise(item, "outputSource", own)
    for step in steps_of(process):
        for key in ("in", "out"):
            _shorten_ids(step.get(key))
        for item in _items(step.get("in")):
            _localise(item, "source", own)
        scatter = step.get("scatter")
        if isinstance(scatter, list):
            step["scatter"] = [_last(name) for name in scatter]
        elif scatter:
            step["scatter"] = _last(scatter)


def _shorten_ids(section: Any) -> None:
    if not isinstance(section, list):
        return
    for index, item in enumerate(section):
        if isinstance(item, Mapping) and "id" in item:
            item["id"] = _last(item["id"])  # type: ignore[index]
        elif isinstance(item, str):
            section[index] = _last(item)


def _localise(item: Any, key: str, own: str) -> None:
    value = item.get(key)
    if isinstance(value, str):
        item[key] = _local(value, own)
    elif isinstance(value, list):
        item[key] = [_local(source, own) for source in value]


def _local(source: Any, own: str) -> Any:
    return source.removeprefix(f"#{own}/") if isinstance(source, str) else source


def _last(name: Any) -> Any:
    return str(name).rpartition("#")[2].rpartition("/")[2] if str(name).startswith("#") else name


def _items(section: Any) -> list[Any]:
    found = section.values() if isinstance(section, Mapping) else section or []
    return [item for item in found if isinstance(item, Mapping)]
