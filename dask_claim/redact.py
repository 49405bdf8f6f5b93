"""Secrets out of everything that a person, a log or a file gets to see.

Masked for certain are the value under a key that names a secret, the argument after such an option,
and any value that `register_secret` has got. Texts, such as another library's messages and
tracebacks, are searched for the same names.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence

MASK = "***"

_DEEPEST = 40

# Up to where the word ends, also in camel case: no tokenizer or TOKENIZER; max_tokens is a number.
_SECRET = re.compile(
    r"(?i:passwords?|passwds?|passphrases?|passcodes?|secrets?|(?<!max)(?<!max[_-])tokens?(?:value)?"
    r"|(?:api|access|private|secret)[_-]?keys?|credentials?|authori[sz]ation|bearer|cookies?"
    r"|signatures?)(?:(?<=[a-z])(?![a-z])|(?<=[A-Z])(?![A-Za-z]))"
)
_SECRET_KEY = re.compile(
    rf"{_SECRET.pattern}|(?i:(?:^|[._-])(?:auth|pass|pat|sig)$|(?:^|[_-])pwd$)"
)
_SECRET_PARAMETERS = ("auth", "code", "key", "sig")

_registered: set[str] = set()
"""The registered secrets of this process, masked wherever they stand."""

_SHORTEST = 8
"""Characters below which a secret may as well be an ordinary word."""

# Texts may be long and hostile: each pattern begins where a word begins, and what follows a
# repetition is either no part of it or not far, so that the time stays linear.
_PASSWORD = re.compile(r"(://[^\s:@/?#\"']{0,300}:)(?!\d{1,5}(?:[/?#]|$))[^\s\"']{0,2000}@")
_USER = re.compile(r"(://)[^\s:@/?#\"']{1,2000}@")
_QUERY = re.compile(r"(?<=[?&])([^=?&\s\"']+)=([^&#\s\"']+)")
_COOKIES = re.compile(r"(?<![\w.-])((?:set-)?cookie\s{0,8}:\s{0,8})[^\r\n\"']+", re.IGNORECASE)
# name=, name: or "name":, also with \" in a text within a text
_NAME = re.compile(r"(?<![?&\w.-])([\w.-]+)(\\{0,4}[\"']?\s{0,8}[=:]\s{0,8})")
_VALUE = re.compile(
    r"((?:basic|bearer|digest|negotiate|token)\s{1,8})[^\s\"']+"
    r"|\"(?:[^\"\\]|\\.)*\"|'(?:[^'\\]|\\.)*'|(?:\\{0,4}[\"'])?[^\s\"'&]+",
    re.IGNORECASE,
)
_OPTION = re.compile(r"(?<![^\s\"'(\[])(--?[A-Za-z][\w-]*)(\s{1,8})(?!-)")
_ARGUMENT = re.compile(r"()(?:'[^']*'|\"[^\"]*\"|[^\s'\"])+")
_BEARER = re.compile(r"(\bbearer\s{1,8})[\w.~+/=-]{6,}", re.IGNORECASE)
# What stands after "token:" in a sentence is not the token.
_PROSE = re.compile(
    r"an?|are|cannot|does|expired|has|invalid|is|it|missing|must|no|not|of|refused|required|the|was",
    re.IGNORECASE,
)


def redact(value: object, key: str = "") -> object:
    """Return a deep copy of `value` in which every secret reads `"***"`.

    Masked is the value under a `key` that names a secret (at any depth), the argument after
    an option that does (in lists), and in texts what `redact_text` masks. Objects other than
    mappings, lists, tuples and strings are returned as they are.
    """
    return _redact(value, key, 0)


def register_secret(secret: object) -> None:
    """Mask this value from now on, wherever it stands, unless it is too short to be distinctive."""
    if isinstance(secret, str) and len(secret) >= _SHORTEST:
        _registered.add(secret)


def register_secrets(environ: Mapping[str, str]) -> None:
    """Mask the values of variables whose names end with a secret's: no paths or settings of one."""
    for name, value in environ.items():
        if name not in ("PWD", "OLDPWD") and names_secret(name):  # working directories
            register_secret(value)


def is_secret(key: str) -> bool:
    """Whether the value under a key of this name is masked."""
    return _SECRET_KEY.search(key) is not None


def names_secret(key: str) -> bool:
    """Whether a key ends with the name of a secret: no path, time or setting of one."""
    return any(word.end() == len(key) for word in _SECRET_KEY.finditer(key))


def redact_command(argv: Sequence[str]) -> str:
    """Return a command as a person would type it, without its secrets."""
    arguments = redact([str(argument) for argument in argv])
    assert isinstance(arguments, list)
    return " ".join(MASK if each == MASK else shlex.quote(each) for each in arguments)


def redact_text(text: str) -> str:
    """Return `text` without registered secrets and those that follow the name of one.

    Those are the userinfo of a URL and tokens in its query, `NAME=secret`, `name: secret`,
    `--name secret`, headers such as Authorization and Cookie, in prose, JSON, Python and shell.
    Takes time in proportion to the text.
    """
    text = redact_known(text)
    for pattern in (_PASSWORD, _USER):
        text = pattern.sub(rf"\g<1>{MASK}@", text)
    text = _QUERY.sub(_query, text)
    text = _COOKIES.sub(rf"\g<1>{MASK}", text)
    text = _masked_after(_NAME, _VALUE, text)
    text = _masked_after(_OPTION, _ARGUMENT, text)
    return _BEARER.sub(rf"\g<1>{MASK}", text)


def redact_known(text: str) -> str:
    """Return `text` without known secrets, and with whatever else is in it."""
    for secret in sorted(_registered, key=len, reverse=True):
        text = text.replace(secret, MASK)
    return text


def _redact(value: object, key: str, depth: int) -> object:
    if value is None or isinstance(value, bool):
        return value
    if value != "" and is_secret(key):
        return MASK
    if depth > _DEEPEST:
        return "…"
    if isinstance(value, str):
        return redact_text(value)
    if isinstance(value, Mapping):
        return {name: _redact(item, str(name), depth + 1) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        before = [each if _is_option(each) else "" for each in ("", *value)]
        items = [
            _redact(item, option, depth + 1) for option, item in zip(before, value, strict=False)
        ]
        return items if isinstance(value, list) else tuple(items)
    return value


def _is_option(argument: object) -> bool:
    return isinstance(argument, str) and re.fullmatch(r"-[^=\s]+", argument) is not None


def _query(parameter: re.Match[str]) -> str:
    name, value = parameter.groups()
    secret = is_secret(name) or name.lower() in _SECRET_PARAMETERS
    return f"{name}={MASK if secret else value}"


def _masked_after(names: re.Pattern[str], values: re.Pattern[str], text: str) -> str:
    """Mask the value after each name of a secret."""
    done, parts = 0, list[str]()
    for name in names.finditer(text):
        prose = name[2].strip() == ":"
        if name.start() < done or not (_SECRET if prose else _SECRET_KEY).search(name[1]):
            continue
        value = values.match(text, name.end())
        if value is None or (prose and _PROSE.fullmatch(value[0].rstrip(".,;"))):
            continue
        quote = value[0][0] if value[0][0] == value[0][-1] and value[0][0] in "\"'" else ""
        parts += text[done : name.end()], value[1] or "", quote, MASK, quote
        done = value.end()
    return "".join([*parts, text[done:]])
