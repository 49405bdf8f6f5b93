"""The text of a YAML document with some of its values changed; all other text stays as it is."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import Any

from dask_claim.cwl.document import CwlError, Document, Place, is_alias, parse

_WORD = re.compile(
    r"(?!(?i:true|false|null|yes|no|on|off|y|n)$)(?:[A-Za-z_/$]|--|\.{1,2}/)[\w./@+:-]*(?<!:)"
)
"""A text that YAML reads as itself without quotes, also in a list on one line."""


def edit(document: Document, root: Any, warn: Callable[[str], None] = lambda text: None) -> str:
    """Return the document's text with `root` in place of its value.

    Where that takes more than edits (an anchor's value changes, but not that of its alias), the
    document is written anew below its first lines; `warn` is called. Raises CwlError.
    """
    text = _Edits(document.text).made(document.node, document.root, root)
    if _reads_as(text, root):
        return text
    head = document.text[: document.node.start_mark.index]
    text = head + "\n".join(_lines(_pairs(root))) + "\n"
    if not _reads_as(text, root):
        reason = "has a value that cannot be written anew; take it out of the document's anchors"
        raise CwlError([(Place(document.name), reason)])
    warn(f"{document.name}: written anew without its comments: an anchor's value changes")
    return text


def _reads_as(text: str, root: Any) -> bool:
    try:
        return _same(parse(text, "")[1], root)
    except CwlError:  # an alias is left whose anchor is gone
        return False


@dataclass(frozen=True)
class _Entry:
    """One entry of an object or list in block style, with its place in the text.

    `name`: the key or index, None for `<<`; `start`, `column`: of the key, or of a list's dash;
    `head`: after the colon or dash; `end`: after the value, before a comment.
    """

    name: Any
    node: Any
    start: int
    column: int
    head: int
    end: int


def _entries(node: Any, text: str) -> list[_Entry]:
    entries = []
    if node.tag.endswith(":map"):
        for key, item in node.value:
            name = None if key.tag.endswith(":merge") else str(key.value)
            mark, head = key.start_mark, text.find(":", key.end_mark.index) + 1
            end = max(head, _end(item, text))
            if item.value == "" and not item.style and not is_alias(item):
                end = head  # nothing stands there, and its mark is that of the next key
            entries.append(_Entry(name, item, mark.index, mark.column, head, end))
        return entries
    column = node.start_mark.column
    for index, item in enumerate(node.value):
        start = text.rfind("\n", 0, item.start_mark.index + 1) + 1 + column
        while text[start : start + 1] != "-":  # the value stands on a line below its dash
            start = text.rfind("\n", 0, start - column - 1) + 1 + column
        entries.append(_Entry(index, item, start, column, start + 1, _end(item, text)))
    return entries


def _end(node: Any, text: str) -> int:
    if isinstance(node.value, list) and not node.flow_style and not is_alias(node):
        return _entries(node, text)[-1].end
    end: int = node.end_mark.index
    # A block of text ends with the line breaks behind it.
    return len(text[:end].rstrip()) if getattr(node, "style", None) in ("|", ">") else end


class _Edits:
    def __init__(self, text: str) -> None:
        self._text = text
        self._edits: list[tuple[int, int, str]] = []

    def made(self, node: Any, old: Any, new: Any) -> str:
        self._change(_Entry("", node, 0, 0, 0, len(self._text)), old, new)
        pieces, index = [], 0
        for start, end, text in sorted(self._edits, key=lambda edit: edit[:2]):
            pieces += [self._text[index:start], text]
            index = max(index, end)
        return "".join(pieces) + self._text[index:]

    def _change(self, entry: _Entry, old: Any, new: Any) -> None:
        """Record what changes in the value of an entry."""
        node = entry.node
        if _same(old, new):
            return
        alike = type(old) is type(new) and isinstance(new, (dict, list)) and new
        if is_alias(node) or not alike or not old or node.flow_style:
            self._replace(entry, new)
            return
        entries, kept = _entries(node, self._text), _matched(old, new)
        # What `<<` brings stays; where it is to change, the result reads as something else.
        stay = [each for each in entries if each.name is None or each.name in kept.values()]
        if stay:
            self._remove(entries, stay)
            self._put(stay, kept, old, new)
        else:
            start, column = self._above(entries[0].start), entries[0].column
            text = " " * column if start < entries[0].start else ""
            text += _indented(_lines(_pairs(new)), column)
            self._edits.append((start, self._line_end(entries[-1].end), text))

    def _put(self, stay: list[_Entry], kept: dict[Any, Any], old: Any, new: Any) -> None:
        """Insert the new entries among those that stay, and change those."""
        own = {each.name: each for each in stay}
        previous: _Entry | None = None
        waiting: list[tuple[Any, Any]] = []
        names = new if isinstance(new, dict) else range(len(new))
        for name, (key, value) in zip(names, _pairs(new), strict=True):
            if name not in kept:
                waiting.append((key, value))
            elif entry := own.get(kept[name]):
                self._insert(previous, entry, waiting)
                self._change(entry, old[entry.name], value)
                waiting, previous = [], entry
        self._insert(previous or stay[-1], stay[0], waiting)

    def _insert(
        self, previous: _Entry | None, following: _Entry, new: list[tuple[Any, Any]]
    ) -> None:
        if not new:
            return
        pad = " " * following.column
        text = _indented(_lines(new), following.column)
        start = self._line_end(previous.end) if previous else self._above(following.start)
        if previous:
            text = f"\n{pad}{text}"
        else:
            text = f"{text}\n{pad}" if start == following.start else f"{pad}{text}\n"
        self._edits.append((start, start, text))

    def _remove(self, entries: list[_Entry], stay: list[_Entry]) -> None:
        """Remove what does not stay, with the comment right above it."""
        for number, entry in enumerate(entries):
            if entry in stay:
                continue
            start, end = self._above(entry.start) - 1, self._line_end(entry.end)
            if start == entry.start - 1 and entry.column:  # it stands behind a dash
                start, end = entry.start, entries[number + 1].start
            self._edits.append((max(0, start), end, ""))

    def _replace(self, entry: _Entry, new: Any) -> None:
        lines = _entry("-" if isinstance(entry.name, int) else ":", new)
        end = entry.end if len(lines) == 1 else self._line_end(entry.end)
        lines[0] += self._text[entry.end : end]  # the comment
        self._edits.append((entry.head, end, _indented(lines, entry.column)[1:]))

    def _line_end(self, index: int) -> int:
        """The end of the line, where a comment behind a value may stand."""
        return f"{self._text}\n".index("\n", index)

    def _above(self, index: int) -> int:
        """The start of the line of an entry, or of the comment right above it.

        `index` itself where something else stands before the entry on its line.
        """
        start = self._text.rfind("\n", 0, index) + 1
        if self._text[start:index].strip():
            return index
        while start:
            line = self._text.rfind("\n", 0, start - 1) + 1
            if not self._text[line:start].lstrip().startswith("#"):
                break
            start = line
        return start


def _same(one: Any, other: Any) -> bool:
    """Whether CWL reads two values alike: true is not 1, the order of keys does not count."""
    return one is other or json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)


def _matched(old: Any, new: Any) -> dict[Any, Any]:
    """Which entry of `new` is which one of `old`."""
    if isinstance(new, dict):
        return {name: name for name in new if name in old}
    one, other = ([_label(item) for item in items] for items in (old, new))
    return {
        block.b + offset: block.a + offset
        for block in SequenceMatcher(None, one, other, autojunk=False).get_matching_blocks()
        for offset in range(block.size)
    }


def _label(item: Any) -> str:
    for key in ("id", "class", "envName") if isinstance(item, dict) else ():
        if key in item:
            return f"{key} {item[key]}"
    return json.dumps(item, sort_keys=True)


def _pairs(value: Any) -> list[tuple[str | None, Any]]:
    return list(value.items()) if isinstance(value, dict) else [(None, item) for item in value]


def _lines(pairs: Iterable[tuple[str | None, Any]]) -> list[str]:
    """The lines of new entries, keys or dashes first."""
    return [
        line
        for name, value in pairs
        for line in _entry("-" if name is None else f"{_inline(name)}:", value)
    ]


def _indented(lines: list[str], column: int) -> str:
    """The lines as one text, all but the first indented."""
    return "\n".join(" " * column * (i > 0) + line if line else "" for i, line in enumerate(lines))


def _entry(head: str, value: Any) -> list[str]:
    if isinstance(value, str) and "\n" in value and value.replace("\n", "").isprintable():
        indent = "2" if value[0] in " \n" else ""
        keep = "-" if value[-1] != "\n" else "+" if value[-2:] in ("\n", "\n\n") else ""
        inner = value.removesuffix("\n").split("\n")
        return [f"{head} |{indent}{keep}", *(f"  {line}" if line else "" for line in inner)]
    flat = isinstance(value, list) and not any(isinstance(item, (dict, list)) for item in value)
    if not value or flat or not isinstance(value, (dict, list)):
        return [f"{head} {_inline(value)}"]
    lines = [f"  {line}" if line else "" for line in _lines(_pairs(value))]
    return [f"- {lines[0][2:]}", *lines[1:]] if head == "-" else [head, *lines]


def _inline(value: Any) -> str:
    if isinstance(value, (dict, list)):
        parts = ((f"{_inline(name)}: " if name else "", item) for name, item in _pairs(value))
        inner = ", ".join(head + _inline(item) for head, item in parts)
        return f"{{{inner}}}" if isinstance(value, dict) else f"[{inner}]"
    if isinstance(value, str) and _WORD.fullmatch(value):
        return value
    return json.dumps(value, ensure_ascii=not str(value).isprintable())
