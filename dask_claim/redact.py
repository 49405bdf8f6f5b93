"""Secrets out of everything that a person, a log or a file gets to see.

What is known to be secret is masked for certain: the value under a key, the argument after an
option, and wherever it stands what `know` was told. Texts, such as another library's messages and
tracebacks, are searched for the same names.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping, Sequence

MASK = "***"

_DEEPEST = 40

_WORDS = (
    r"(?i:passwords?|passwds?|passphrases?|passcodes?|secrets?|token(?:value)?"
    r"|(?:(?:api|auth|access|refresh|session)[_-]?)?tokens|(?:api|access|private|secret)[_-]?keys?"
    r"|credentials?|authori[sz]ation|bearer|cookies?|signatures?)"
)
# Where such a word ends, also in camel case: no tokenizer or TOKENIZER.
_SECRET = re.compile(rf"{_WORDS}(?:(?<=[a-z])(?![a-z])|(?<=[A-Z])(?![A-Za-z]))")
_SECRET_KEY = re.compile(
    rf"{_SECRET.pattern}|(?i:(?:^|[._-])(?:auth|pass|pat|sig)$|(?:^|[_-])pwd$)"
)
_SECRET_QUERY = re.compile(rf"{_SECRET.pattern}|(?i:sig|key|auth|code)")
# With the signs around it, as it may stand in a text.
_NUMBER = re.compile(r"\W{0,8}\d+(?:[._]\d+){0,4}\W{0,8}")

_known: set[str] = set()
"""Secrets that this process has seen, masked wherever they stand."""

_SHORTEST = 8
"""Characters below which a known secret is likely to be a word of its own."""

# Every pattern starts where a word starts, and what follows a repetition is no part of it: the
# texts may be long and hostile, and the time must stay linear in them.
_URLS = re.compile(r"://[^\s\"']+")
_USER = re.compile(r"[^/:@?#]*")
_PORT = re.compile(r"\d{1,5}(?:[/?#]|$)")
_QUERY = re.compile(r"(?<=[?&])([^=?&\s\"']+)=([^&#\s\"']+)")
_COOKIES = re.compile(r"(?<![\w.-])((?:set-)?cookie\s{0,8}:\s{0,8})[^\r\n\"']+", re.IGNORECASE)
# name=, name: or "name":, also with \" in a text within a text, and ("name", "value")
_NAME = re.compile(
    r"(?<![?&\w.-])([\w.-]+)(\\{0,4}[\"']?\s{0,8}[=:]\s{0,8}|[\"']\s{0,8},\s{0,8}(?=[\"']))"
)
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

    Masked is whatever stands under a `key` that names a secret (at any depth), the argument after
    an option that does (in lists), and in texts what `redact_text` finds. Objects other than
    mappings, lists, tuples and strings are returned as they are.
    """
    return _redact(value, key, 0)


def know(secret: object) -> None:
    """Mask this value from now on, wherever it stands; not one that is too short to be told."""
    if isinstance(secret, str) and len(secret) >= _SHORTEST:
        _known.add(secret)


def know_variables(environ: Mapping[str, str]) -> None:
    """Mask the values of variables whose names end with a secret's: no paths or settings of one."""
    for name, value in environ.items():
        if name not in ("PWD", "OLDPWD") and names_secret(name, value):  # working directories
            know(value)


def is_secret(key: str) -> bool:
    """Whether what stands under a key of this name is masked."""
    return any(_secrets_in(key, None))


def _secrets_in(
    name: str, value: object, words: re.Pattern[str] = _SECRET_KEY
) -> Iterator[re.Match[str]]:
    """The words in a name that make its value a secret; a number of tokens is none."""
    for found in words.finditer(name):
        if found[0].lower() != "tokens" or not _NUMBER.fullmatch(str(value)):
            yield found


def names_secret(key: str, value: object = None) -> bool:
    """Whether a key ends with the name of a secret: no path, time or setting of one."""
    return any(found.end() == len(key) for found in _secrets_in(key, value))


