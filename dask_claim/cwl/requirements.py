"""Requirements and hints in map or list form, and CWL's rule which of them holds for a tool."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
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
        if isinstance(content, Mapping):
            pairs = [(key, key, fields) for key, fields in content.items()]
        elif isinstance(content, list):
            items = [(index, item) for index, item in enumerate(content) if item]
            pairs = [
                (
                    index,
                    item.get("class", next(iter(item))),
                    {k: v for k, v in item.items() if k != "class"},
                )
                for index, item in items
                if isinstance(item, Mapping)
            ]
        else:
            reason = f"{section} is neither an object nor a list"
            raise CwlError([(document.place(at), reason)])
        for key, written, fields in pairs:
            where, fields = (*at, key), {} if fields is None else fields
            place = document.place(where)
            yield Entry(_kind(written), safe_text(written), fields, section, where, place)


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


def inserted(
    owner: Mapping[str, Any], key: str, value: Any, before: Collection[str]
) -> dict[str, Any]:
    """Return `owner` with this entry, a new one before the first of `before`."""
    if key in owner:
        return {**owner, key: value}
    first = next((name for name in owner if name in before), None)
    changed: dict[str, Any] = {}
    for name, item in owner.items():
        if name == first:
            changed[key] = value
        changed[name] = item
    return {**changed, key: value}


def with_requirement(owner: Mapping[str, Any], written: str, fields: Any) -> dict[str, Any]:
    """Return `owner` with this among its requirements, in the place of the one of that class.

    A new section has the form, object or list, that the hints have.
    """
    there, kind = owner.get("requirements"), _kind(written)
    if isinstance(there or owner.get("hints"), list):
        items = list(there or [])
        at = next((i for i, item in enumerate(items) if kind == _kind_of(item)), len(items))
        content: Any = [*items[:at], {"class": written, **fields}, *items[at + 1 :]]
    else:
        key = next((name for name in there or {} if _kind(name) == kind), written)
        content = {**(there or {}), key: fields}
    before = ("hints", "baseCommand", "arguments", "inputs", "in", "run", "outputs")
    return inserted(owner, "requirements", content, before)


def without_claims(owner: dict[str, Any]) -> dict[str, Any]:
    """Return a process or step without its claims, and without a section that is empty then."""
    for section in SECTIONS:
        content = owner.get(section)
        left: Any = None
        if isinstance(content, list):
            left = [item for item in content if _kind_of(item) != CLAIM]
        elif isinstance(content, Mapping):
            left = {key: item for key, item in content.items() if _kind(key) != CLAIM}
        if left is not None and len(left) < len(content or ()):
            owner = {**owner, section: left}
            if not left:
                del owner[section]
    return owner


def _kind_of(item: Any) -> str:
    return _kind(item.get("class")) if isinstance(item, Mapping) else ""
