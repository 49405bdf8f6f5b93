"""Signed assets: what some catalogues want added to an href before the file can be read.

A signed href carries a secret, so it is used and never shown; see `source.public`. Signatures
expire (those of Planetary Computer within the hour): hrefs are signed as the items are read, just
before the map is made.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable
from typing import Any

from bai_example import source
from bai_example.errors import InputError, Unavailable
from bai_example.patience import within

#: Seconds that signing one href may take. Planetary Computer's package retries for minutes, and
#: waits for a silent server without end.
PATIENCE = 60.0

_PLANETARY_COMPUTER = "planetary-computer"


def signer(name: str | None) -> Callable[[str], str]:
    """The function that signs an asset's href.

    Args:
        name: ``planetary-computer``; ``module:function``, any function of a str that returns a
            str; None: hrefs stay as they are.

    Returns:
        A function that raises `InputError` where signing fails. It can be pickled.

    Raises:
        InputError: there is no such signer.
    """
    if name is None:
        return _unsigned
    if name == _PLANETARY_COMPUTER:
        return functools.partial(_sign, name, _planetary_computer())
    return functools.partial(_sign, name, _imported(name))


def _unsigned(href: str) -> str:
    return href


def _sign(name: str, sign: Callable[[str], Any], href: str) -> str:
    try:
        signed = within(PATIENCE, sign, href)
    except Exception as error:  # a signer is anyone's code
        # Only the kind of error: its text may hold the token or the signed href.
        status = getattr(getattr(error, "response", None), "status_code", None)
        reason = f"the token server answered {status}" if status else type(error).__name__
        temporary = status in source.TEMPORARY or isinstance(error, TimeoutError)
        kind = Unavailable if temporary else InputError
        raise kind(f"{source.public(href)}: the signer {name} failed ({reason})") from None
    if not isinstance(signed, str) or not signed:
        raise InputError(
            f"{source.public(href)}: the signer {name} gave {type(signed).__name__}, not an href"
        )
    return signed


def _planetary_computer() -> Callable[[str], str]:
    try:
        # Not planetary_computer.sign: that also takes a text for GDAL's VRT when it looks like one.
        from planetary_computer import sign_url
    except ImportError:
        raise InputError(
            f"--sign {_PLANETARY_COMPUTER} needs a package that is not installed; "
            "install it with: pip install 'dask-claim[planetary-computer]'"
        ) from None
    return sign_url


def _imported(name: str) -> Callable[[str], Any]:
    module, colon, function = name.partition(":")
    if not (colon and module and function):
        raise InputError(
            f"--sign {name}: no such signer; give {_PLANETARY_COMPUTER}, or module:function"
        )
    try:
        found = getattr(importlib.import_module(module), function)
    except Exception as error:  # whatever happens while someone's module is imported
        raise InputError(
            f"--sign {name}: cannot be imported ({type(error).__name__}: {error})"
        ) from None
    if not callable(found):
        raise InputError(f"--sign {name}: {function} is not a function")
    return found
