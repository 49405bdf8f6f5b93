"""Requirements and hints in map or list form, and CWL's rule which of them holds for a tool."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from dask_claim.claim.spellings import plain_name, safe_text
from dask_claim.cwl.document import CwlError, Document, Keys, Place

CLAIM = "daskgatewayrequirement"
ENV = "envvarrequirement"
DOCKER = "dockerrequirement"
NETWORK = "networkaccess"
SCRIPT = "inlinejavascriptrequirement"
SHELL = "shellcommandrequirement"
IMPORT = "$import"

SECTIONS = ("requirements", "hints")


@dataclass(frozen=True)
class Entry:
    """One requirement or hint as it stands in a document."""

    kind: str
    """Its class in lower case, without namespace."""

    written: str
    """Its class as written."""

    fields: Any
    """Its content, without `class`."""

    section: str
    """`requirements` or `hints`."""

    keys: Keys
    place: Place


def entries(owner: Any, keys: Keys, document: Document) -> Iterator[Entry]:
    """The requirements and hints of a tool, step or workflow. Raises CwlError."""
    for section in SECTIONS:
        at, content = (*keys, section), owner.get(section) or {}
        if not isinstance(content, (dict, list)):
            reason = f"{section} is neither an object nor a list"
            raise CwlError([(document.place(at), reason)])
        for key, written, item in _items(content):
            fields = {} if item is None else item
            if isinstance(content, list):
                fields = {name: value for name, value in item.items() if name != "class"}
            place = document.place((*at, key))
            yield Entry(_kind(written), safe_text(written), fields, section, (*at, key), place)


def _items(content: Any) -> list[tuple[str | int, Any, Any]]:
    """The key, class and content of each entry of a section, an object or a list."""
    if isinstance(content, dict):
        return [(name, name, item) for name, item in content.items()]
    return [
        (index, item.get("class", next(iter(item))), item)
        for index, item in enumerate(content or ())
        if isinstance(item, dict) and item
    ]


def _kind(written: object) -> str:
    # Calrissian's own module name may be part of it: calrissian.DaskGatewayRequirement.
    plain = plain_name(written).rpartition(".")[2]
    return CLAIM if plain.endswith(CLAIM) else plain


@dataclass(frozen=True)
class Scope:
    """What holds for a process: its own requirements and those around it, outermost first."""

    levels: tuple[tuple[Entry, ...], ...] = ()

    def within(self, owner: Any, keys: Keys, document: Document) -> Scope:
        return Scope((*self.levels, tuple(entries(owner, keys, document))))

    def effective(self, kind: str, *sections: str) -> Entry | None:
        """The entry that holds: any requirement before any hint, the innermost first."""
        for section in sections or SECTIONS:
            for level in reversed(self.levels):
                for entry in level:
                    if entry.kind == kind and entry.section == section:
                        return entry
        return None

    def fields(self, kind: str) -> Mapping[str, Any]:
        """The fields of the entry that holds; empty where there is none."""
        entry = self.effective(kind)
        return entry.fields if entry and isinstance(entry.fields, Mapping) else {}


_ORDER = (
    *("requirements", "hints", "temporaryFailCodes", "permanentFailCodes"),
    *("baseCommand", "arguments", "inputs", "outputs"),
)


def inserted(tool: Mapping[str, Any], key: str, value: Any) -> dict[str, Any]:
    """Return `tool` with this entry, a new one before those that commonly stand below it."""
    if key in tool:
        return {**tool, key: value}
    items, below = list(tool.items()), _ORDER[_ORDER.index(key) :]
    at = next((index for index, (name, _) in enumerate(items) if name in below), len(items))
    return dict([*items[:at], (key, value), *items[at:]])


def with_requirement(tool: Mapping[str, Any], written: str, fields: Any) -> dict[str, Any]:
    """Return `tool` with this among its requirements, in the place of the one of that class.

    A new section has the form, object or list, that the hints have.
    """
    content = tool.get("requirements")
    keys = [key for key, kind, _ in _items(content) if _kind(kind) == _kind(written)]
    if isinstance(content or tool.get("hints"), list):
        items = dict(enumerate(content or ()))
        items[int(keys[0]) if keys else len(items)] = {"class": written, **fields}
        return inserted(tool, "requirements", list(items.values()))
    return inserted(tool, "requirements", {**(content or {}), [*keys, written][0]: fields})


def without_claims(owner: dict[str, Any]) -> dict[str, Any]:
    """Return a process or step without its claims, and without a section that is empty then."""
    for section in SECTIONS:
        content = owner.get(section)
        claims = [key for key, kind, _ in _items(content) if _kind(kind) == CLAIM]
        left: Any = [item for index, item in enumerate(content or ()) if index not in claims]
        if isinstance(content, dict):
            left = {key: item for key, item in content.items() if key not in claims}
        if claims:
            owner = {name: left if name == section else owner[name] for name in owner}
        if claims and not left:
            del owner[section]
    return owner
