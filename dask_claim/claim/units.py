"""Values as people write them → numbers, texts, addresses.

Every function here takes whatever JSON or YAML can hold and returns the value or raises
`Invalid`, which states what is wrong and what would be right.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from fractions import Fraction
from typing import Any, NoReturn
from urllib.parse import urlsplit

_LARGEST = 10**15
_LONGEST = 64

_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d{1,3})?", re.ASCII)
VARIABLE = re.compile(r"[A-Za-z_]\w*", re.ASCII)
_PROXY_EXAMPLE = "gateway://gateway.example.org:8786"


class Invalid(ValueError):
    """A value that cannot stand where it does."""

    def __init__(self, problem: str, hint: str = "") -> None:
        super().__init__(problem, hint)
        self.problem, self.hint = problem, hint

    def __str__(self) -> str:
        return "; ".join(filter(None, (self.problem, self.hint)))


def number(value: object) -> int | float:
    """Return a finite number, an `int` where it is whole. Texts such as `"0.5"` are numbers too."""
    hint = "write one, for example 4 or 0.5"
    refuse_expression(value)
    if isinstance(value, str) and len(value) <= _LONGEST and _NUMBER.fullmatch(value.strip()):
        digits = value.strip()
        value = int(digits) if digits.lstrip("+-").isdigit() else float(digits)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise Invalid("is not a number", hint)
    if isinstance(value, float) and not math.isfinite(value):
        raise Invalid("is not a finite number", hint)
    if abs(value) > _LARGEST:
        raise Invalid("is too large", f"write at most {_LARGEST}")
    return int(value) if float(value).is_integer() else float(value)


def exact(value: int | float) -> Fraction:
    """Return an amount as its author meant it: 0.1 is not a binary fraction."""
    return Fraction(int(value) if isinstance(value, int) else str(value))


def boolean(value: object) -> bool:
    """Return a truth value; the texts `"true"` and `"false"` are accepted, whatever their case."""
    choice = word(value)
    refuse_expression(value)
    if choice not in ("true", "false") and not isinstance(choice, bool):
        raise Invalid("is neither true nor false", "write one of them")
    return choice in (True, "true")


def word(value: object) -> object:
    """Return a text in lower case and without space around it; anything else as it is."""
    return value.strip().lower() if isinstance(value, str) else value


def text(value: object) -> str:
    """Return a text that an environment variable can hold, without space around it."""
    if not isinstance(value, str):
        raise Invalid("is not a text", "write one in quotes")
    stripped = value.strip()
    if not stripped:
        raise Invalid("is empty", "write a text, or leave the field out")
    if not stripped.isprintable():
        raise Invalid("has control characters", "write plain text")
    refuse_expression(stripped)
    return stripped


def refuse_expression(value: object) -> None:
    """Refuse a text that a runner of CWL should have evaluated."""
    if isinstance(value, str) and value.strip().startswith(("$(", "${")):
        raise Invalid("is an expression that no runner has evaluated", "write its value")


def variable_name(value: object) -> str:
    """Return `value` if it is a name that every shell and program can read as a variable."""
    if not isinstance(value, str) or not VARIABLE.fullmatch(value):
        raise Invalid("is not a valid variable name", "use letters, digits and _, no digit first")
    return value


def web_address(value: object) -> str:
    """Return an http or https URL as written, without the slash at its end."""
    return _address(value, ("http", "https"), "https://gateway.example.org")


def public_address(value: object) -> str:
    """Return an http or https URL, or, as JupyterHub sites have it, a path on the hub's host."""
    address = text(value)
    return address.rstrip("/") if re.fullmatch(r"/[^/\s]\S*", address) else web_address(address)


def proxy_address(value: object) -> str:
    """Return a scheduler proxy's address: `gateway://host:port`, `host:port`, or a port alone."""
    address = text(str(value) if type(value) is int and abs(value) < 10**9 else value)
    if address.isascii() and address.isdigit():
        if not 0 < int(address[:9]) < 65536:
            raise Invalid(
                "is not a port between 1 and 65535", f"write for example {_PROXY_EXAMPLE}"
            )
        return address
    schemes = ("gateway", "tls", "tcp", "http", "https")
    if "://" in address:
        return _address(address, schemes, _PROXY_EXAMPLE)
    return _address(f"gateway://{address}", schemes, _PROXY_EXAMPLE).removeprefix("gateway://")


def at_port(address: str, port: str) -> str:
    """Return the scheduler proxy on another port of a gateway's host."""
    host = urlsplit(address).hostname or ""
    return f"gateway://[{host}]:{port}" if ":" in host else f"gateway://{host}:{port}"


def _address(value: object, schemes: tuple[str, ...], example: str) -> str:
    address = text(value)
    try:
        parts = urlsplit(address)
        sound = parts.scheme in schemes and bool(parts.hostname) and parts.port != 0
    except ValueError:
        sound = False
    if not sound or re.search(r"\s", address):
        problem = f"is not an address with a host ({', '.join(schemes)})"
        raise Invalid(problem, f"write for example {example}")
    return address.rstrip("/")


class FrozenDict(dict[str, Any]):
    """A dict that stays as it was made, as everything in a claim does."""

    def _refuse(self, *_: object, **__: object) -> NoReturn:
        raise TypeError("a claim cannot be changed; make another one")

    __setitem__ = __delitem__ = __ior__ = _refuse
    clear = pop = popitem = setdefault = update = _refuse

    def __reduce__(self) -> tuple[type[FrozenDict], tuple[dict[str, Any]]]:
        return FrozenDict, (dict(self),)


def mapping(value: object) -> object:
    """Return `value` if it is an object of names and values."""
    if not isinstance(value, Mapping):
        raise Invalid("is not an object", 'write one, for example {"name": "value"}')
    return value


def json_copy(value: object) -> Any:
    """Return a copy of a value that JSON can hold, whatever its shape."""
    try:
        return json.loads(json.dumps(value, allow_nan=False))
    except (TypeError, ValueError, RecursionError) as error:
        raise Invalid(f"has no JSON form: {error}", "write it in quotes") from None
