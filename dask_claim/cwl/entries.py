"""What CWL has as an object or as a list: requirements, inputs, steps, variables."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def entries(value: Any, name: str) -> list[tuple[Any, str, Any]]:
    """The entries of such a value: (key or index, name, content).

    In a list the name is the content's own: its `name`, else its first key. Ids are without the
    file or process that they may begin with.
    """

    def last(text: Any) -> str:
        return str(text).rpartition("#")[2].rpartition("/")[2] if name == "id" else str(text)

    if isinstance(value, dict):
        return [(key, last(key), item) for key, item in value.items()]
    return [
        (index, last(item.get(name, next(iter(item)))), item)
        for index, item in enumerate(value if isinstance(value, list) else ())
        if isinstance(item, dict) and item
    ]


def with_entry(
    value: Any, name: str, entry: str, content: Mapping[str, Any], short: str = ""
) -> Any:
    """Return it with one more entry, or another in the place of the one so named.

    An object may have the entry's field `short` in place of the entry.
    """
    if not isinstance(value, list):
        return {**(value or {}), entry: content[short] if short else content}
    places = [index for index, its, _ in entries(value, name) if its == entry]
    there = places[0] if places else len(value)
    kept = [item for index, item in enumerate(value) if index not in places]
    return [*kept[:there], {name: entry, **content}, *kept[there:]]


def with_contents(value: Any, changed: Mapping[Any, Any]) -> Any:
    """Return it with other contents at some keys or indices."""
    if isinstance(value, dict):
        return {**value, **changed}
    return [changed.get(index, item) for index, item in enumerate(value)]


_ORDER = (
    *("requirements", "hints", "temporaryFailCodes", "permanentFailCodes"),
    *("baseCommand", "arguments", "inputs", "outputs"),
)


def insert(tool: Mapping[str, Any], key: str, value: Any) -> dict[str, Any]:
    """Return `tool` with this entry, a new one before those that commonly stand below it."""
    if key in tool:
        return {**tool, key: value}
    items, below = list(tool.items()), _ORDER[_ORDER.index(key) :]
    at = next((index for index, (name, _) in enumerate(items) if name in below), len(items))
    return dict([*items[:at], (key, value), *items[at:]])


SHARE_INPUT, SHARE_VARIABLE = "dask_claim_share", "DASK_CLAIM_SHARE"
"""The key of a shared cluster on its way to the tools: an input of the workflow and of each step.

A document cannot read the runner's own variables, and not every runner hands them on; an input it
has everywhere. Empty, as it is by default, it shares nothing.
"""

SHARE_VALUE = f"$(inputs.{SHARE_INPUT})"
_INPUT = {
    "type": "string",
    "default": "",
    "doc": "A key: steps with the same key and request use one Dask cluster",
}


def takes_share(owner: Any, section: str = "inputs") -> bool:
    """Whether a process has the input; with `in` whether a step hands it on."""
    content = owner.get(section) if isinstance(owner, dict) else None
    return any(name == SHARE_INPUT for _, name, _ in entries(content, "id"))


def with_share_input(process: dict[str, Any]) -> dict[str, Any]:
    """Return a tool or workflow with the input."""
    if takes_share(process):
        return process
    return insert(process, "inputs", with_entry(process.get("inputs"), "id", SHARE_INPUT, _INPUT))


def passing_share(step: dict[str, Any]) -> dict[str, Any]:
    """Return a step that hands the workflow's input on to what it runs."""
    if takes_share(step, "in"):
        return step
    given = with_entry(step.get("in"), "id", SHARE_INPUT, {"source": SHARE_INPUT}, "source")
    return {**step, "in": given}
