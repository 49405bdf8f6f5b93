"""Where an item is and what it points at: reading JSON from a URL or path, resolving hrefs.

Items come from anywhere, so nothing in them is trusted: replies are bounded in size and time, and
an item from the network cannot point at a file of this machine.
"""

from __future__ import annotations

import json
import os
import re
import time
import urllib.error
import urllib.parse
import urllib.request
from http.client import HTTPException
from pathlib import Path
from typing import Any

from bai_example.errors import InputError, Unavailable

#: Largest JSON document read, in bytes. STAC items of the big catalogues are 10 to 50 kB.
MAX_BYTES = 16 * 1024 * 1024
#: Seconds a server may stay silent, and seconds one attempt may take in all.
SILENCE, ATTEMPT = 20.0, 60.0
#: Seconds waited before each further attempt.
PAUSES = (0.5, 2.0)
#: What an item from the network may point at. Not file:, nor GDAL's own kind of names, such as
#: NETCDF:… or zip:…, which can name a file of this machine.
REMOTE = frozenset({"", "http", "https", "s3", "gs", "az"})
#: Statuses that may be gone the next time (too many requests, gateway and server trouble).
TEMPORARY = frozenset({408, 429, 500, 502, 503, 504})

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):")


def scheme(location: str) -> str:
    """The scheme of a URL in lower case, such as ``https``; empty for a path."""
    found = _SCHEME.match(location)
    return found[1].lower() if found else ""


def is_remote(location: str) -> bool:
    """Whether ``location`` is an http(s) URL."""
    return scheme(location) in ("http", "https")


def public(location: str) -> str:
    """``location`` as it may be shown: a URL without userinfo, query and fragment.

    A signed URL carries its secret in the query. A path of this machine keeps its ``#``, which is
    a character like others there.
    """
    has_fragment = scheme(location) or location.startswith("/vsi")
    bare = re.split(r"[?#]" if has_fragment else r"\?", location, maxsplit=1)[0]
    # Up to the last @ before the path: a password may hold an @ itself. GDAL's /vsicurl/http://…
    # has its URL in the middle.
    return re.sub(r"://[^/]*@", "://", bare)


def local_path(location: str) -> Path:
    """The absolute path that ``location`` (a path or a ``file:`` URL) names.

    Raises:
        InputError: it has another scheme, or a ``file:`` URL of another host.
    """
    kind = scheme(location)
    if not kind:
        return Path(location).expanduser().absolute()
    if kind != "file":
        raise InputError(
            f"{location}: '{kind}:' is not understood; give a path, or a file:, http: or https: URL"
        )
    parts = urllib.parse.urlsplit(location)
    if parts.netloc not in ("", "localhost"):
        raise InputError(f"{location}: a file: URL must name a file of this machine")
    return Path(urllib.request.url2pathname(parts.path)).absolute()


def read_json(location: str) -> dict[str, Any]:
    """Read the JSON object at a URL or path.

    Raises:
        InputError: it cannot be read, is larger than `MAX_BYTES`, or is no JSON object.
    """
    text = _download(location) if is_remote(location) else _read_file(location)
    try:
        document = json.loads(text)
    except ValueError as error:  # also wrong UTF-8
        raise InputError(f"{public(location)}: not JSON ({error})") from None
    except RecursionError:
        raise InputError(f"{public(location)}: not a STAC item (nested too deeply)") from None
    if not isinstance(document, dict):
        raise InputError(f"{public(location)}: not a STAC item (a JSON {type(document).__name__})")
    return document


def resolve(href: str, base: str) -> str:
    """The absolute form of ``href``, an asset of the item at ``base``.

    Returns:
        A URL as it stands, or the absolute path of a local file, so that a worker in another
        process and folder opens the same file.

    Raises:
        InputError: an item from the network points at a local file.
    """
    kind = scheme(href)
    if is_remote(base):
        if kind not in REMOTE:
            raise InputError(
                f"{public(base)}: an item from the network may not point at {public(href)}"
            )
        return href if kind else urllib.parse.urljoin(base, href)
    if kind == "file":
        return str(local_path(href))
    if kind or href.startswith("/vsi"):  # s3:, https:, … and GDAL's own /vsi… are GDAL's to open
        return href
    return os.path.normpath(local_path(base).parent / href)


def _read_file(location: str) -> bytes:
    path = local_path(location)
    try:
        with path.open("rb") as file:
            text = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise InputError(f"{location}: no such file") from None
    except OSError as error:
        raise InputError(f"{location}: cannot be read ({error.strerror})") from None
    return _bounded(text, location)


def _download(url: str) -> bytes:
    for pause in (*PAUSES, None):
        try:
            return _attempt(url)
        except urllib.error.HTTPError as error:
            error.close()
            if error.code not in TEMPORARY or pause is None:
                kind = Unavailable if error.code in TEMPORARY else InputError
                raise kind(
                    f"{public(url)}: the server answered {error.code} ({error.reason})"
                ) from None
        # HTTPException (a reply cut short) is no OSError; URLError and timeouts are.
        except (OSError, HTTPException) as error:
            if pause is None:
                reason = getattr(error, "reason", None) or error
                raise Unavailable(f"{public(url)}: cannot be reached ({reason})") from None
        except ValueError as error:  # a URL that is none, such as http://[
            raise InputError(f"{public(url)}: not a usable URL ({error})") from None
        time.sleep(pause)
    raise AssertionError("the last attempt returns or raises")


def _attempt(url: str) -> bytes:
    headers = {"Accept": "application/geo+json, application/json", "User-Agent": "bai-example"}
    request = urllib.request.Request(url, headers=headers)
    deadline = time.monotonic() + ATTEMPT
    received = bytearray()
    with urllib.request.urlopen(request, timeout=SILENCE) as reply:
        # Piecewise, because a server that sends a byte now and then never hits the socket's limit.
        while part := reply.read1(65536):
            received += part
            if len(received) > MAX_BYTES:
                break
            if time.monotonic() > deadline:
                raise TimeoutError(f"not complete after {ATTEMPT:.0f} s")
        if reply.length and len(received) <= MAX_BYTES:  # announced and not received
            raise ConnectionError("the reply was cut short")
    return _bounded(bytes(received), url)


def _bounded(text: bytes, location: str) -> bytes:
    if len(text) > MAX_BYTES:
        size = f"{MAX_BYTES // 2**20} MiB"
        raise InputError(f"{public(location)}: larger than {size}, not a STAC item")
    return text