def redact_command(argv: Sequence[str]) -> str:
    """Return a command as a person would type it, without its secrets."""
    arguments = redact([str(argument) for argument in argv])
    assert isinstance(arguments, list)
    return " ".join(MASK if each == MASK else shlex.quote(each) for each in arguments)


def redact_text(text: str) -> str:
    """Return `text` without the secrets that can be told by what stands before them.

    Those are the userinfo of a URL and tokens in its query, `NAME=secret`, `name: secret`,
    `--name secret`, headers such as Authorization and Cookie, in prose, JSON, Python and shell.
    Takes time in proportion to the text.
    """
    for secret in sorted(_known, key=len, reverse=True):
        text = text.replace(secret, MASK)
    text = _URLS.sub(_url, text)
    text = _QUERY.sub(_query, text)
    text = _COOKIES.sub(rf"\g<1>{MASK}", text)
    text = _masked_after(_NAME, _VALUE, text)
    text = _masked_after(_OPTION, _ARGUMENT, text)
    return _BEARER.sub(rf"\g<1>{MASK}", text)


def _redact(value: object, key: str, depth: int) -> object:
    if value is None or isinstance(value, bool):
        return value
    if key and value != "" and any(_secrets_in(key, value)):
        return MASK
    if depth > _DEEPEST:
        return "…"
    if isinstance(value, str):
        return redact_text(value)
    if isinstance(value, Mapping):
        return {name: _redact(item, str(name), depth + 1) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        items = [
            MASK if _is_secret_of(before, item) else _redact(item, "", depth + 1)
            for before, item in zip((None, *value), value, strict=False)
        ]
        return items if isinstance(value, list) else tuple(items)
    return value


def _is_secret_of(option: object, argument: object) -> bool:
    """Whether an argument is a secret by the option before it."""
    return (
        argument is not None
        and isinstance(option, str)
        and option.startswith("-")
        and not re.search(r"[=\s]", option)
        and any(_secrets_in(option, argument))
    )


def _url(found: re.Match[str]) -> str:
    """Mask the userinfo of URLs: `user:password@host`, or `token@host` as git services have it."""
    run = found[0]
    last = run.rfind("@")
    done, parts = 0, list[str]()
    for start in re.finditer("://", run):
        user = _USER.match(run, start.end())
        if last < start.end() or user is None:
            break
        end = user.end()
        # A password that holds a raw "/" is no valid URL, and is exactly what a fault would show;
        # "host:8080/path@x" is not one, so a port is told apart.
        if run[end] == ":" and not _PORT.match(run, end + 1):
            return "".join([*parts, run[done : end + 1], MASK, run[last:]])
        if run[end] == "@" and user[0]:
            parts += run[done : start.end()], MASK
            done = end
    return "".join([*parts, run[done:]])


def _query(found: re.Match[str]) -> str:
    name, value = found.groups()
    return f"{name}={MASK}" if any(_secrets_in(name, value, _SECRET_QUERY)) else found[0]


def _masked_after(names: re.Pattern[str], values: re.Pattern[str], text: str) -> str:
    """Mask what stands after each name of a secret."""
    done, parts = 0, list[str]()
    for name in names.finditer(text):
        sign = name[2]
        prose = sign.strip() == ":"
        words = _SECRET if prose else _SECRET_KEY
        if name.start() < done or not words.search(name[1]):
            continue
        value = values.match(text, name.end())
        if value is None or (prose and _PROSE.fullmatch(value[0].rstrip(".,;"))):
            continue
        if not any(_secrets_in(name[1], value[0], words)):
            continue
        quote = value[0][0] if value[0][0] == value[0][-1] and value[0][0] in "\"'" else ""
        parts += text[done : name.end()], value[1] or "", quote, MASK, quote
        done = value.end()
    return "".join([*parts, text[done:]])
