"""Values as people write them → numbers, texts, addresses. Each refusal says what would do.

Every function here takes whatever JSON or YAML can hold and returns the value or raises
`ValueError`, whose text reads on after the value: "is not a number; write one …".
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any, NoReturn
from urllib.parse import urlsplit

_LARGEST = 10**15
_LONGEST = 64
_DEEPEST = 20
_LARGEST_INTEGER = 2**63 - 1

_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d{1,3})?", re.ASCII)


def number(value: object, *, right: str = "one, for example 0.5") -> int | float:
    """Return a finite number, an `int` where it is whole. Texts such as `"0.5"` are numbers too."""
    if isinstance(value, str) and len(value) <= _LONGEST and _NUMBER.fullmatch(value.strip()):
        digits = value.strip()
        value = int(digits) if digits.lstrip("+-").isdigit() else float(digits)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ValueError(f"is not a number; write {right}")
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"is not a finite number; write {right}")
    if abs(value) > _LARGEST:
        raise ValueError(f"is too large; write {right}")
    return int(value) if float(value).is_integer() else float(value)


def positive(value: object, *, example: str = "0.5") -> int | float:
    """Return a number greater than 0."""
    right = f"one greater than 0, for example {example}"
    found = number(value, right=right)
    if found <= 0:
        raise ValueError(f"is not greater than 0; write {right}")
    return found


def not_negative(value: object, *, example: str = "4") -> int | float:
    """Return a number of 0 or more."""
    right = f"0 or more, for example {example}"
    found = number(value, right=right)
    if found < 0:
        raise ValueError(f"is less than 0; write {right}")
    return found


def whole(value: object, *, example: str = "4") -> int:
    """Return a whole number of 0 or more."""
    found = not_negative(value, example=example)
    if isinstance(found, float):
        raise ValueError(f"is not a whole number; write one, for example {example}")
    return found


def boolean(value: object) -> bool:
    """Return a truth value; the texts `"true"` and `"false"` are accepted, whatever their case."""
    word = value.strip().lower() if isinstance(value, str) else value
    if word is True or word == "true":
        return True
    if word is False or word == "false":
        return False
    raise ValueError("is neither true nor false; write one of them")


def text(value: object) -> str:
    """Return a text that an environment variable can hold, without space around it."""
    if not isinstance(value, str):
        raise ValueError("is not a text; write one in quotes")
    stripped = value.strip()
    if not stripped:
        raise ValueError("is empty; write a text, or leave the field out")
    if not stripped.isprintable():
        raise ValueError("holds control characters; write plain text")
    return stripped


def web_address(value: object) -> str:
    """Return an http or https URL as written, without the slash at its end."""
    example = "https://gateway.example.org"
    return _address(value, ("http", "https"), example).rstrip("/")


def public_address(value: object) -> str:
    """Return an http or https URL, or, as JupyterHub sites have it, a path on the hub's host."""
    found = text(value)
    return found.rstrip("/") if re.fullmatch(r"/[^/\s]\S*", found) else web_address(found)


def proxy_address(value: object) -> str:
    """Return a scheduler proxy's address: `gateway://host:port`, `host:port`, or a port alone."""
    example = "gateway://gateway.example.org:8786"
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value) if 0 < value < 65536 else "0"
    found = text(value)
    if found.isascii() and found.isdigit():
        if not 0 < int(found[:9]) < 65536:
            raise ValueError(f"is not a port between 1 and 65535; write for example {example}")
        return found
    schemes = ("gateway", "tls", "tcp", "http", "https")
    if "://" in found:
        return _address(found, schemes, example).rstrip("/")
    _address(f"gateway://{found}", schemes, example)
    return found.rstrip("/")


def at_port(address: str, port: str) -> str:
    """Return the scheduler proxy on another port of a gateway's host."""
    host = urlsplit(address).hostname or ""
    return f"gateway://[{host}]:{port}" if ":" in host else f"gateway://{host}:{port}"


def _address(value: object, schemes: tuple[str, ...], example: str) -> str:
    found = text(value)
    try:
        parts = urlsplit(found)
        sound = parts.scheme in schemes and bool(parts.hostname) and parts.port != 0
    except ValueError:
        sound = False
    if not sound or re.search(r"\s", found):
        kinds = " or ".join((", ".join(f"{name}://" for name in schemes)).rsplit(", ", 1))
        raise ValueError(f"is no {kinds} address of a host; write for example {example}")
    return found


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
        raise ValueError('is not an object; write one, for example {"name": "value"}')
    return value


def variable_name(value: object) -> str:
    """Return `value` if it is a name that every shell and program can read as a variable."""
    if not isinstance(value, str) or not re.fullmatch(r"[A-Za-z_]\w*", value, re.ASCII):
        raise ValueError("is not a valid variable name; use letters, digits and _, no digit first")
    return value


def json_value(value: object, *, depth: int = 0) -> Any:
    """Return a copy of a value that JSON can hold, whatever its shape."""
    if depth > _DEEPEST:
        raise ValueError(f"is nested deeper than {_DEEPEST} levels; write a flatter value")
    if isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
        return {key: json_value(item, depth=depth + 1) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [json_value(item, depth=depth + 1) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError("is not a finite number; write one that is")
    if isinstance(value, int) and abs(value) > _LARGEST_INTEGER:
        raise ValueError("is too large; write a smaller number, or a text in quotes")
    if value is None or isinstance(value, int):
        return value
    if isinstance(value, (str, float)):  # without what else a number or text may carry
        return str(value) if isinstance(value, str) else float(value)
    raise ValueError(f"is a {type(value).__name__}, which JSON has not; write it in quotes")
