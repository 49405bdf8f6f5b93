"""The text of a YAML document with some of its values changed; all other text stays as it is."""

from __future__ import annotations

import contextlib
import json
import re
from collections import Counter
from collections.abc import Callable, Iterable
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
    text, node = document.text, document.node
    if _same(document.root, root):
        return text
    with contextlib.suppress(ValueError, IndexError):  # a form of YAML that is not looked for
        begin, end = _above(_start(*_entries(node)[0], text), text), _end(None, node, text)
        made = text[:begin] + _edited(node, text, document.root, root) + text[end:]
        if _reads_as(made, root):
            return made
    made = text[: node.start_mark.index] + "\n".join(_lines(_pairs(root))) + "\n"
    if not _reads_as(made, root):
        reason = "has a value that cannot be written anew; take it out of the document's anchors"
        raise CwlError([(Place(document.name), reason)])
    warn(f"{document.name}: written anew without its comments: an anchor's value changes")
    return made


def _reads_as(text: str, root: Any) -> bool:
    try:
        values = parse(text, "")[1]
        return values is not None and _same(values.root, root)
    except CwlError:  # an alias is left whose anchor is gone
        return False


def _edited(node: Any, text: str, old: Any, new: Any) -> str:
    """Return the text of an object or list in block style with `new` in place of its value.

    Each entry is a piece of the text, from the comment right above it to the next piece. The new
    text has the old pieces, some changed, and new ones, in the order of `new`.
    """
    olds, news, entries = _named(old), _named(new), _entries(node)
    starts = [_start(*entry, text) for entry in entries]
    cuts = [_above(start, text) for start in starts]
    cuts.append(_end(None, node, text))
    column = starts[0] - text.rfind("\n", 0, starts[0]) - 1
    pad = " " * column
    # Where the first one stands behind a dash.
    before = pad if cuts[0] == starts[0] else ""
    pieces: dict[Any, str] = {}
    for number, (name, value) in enumerate(olds.items()):
        if name in news:
            cut, stop = cuts[number : number + 2]
            piece = text[cut:stop]
            if not _same(value, news[name]):
                piece = _changed(*entries[number], text, (cut, stop), column, value, news[name])
            pieces[name] = piece if number else before + piece
    made = ""
    for name, value in news.items():
        pair = (None if isinstance(new, list) else name, value)
        piece = pieces[name] if name in pieces else pad + _indented(_lines([pair]), column)
        made += piece if piece.endswith("\n") else f"{piece}\n"
    return made[len(before) : -1] if made.startswith(before) else made.lstrip(" ")[:-1]


def _changed(
    key: Any, node: Any, text: str, piece: tuple[int, int], column: int, old: Any, new: Any
) -> str:
    """Return the text of a piece whose value is another one."""
    cut, stop = piece
    alike = type(old) is type(new) and isinstance(new, (dict, list)) and old and new
    if alike and _is_block(node) and not any(map(_is_merge, _entries(node))):
        begin = _above(_start(*_entries(node)[0], text), text)
        edited = _edited(node, text, old, new)
        return text[cut:begin] + edited + text[_end(key, node, text) : stop]
    head, lines = _head(key, node, text), _entry("-" if key is None else ":", new)
    rest = text[_end(key, node, text) : stop]
    if len(lines) > 1:
        comment, line_end, rest = rest.partition("\n")
        lines[0] += comment
        rest = line_end + rest
    return text[cut:head] + _indented(lines, column)[1:] + rest


def _is_block(node: Any) -> bool:
    return isinstance(node.value, list) and not node.flow_style and not is_alias(node)


def _is_merge(entry: tuple[Any, Any]) -> bool:
    return entry[0] is not None and bool(entry[0].tag.endswith(":merge"))


def _entries(node: Any) -> list[tuple[Any, Any]]:
    """The nodes of each key, or None in a list, and of its value."""
    return node.value if node.tag.endswith(":map") else [(None, item) for item in node.value]


def _head(key: Any, node: Any, text: str) -> int:
    """The index behind the colon or dash of an entry."""
    if key is not None:
        return text.index(":", key.end_mark.index) + 1
    end = node.start_mark.index
    while not (before := text[:end].rstrip()).endswith("-"):
        end = text.index("#", before.rfind("\n") + 1, end)  # a comment, and the dash above it
    return len(before)


def _start(key: Any, node: Any, text: str) -> int:
    start: int = _head(key, node, text) - 1 if key is None else key.start_mark.index
    return start


def _end(key: Any, node: Any, text: str) -> int:
    """The index behind a value; of an object or list in block style, the end of its last line."""
    if node.value == "" and not node.style and not is_alias(node):
        return _head(key, node, text)  # nothing stands there, and its mark is that of the next key
    if _is_block(node):
        return f"{text}\n".index("\n", _end(*_entries(node)[-1], text))
    end: int = node.end_mark.index
    # A block of text ends with the line breaks behind it.
    return len(text[:end].rstrip()) if getattr(node, "style", None) in ("|", ">") else end


def _above(index: int, text: str) -> int:
    """The start of the line of an entry, or of the comment right above it.

    `index` itself where something else stands before the entry on its line.
    """
    start = text.rfind("\n", 0, index) + 1
    if text[start:index].strip():
        return index
    while start:
        line = text.rfind("\n", 0, start - 1) + 1
        if not text[line:start].lstrip().startswith("#"):
            break
        start = line
    return start


def _same(one: Any, other: Any) -> bool:
    """Whether CWL reads two values alike: true is not 1, the order of keys does not count."""
    return one is other or json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)


def _named(value: Any) -> dict[Any, Any]:
    """Return an object, or a list as one: each entry by what it is called, or by what it is."""
    if isinstance(value, dict):
        return value
    seen, named = Counter[str](), dict[Any, Any]()
    for item in value:
        label = _label(item)
        named[label, seen[label]] = item
        seen[label] += 1
    return named


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
