"""Getting items from strangers: hrefs, their signing, bounded requests, and one kind of error."""

from __future__ import annotations

import logging
import os
import pkgutil
import re
import time
import urllib.parse
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pystac_client.exceptions import APIError
from pystac_client.stac_api_io import StacApiIO
from requests.adapters import HTTPAdapter
from urllib3.util import Retry

#: Statuses that may be gone the next time (too many requests, gateway and server trouble).
TEMPORARY = frozenset({408, 429, 500, 502, 503, 504})
#: Largest answer read, bytes (items have 10 to 50 kB); seconds that a server may stay silent, and
#: that an answer may take; seconds before the second further attempt, doubled for the next.
MAX_BYTES, SILENCE, PATIENCE, BACKOFF = 16 * 2**20, 20.0, 60.0, 0.5

#: Makes an href that may be read out of one that may not.
Signer = Callable[[str], str]


class InputError(Exception):
    """Inputs that cannot be used; each argument is one readable line. Exit status 1."""

    exit_status = 1

    def __str__(self) -> str:
        return "\n".join(self.args)


class Unavailable(InputError):
    """An input that is not available now: the same run may succeed later. Exit status 75."""

    exit_status = 75


@contextmanager
def all_at_once(what: str, errors: list[InputError], hint: str = "") -> Iterator[None]:
    """Keep an error for `raise_all`, so that a user sees what is wrong with every input."""
    try:
        yield
    except InputError as error:
        errors.append(type(error)(*(f"{what}: {line}{hint}" for line in error.args)))


def raise_all(errors: list[InputError]) -> None:
    """One error with all lines, if there is any; temporary only where all of them are."""
    if errors:
        kind = Unavailable if all(isinstance(e, Unavailable) for e in errors) else InputError
        raise kind(*(line for error in errors for line in error.args))


@contextmanager
def reading(what: str, kind: str = "STAC item") -> Iterator[None]:
    """Reads a stranger's data: whatever fails, since they are malformed, is an InputError."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # pystac's, of old versions and deprecated extensions
            yield
    except InputError:
        raise
    except APIError as error:
        cause, status = error.__context__, getattr(error, "status_code", None)
        if isinstance(cause, ValueError):  # not a URL of a server, or an answer without end
            raise InputError(public(f"{what}: {cause}")) from None
        # Its own text may hold the query of the URL.
        reason = f"the server answered {status}" if status else "cannot be reached"
        temporary = status is None or status in TEMPORARY
        raise (Unavailable if temporary else InputError)(f"{public(what)}: {reason}") from None
    except Exception as error:  # repr() keeps to one line
        system = getattr(error, "strerror", None)
        reason = system.lower() if system else f"no usable {kind} ({error!r:.200})"
        raise InputError(public(f"{what}: {reason}")) from None


class BoundedAdapter(HTTPAdapter):
    """Bounds the answers of servers in size and time, however slowly they send."""

    def send(self, *args: Any, **options: Any) -> Any:
        """Like the method replaced, but the answer is read here, piece by piece."""
        response = super().send(*args, **options | {"stream": True})
        content, deadline = bytearray(), time.monotonic() + PATIENCE
        while part := response.raw.read1(65536, decode_content=True):
            content += part
            if len(content) > MAX_BYTES or time.monotonic() > deadline:
                response.close()
                raise ValueError("the answer is too large, or takes too long")
        response._content = bytes(content)  # where requests keeps what it has read
        return response


@contextmanager
def stac_io() -> Iterator[StacApiIO]:
    """Requests for items and searches: retried, and bounded; their connections end with it."""
    for name in ("urllib3", "pystac_client"):  # they log URLs with their queries
        logging.getLogger(name).setLevel(logging.ERROR)
    retries = Retry(
        total=2, backoff_factor=BACKOFF, status_forcelist=TEMPORARY, allowed_methods=None,
        raise_on_status=False, respect_retry_after_header=False,
    )  # fmt: skip
    transport = StacApiIO(timeout=SILENCE)
    for prefix in ("http://", "https://"):
        transport.session.mount(prefix, BoundedAdapter(max_retries=retries))
    with transport.session:
        yield transport


def signer(name: str | None) -> Signer:
    """The function that signs hrefs: ``planetary-computer``, or any ``module:function``.

    Raises:
        InputError: there is no such function. And so does the one returned, where signing fails.
    """
    if name is None:
        return str
    known = {"planetary-computer": "planetary_computer:sign_url"}
    with reading(f"--sign {name}", "module:function, nor dask-claim[planetary-computer]"):
        sign = pkgutil.resolve_name(known.get(name, name))

    def signed(href: str) -> str:
        try:
            return str(sign(href))
        except Exception as error:  # its text may hold the token or the signed href
            status = getattr(getattr(error, "response", None), "status_code", None)
            kind = Unavailable if status in TEMPORARY else InputError
            reason = f"{type(error).__name__}, status {status}"
            raise kind(f"{public(href)}: the signer {name} failed ({reason})") from None

    return signed


def scheme(href: str) -> str:
    """The scheme of a URL in lower case, such as ``https``; empty for a path."""
    match = re.match(r"([A-Za-z][A-Za-z0-9+.-]*):", href)
    return match[1].lower() if match else ""


def is_remote(href: str) -> bool:
    """Whether ``href`` is an http(s) URL."""
    return scheme(href) in ("http", "https")


def public(text: str) -> str:
    """The text with each URL in it cut to scheme, host and path; a path stays as it is."""
    text = re.sub(r"(\w[\w+.-]*://|/vsi\w+/?)((?:[^\s?#'\"])*)[?#]?[^\s'\"]*", r"\1\2", text)
    return re.sub(r"(?<=://)[^/\s'\"]*@", "", text)


def resolve(href: str, base: str) -> str:
    """The absolute form of an href in the item at ``base``: a URL, or an absolute path.

    Raises:
        InputError: an item from the network points at a local file: by file:, or by GDAL's own
            kind of names, such as NETCDF:… or zip:…
    """
    if is_remote(base):
        if scheme(href) not in ("", "http", "https", "s3", "gs", "az"):
            raise InputError(f"{public(base)}: may not point at {public(href)} from the network")
        return urllib.parse.urljoin(base, href)
    if href.startswith("file:///"):
        return urllib.parse.unquote(href[7:])
    if scheme(href) or href.startswith("/vsi"):  # for GDAL to open
        return href
    return os.path.normpath(Path(base).parent / href)


def link(href: str, location: str) -> str:
    """An absolute href as an item at a location gives it: without query, relative in a folder."""
    if "://" in href:
        return public(href)
    if "://" in location:
        return Path(href).as_uri()
    return os.path.relpath(href, Path(location).absolute())
