"""Secrets out of everything that a person, a log or a file gets to see."""

from __future__ import annotations

import re
from collections.abc import Mapping

MASK = "***"

_DEEPEST = 40

_SECRET = (
    r"passw(?:or)?d|passphrase|passcode|secret|token|api[_-]?key|access[_-]?key|credential"
    r"|authori[sz]ation|bearer|cookie|private|signature"
)
_SECRET_KEY = re.compile(rf"{_SECRET}|(?:^|[._-])(?:auth|pass|pat|sig)$|[_-]pwd$", re.IGNORECASE)

# An option on a command line whose value is the argument after it.
_SECRET_OPTION = re.compile(rf"--?[\w-]*(?:{_SECRET})[\w-]*", re.IGNORECASE)

# Every repetition has a bound or cannot overlap itself: the texts may be long and hostile.
_IN_TEXT: tuple[tuple[re.Pattern[str], str], ...] = (
    # scheme://user:password@host. A password that holds a raw "/" is no valid URL, and is exactly
    # what a fault would show; "host:8080/path@x" is not one, so a port is told apart.
    (
        re.compile(
            r"(\w[\w+.-]{0,30}://[^\s/:@?#\"']{0,999}:)(?!\d{1,5}(?:[/?#]|$))[^\s\"']{0,4096}@"
        ),
        rf"\g<1>{MASK}@",
    ),
    # scheme://token@host, as git services have it
    (re.compile(r"(\w[\w+.-]{0,30}://)[^\s/:@?#\"']{1,4096}@"), rf"\g<1>{MASK}@"),
    # ?sig=…&X-Amz-Signature=…
    (
        re.compile(
            rf"([?&][^=?&\s\"']*(?:{_SECRET}|sig|key|auth|code)[^=?&\s\"']*=)[^&#\s\"']+",
            re.IGNORECASE,
        ),
        rf"\g<1>{MASK}",
    ),
    # NAME_TOKEN=…, --password=…
    (
        re.compile(rf"(?<![?&\w-])([\w-]*(?:{_SECRET})[\w-]*=)[^\s\"'&]+", re.IGNORECASE),
        rf"\g<1>{MASK}",
    ),
    # "password": "…" in a text that is itself JSON or YAML
    (
        re.compile(
            rf"([\"'][\w-]*(?:{_SECRET})[\w-]*[\"']\s*:\s*)(?:\"(?:[^\"\\]|\\.)*\"|'[^']*')",
            re.IGNORECASE,
        ),
        rf'\g<1>"{MASK}"',
    ),
    (re.compile(r"(\bbearer\s+)[\w.~+/=-]{6,}", re.IGNORECASE), rf"\g<1>{MASK}"),
)


def redact(value: object, key: str = "") -> object:
    """Return a deep copy of `value` in which every secret reads `"***"`.

    Masked is whatever stands under a `key` that names a secret (at any depth), and in texts the
    userinfo of a URL, tokens in its query, and `NAME=secret` pairs. Objects other than mappings,
    lists, tuples and strings are returned as they are.
    """
    return _redact(value, key, 0)


def _redact(value: object, key: str, depth: int) -> object:
    if value is None or isinstance(value, bool):
        return value
    if key and value != "" and _SECRET_KEY.search(key):
        return MASK
    if depth > _DEEPEST:
        return "…"
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, Mapping):
        return {name: _redact(item, str(name), depth + 1) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        items: list[object] = []
        for before, item in zip((None, *value), value, strict=False):
            hidden = isinstance(before, str) and _SECRET_OPTION.fullmatch(before)
            items.append(MASK if hidden and item is not None else _redact(item, "", depth + 1))
        return items if isinstance(value, list) else tuple(items)
    return value


def _text(text: str) -> str:
    for pattern, replacement in _IN_TEXT:
        text = pattern.sub(replacement, text)
    return text
