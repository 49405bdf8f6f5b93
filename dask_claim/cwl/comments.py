"""Changes of a YAML tree that leave each comment with the line that it stood above.

ruamel.yaml keeps a comment at the last value *before* it, however deep that is nested. Whoever
adds or removes an entry therefore has to carry the comment of the next entry along.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def insert(node: Any, index: int, key: Any, value: Any, lead: str = "") -> None:
    """Insert an entry in a mapping, or in a sequence (`key` unused), before the one at `index`.

    `lead` is the comment to stand above it, as `take` returned it.
    """
    before = _keys(node)[index - 1] if index else None
    kept = _take_tail(node, before) if before is not None else _swap_head(node, lead)
    value = made(value)
    if isinstance(node, dict):
        node.insert(index, key, value)  # type: ignore[attr-defined]
    else:
        node.insert(index, value)
    if before is not None and lead:
        _set_tail(node, before, lead)
    if kept:
        _set_tail(node, key if isinstance(node, Mapping) else index, kept)


def append(node: Any, key: Any, value: Any, lead: str = "") -> None:
    insert(node, len(node), key, value, lead)


def take(node: Any, key: Any) -> tuple[Any, str]:
    """Remove an entry; return its value and the comment that stood above it."""
    keys = _keys(node)
    index = keys.index(key)
    lead = _take_tail(node, keys[index - 1]) if index else _swap_head(node, "")
    lead += "".join(_text(token) for token in _above(node, key))
    kept = _take_tail(node, key)
    value = node[key]
    if isinstance(node, dict):
        if hasattr(node, "ca"):
            node.ca.items.pop(key, None)
        del node[key]
    else:
        node.pop(key)
    if kept and index:
        _set_tail(node, keys[index - 1], kept)
    elif kept and node:
        _swap_head(node, kept)
    return value, lead


def replace(node: Any, key: Any, value: Any) -> None:
    """Set the value of an entry that is there."""
    kept = _take_tail(node, key)
    node[key] = made(value)
    if kept:
        _set_tail(node, key, kept)


def made(value: Any) -> Any:
    """Return new content as nodes that can carry comments; lists of plain values on one line."""
    from ruamel.yaml.comments import CommentedMap, CommentedSeq
    from ruamel.yaml.scalarstring import LiteralScalarString

    if isinstance(value, (CommentedMap, CommentedSeq)):
        return value
    if isinstance(value, dict):
        return CommentedMap((key, made(item)) for key, item in value.items())
    if isinstance(value, list):
        items = CommentedSeq(made(item) for item in value)
        if not any(isinstance(item, (dict, list)) or "\n" in str(item) for item in value):
            items.fa.set_flow_style()
        return items
    if isinstance(value, str) and "\n" in value:
        return LiteralScalarString(value)
    return value


def _keys(node: Any) -> list[Any]:
    return list(node) if isinstance(node, Mapping) else list(range(len(node)))


def _above(node: Any, key: Any) -> list[Any]:
    """The comments that ruamel keeps with the entry below them, as it does below a flow map."""
    slots = _slots(node, key)
    found = slots[1] if slots and len(slots) > 1 else None
    return list(found) if isinstance(found, list) else []


def _slots(node: Any, key: Any) -> list[Any] | None:
    comments = getattr(node, "ca", None)
    return comments.items.get(key) if comments is not None else None


def _swap_head(node: Any, text: str) -> str:
    """Return the comment above the first entry, and put `text` there."""
    comments = getattr(node, "ca", None)
    head = comments.comment[1] if comments is not None and comments.comment else None
    if not isinstance(head, list):
        if comments is not None and text.strip():
            comments.comment = [None, [_token(text.lstrip("\n"))]]
        return ""
    taken = "".join(_text(token) for token in head)
    # In place, and never empty: the parent refers to the same list.
    head[:] = [_token(text.lstrip("\n") if text.strip() else "")]
    return taken


def _take_tail(node: Any, key: Any) -> str:
    """Remove and return the comment lines below an entry; one at the end of its line stays."""
    value = node[key]
    if _is_block(value):
        return _take_tail(value, _keys(value)[-1])
    slots, slot = _slots(node, key), _slot(node)
    token = slots[slot] if slots and len(slots) > slot else None
    if slots is None or token is None:
        return ""
    if _is_block_scalar(value):
        slots[slot] = None
        return _text(token)
    first, newline, rest = token.value.partition("\n")
    if rest and first:
        token.value = first + newline
    elif rest:
        slots[slot] = None
        if getattr(value, "ca", None) is not None and value.ca.comment:
            value.ca.comment[0] = None
    return str(rest)


def _set_tail(node: Any, key: Any, text: str) -> None:
    value = node[key]
    if _is_block(value):
        _set_tail(value, _keys(value)[-1], text)
        return
    slots, slot = node.ca.items.setdefault(key, [None, None, None, None]), _slot(node)
    while len(slots) <= slot:
        slots.append(None)
    if _is_block_scalar(value):
        slots[slot] = _token(text)
    elif slots[slot] is None:
        slots[slot] = _token("\n" + text)
    else:
        slots[slot].value = slots[slot].value.rstrip("\n") + "\n" + text


def _text(token: Any) -> str:
    """The text of a comment with the indent of its first line, which ruamel keeps apart."""
    text = str(token.value)
    return text if text.startswith("\n") else " " * token.start_mark.column + text


def _token(text: str) -> Any:
    from ruamel.yaml.error import CommentMark
    from ruamel.yaml.tokens import CommentToken

    bare = text.lstrip(" ")
    return CommentToken(bare, CommentMark(len(text) - len(bare)), None)


def _slot(node: Any) -> int:
    return 2 if isinstance(node, Mapping) else 0


def _is_block_scalar(value: Any) -> bool:
    return type(value).__name__ in ("LiteralScalarString", "FoldedScalarString")


def _is_block(value: Any) -> bool:
    if not isinstance(value, (dict, list)) or not value:
        return False
    style = getattr(value, "fa", None)
    return style is None or not style.flow_style()
