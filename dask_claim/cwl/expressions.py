"""CWL expressions and parameter references in a claim → one value for a variable."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping

_START = re.compile(r"(\\?)\$([({])")
_INPUT = re.compile(r"""\binputs(?:\.(\w+)|\[\s*'([^'\\]+)'\s*\]|\[\s*"([^"\\]+)"\s*\])""")

NUMBERS = ("runtime.cores", "runtime.ram")
"""References that are numbers in every run, so that they may stand anywhere in a text."""

_AS_TEXT = 'function(v) { return typeof v === "string" ? v : JSON.stringify(v); }'


class Unreadable(ValueError):
    """An expression that is not closed."""


def parts(text: str) -> list[tuple[str, str]]:
    """Split a string as CWL does: ("text", …), ("reference", …) for `$(…)`, ("body", …) for `${…}`.

    A backslash keeps `$(` and `${` from being an expression, and is dropped there.
    """
    if not _START.search(text):
        return [("text", text)]
    text = text.strip()  # around an expression, white space counts for nothing
    split: list[tuple[str, str]] = []
    literal, index = "", 0
    while match := _START.search(text, index):
        literal, index = literal + text[index : match.start()], match.end()
        if match[1]:
            literal += match[0][1:]
            continue
        if literal:
            split.append(("text", literal))
        end = _end(text, index - 1)
        split.append(("reference" if match[2] == "(" else "body", text[index:end]))
        literal, index = "", end + 1
    literal += text[index:]
    return [*split, ("text", literal)] if literal or not split else split


def _end(text: str, start: int) -> int:
    """The index of the bracket that closes the one at `start`."""
    closing, open_brackets, quote, index = {"(": ")", "{": "}"}, [text[start]], "", start + 1
    while index < len(text):
        character = text[index]
        if character == "\\":
            index += 1
        elif quote:
            quote = "" if character == quote else quote
        elif character in "'\"":
            quote = character
        elif character in closing:
            open_brackets.append(character)
        elif character == closing[open_brackets[-1]]:
            open_brackets.pop()
            if not open_brackets:
                return index
        index += 1
    raise Unreadable(f"has an expression that is not closed: {text[:60]}")


def _name(match: re.Match[str]) -> str:
    return next(name for name in match.groups() if name)


def is_expression(value: object) -> bool:
    """Whether a runner evaluates something in `value`, at any depth."""
    return any(kind != "text" for text in _texts(value) for kind, _ in parts(text))


def input_names(value: object) -> set[str]:
    """The inputs that the expressions in `value` name."""
    return {
        _name(match)
        for text in _texts(value)
        for kind, inner in parts(text)
        if kind != "text"
        for match in _INPUT.finditer(inner)
    }


def needs_script(value: object, safe: Callable[[str], bool]) -> bool:
    """Whether keeping the expressions alive takes JavaScript.

    Without it a runner pastes values into a text, which is sound JSON only for the inputs that
    `safe` holds for: numbers and booleans.
    """

    def pasted(inner: str, alone: bool) -> bool:
        match = _INPUT.fullmatch(inner.strip())
        return inner.strip() in NUMBERS or (alone and match is not None and safe(_name(match)))

    return any(
        kind == "body" or (kind == "reference" and not pasted(inner, len(split) == 1))
        for split in map(parts, _texts(value))
        for kind, inner in split
    )


def as_text(value: object) -> str:
    """JSON whose references stay CWL's `$(…)`, for claims that need no script."""
    return _lay_out(value, _paste)


def as_script(value: object) -> str:
    """A CWL expression whose value is the JSON text."""
    return f"${{\n  return JSON.stringify({_lay_out(value, _javascript, 1)});\n}}"


def _paste(split: list[tuple[str, str]]) -> str:
    if len(split) == 1:
        return f"$({split[0][1]})"
    pieces = (_quote(inner)[1:-1] if kind == "text" else f"$({inner})" for kind, inner in split)
    return f'"{"".join(pieces)}"'


def _lay_out(value: object, dynamic: Callable[[list[tuple[str, str]]], str], depth: int = 0) -> str:
    pad, end = "  " * (depth + 1), "  " * depth
    if isinstance(value, Mapping):
        if dynamic is _javascript and "__proto__" in value:
            # In an object as JavaScript writes it this is no key, but names another object.
            rest = {key: item for key, item in value.items() if key != "__proto__"}
            its = f"{{enumerable: true, value: {_lay_out(value['__proto__'], dynamic, depth)}}}"
            return f'Object.defineProperty({_lay_out(rest, dynamic, depth)}, "__proto__", {its})'
        lines = [
            f"{pad}{_quote(str(key))}: {_lay_out(item, dynamic, depth + 1)}"
            for key, item in value.items()
        ]
        return "{\n" + ",\n".join(lines) + f"\n{end}}}" if lines else "{}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(_lay_out(item, dynamic, depth + 1) for item in value) + "]"
    if isinstance(value, str):
        split = parts(value)
        if all(kind == "text" for kind, _ in split):
            return _quote("".join(text for _, text in split))
        return dynamic(split)
    return json.dumps(value, ensure_ascii=False)


def _quote(text: str) -> str:
    # The dollar as an escape: JSON and JavaScript read it back, CWL does not see it. So too the
    # characters that end a line for JavaScript only.
    quoted = json.dumps(text, ensure_ascii=False).replace("\u2028", "\\u2028")
    return quoted.replace("\u2029", "\\u2029").replace("$", "\\u0024")


def _javascript(split: list[tuple[str, str]]) -> str:
    pieces = []
    for kind, inner in split:
        code = f"(function() {{{inner.rstrip()}\n}})()" if kind == "body" else inner
        convert = "" if len(split) == 1 else f"({_AS_TEXT})"
        pieces.append(_quote(inner) if kind == "text" else f"{convert}({code})")
    return pieces[0] if len(pieces) == 1 else f'[{", ".join(pieces)}].join("")'


def _texts(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _texts(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _texts(item)
