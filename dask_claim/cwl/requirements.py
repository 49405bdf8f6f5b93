"""Requirements and hints in map or list form, and CWL's rule which of them holds for a tool."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from dask_claim.claim.spellings import plain_name, safe_text
from dask_claim.cwl import comments
from dask_claim.cwl.document import Place, line_at, line_of

CLAIM = "daskgatewayrequirement"
ENV = "envvarrequirement"
DOCKER = "dockerrequirement"
NETWORK = "networkaccess"
SCRIPT = "inlinejavascriptrequirement"
SHELL = "shellcommandrequirement"
RESOURCES = "resourcerequirement"

_INHERITED = (CLAIM, ENV, DOCKER, NETWORK, SCRIPT, SHELL, RESOURCES)


@dataclass(frozen=True)
class Entry:
    """One requirement or hint as it stands in a document."""

    kind: str
    """Its class in lower case, without namespace."""

    written: str
    """Its class as written."""

    content: Any
    """Its fields; a list's entry also has `class` among them."""

    owner: Any
    """The tool, step or workflow that has it."""

    section: str
    """`requirements` or `hints`."""

    key: object
    """Where it is in that section: a class, or an index."""

    file: str

    @property
    def place(self) -> Place:
        section = self.owner.get(self.section)
        return Place(self.file, line_of(section, self.key) or line_of(self.content))

    def at(self, path: str) -> Place:
        """Where a field of it stands, by the path a fault has."""
        return Place(self.file, line_at(self.content, path) if path else self.place.line)

    def fields(self) -> dict[Any, Any]:
        if not isinstance(self.content, Mapping):
            return {}
        return {key: item for key, item in self.content.items() if key != "class"}


def entries(owner: Any, section: str, file: str) -> Iterator[Entry]:
    """All entries of one section of a tool, step or workflow."""
    found = owner.get(section) if isinstance(owner, Mapping) else None
    if isinstance(found, Mapping):
        for key, content in found.items():
            content = {} if content is None else content
            yield Entry(_kind(key), safe_text(key), content, owner, section, key, file)
    elif isinstance(found, list):
        for index, content in enumerate(found):
            if isinstance(content, Mapping) and "class" in content:
                written = content["class"]
                kind = _kind(written)
                yield Entry(kind, safe_text(written), content, owner, section, index, file)


def _kind(written: object) -> str:
    # Calrissian's own module name may be part of it: calrissian.DaskGatewayRequirement.
    plain = plain_name(written).rpartition(".")[2]
    return CLAIM if plain.endswith(CLAIM) else plain


@dataclass(frozen=True)
class Scope:
    """What a process finds required around it: workflows and steps, outermost first."""

    levels: tuple[tuple[Entry, ...], ...] = ()

    def within(self, owner: Any, file: str) -> Scope:
        """The scope inside `owner`."""
        found = (*entries(owner, "requirements", file), *entries(owner, "hints", file))
        return Scope((*self.levels, found))

    def effective(self, kind: str, section: str | None = None) -> Entry | None:
        """The entry that holds: any requirement before any hint, the innermost first."""
        for wanted in ("requirements", "hints") if section is None else (section,):
            for level in reversed(self.levels):
                for entry in level:
                    if entry.kind == kind and entry.section == wanted:
                        return entry
        return None

    def key(self) -> tuple[int, ...]:
        """Equal for scopes that give what they surround the same."""
        found = (
            self.effective(kind, at) for kind in _INHERITED for at in ("requirements", "hints")
        )
        return tuple(id(entry.content) if entry else 0 for entry in found)


_BEFORE = {
    "requirements": ("hints", "baseCommand", "arguments", "inputs", "in", "run", "outputs"),
    "hints": ("baseCommand", "arguments", "inputs", "in", "run", "outputs", "steps"),
}
"""Before which keys of a process or step a new section goes."""


def put(owner: Any, section: str, written: str, fields: Mapping[str, Any]) -> Any:
    """Add a new entry in the form that the section, or else the other one, has; return it."""
    other = owner.get("hints" if section == "requirements" else "requirements")
    listed = isinstance(owner.get(section) or other, list)
    content = comments.made({"class": written, **fields} if listed else dict(fields))
    _add(owner, section, written, content, listed)
    return content


def demote(owner: Any) -> None:
    """Make each claim among the requirements of `owner` a hint, which every runner accepts."""
    for entry in list(entries(owner, "requirements", "")):
        if entry.kind != CLAIM:
            continue
        required = owner["requirements"]
        key = entry.key
        if isinstance(required, list):
            key = next(i for i, item in enumerate(required) if item is entry.content)
        content, lead = comments.take(required, key)
        listed = isinstance(owner.get("hints") or required, list)
        if not required:
            comments.take(owner, "requirements")
        if content is None:
            content = comments.made({})
        if listed and "class" not in content:
            comments.insert(content, 0, "class", entry.written)
        elif not listed and "class" in content:
            comments.take(content, "class")
        for old in list(entries(owner, "hints", "")):
            if old.kind == CLAIM:
                comments.take(owner["hints"], old.key)
        _add(owner, "hints", entry.written, content, listed, lead)


def drop(owner: Any) -> None:
    """Remove the claims of `owner`, whether required or hinted at."""
    for section in ("hints", "requirements"):
        for entry in reversed(list(entries(owner, section, ""))):
            if entry.kind == CLAIM:
                comments.take(owner[section], entry.key)
                if not owner[section]:
                    comments.take(owner, section)


def _add(
    owner: Any, section: str, written: str, content: Any, listed: bool, lead: str = ""
) -> None:
    found = owner.get(section)
    if found:
        comments.append(found, written, content, lead)
        return
    if section in owner:
        comments.take(owner, section)
    index = next((i for i, key in enumerate(owner) if key in _BEFORE[section]), len(owner))
    new = comments.made([] if listed else {})
    new.fa.set_block_style()
    comments.append(new, written, content, lead)
    comments.insert(owner, index, section, new)
