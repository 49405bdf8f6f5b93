"""How a stranger's items are had: hrefs, their signing, bounded requests, and one kind of error."""

from __future__ import annotations

import importlib
import logging
import os
import re
import time
import urllib.parse
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pystac_client.stac_api_io import StacApiIO
from urllib3.exceptions import HTTPError
from urllib3.util import Retry

#: Statuses that may be gone the next time (too many requests, gateway and server trouble).
TEMPORARY = frozenset({408, 429, 500, 502, 503, 504})
#: Largest answer read, bytes (items have 10 to 50 kB); seconds that a server may stay silent, and
#: that an answer may take; seconds before the second further attempt, doubled for the next.
MAX_BYTES, SILENCE, PATIENCE, BACKOFF = 16 * 2**20, 20.0, 60.0, 0.5

#: Makes an href that may be read out of one that may not.
Signer = Callable[[str], str]


class InputError(Exception):
    """Inputs that cannot be used; each of ``problems`` is one readable line. Exit status 1."""

    exit_status = 1

    def __init__(self, *problems: str) -> None:
        super().__init__(*problems)
        self.problems = problems

    def __str__(self) -> str:
        return "\n".join(self.problems)


class Unavailable(InputError):
    """An input that cannot be had just now: the same run may succeed later. Exit status 75."""

    exit_status = 75


def merged(errors: list[InputError]) -> InputError:
    """One error with all their problems; temporary only where all of them are."""
    kind = Unavailable if all(isinstance(e, Unavailable) for e in errors) else InputError
    return kind(*(problem for error in errors for problem in error.problems))


@contextmanager
def reading(what: str, kind: str = "STAC item") -> Iterator[None]:
    """Where a stranger's data are read: whatever fails, since they are malformed, is an error."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # pystac's, of old versions and deprecated extensions
            yield
    except InputError:
        raise
    except Exception as error:  # repr() keeps to one line
        said = getattr(error, "strerror", None)
        reason = said.lower() if said else f"no usable {kind} ({error!r:.200})"
        raise InputError(public(f"{what}: {reason}")) from None


def signer(name: str | None) -> Signer:
    """The function that signs hrefs: ``planetary-computer``, or any ``module:function``.

    Raises:
        InputError: there is no such function. And so does the one returned, where signing fails.
    """
    if name is None:
        return str
    path = "planetary_computer:sign_url" if name == "planetary-computer" else name
    module, _, function = path.partition(":")
    known = "module:function (nor planetary-computer, of dask-claim[planetary-computer])"
    with reading(f"--sign {name}", known):
        sign = getattr(importlib.import_module(module), function)

    def signed(href: str) -> str:
        try:
            return "".join([sign(href)])  # a TypeError for what is no text
        except Exception as error:  # its text may hold the token or the signed href
            status = getattr(getattr(error, "response", None), "status_code", None)
            kind = Unavailable if status in TEMPORARY else InputError
            said = f"{type(error).__name__}, status {status}"
            raise kind(f"{public(href)}: the signer {name} failed ({said})") from None

    return signed


def scheme(href: str) -> str:
    """The scheme of a URL in lower case, such as ``https``; empty for a path."""
    found = re.match(r"([A-Za-z][A-Za-z0-9+.-]*):", href)
    return found[1].lower() if found else ""


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


class Transport(StacApiIO):
    """pystac-client's requests: retried by urllib3, bounded, and to servers only."""

    def __init__(self) -> None:
        retry = Retry(
            total=2, backoff_factor=BACKOFF, status_forcelist=TEMPORARY, allowed_methods=None,
            raise_on_status=False, respect_retry_after_header=False,
        )  # fmt: skip
        super().__init__(max_retries=retry)
        logging.getLogger("urllib3").setLevel(logging.ERROR)  # it logs URLs whole

    def read_text(self, source: Any, *args: Any, **kwargs: Any) -> str:
        """Read a link or URL; unlike the method replaced, never a file of this machine."""
        read = self.request if isinstance(source, str) else super().read_text
        return read(source, *args, **kwargs)

    def request(
        self, href: str, method: str | None = None, headers: Any = None, parameters: Any = None
    ) -> str:
        """The text of an answer; `Unavailable` or `InputError` where there is none."""
        shown, content = public(href), b""
        options = {"json" if method == "POST" else "params": parameters, "headers": headers}
        try:
            with self.session.request(
                method or "GET", href, stream=True, timeout=SILENCE, **options
            ) as reply:
                deadline = time.monotonic() + PATIENCE
                # As it comes: a server that sends a byte now and then never stays silent.
                while part := reply.raw.read1(65536, decode_content=True):
                    content += part
                    if len(content) > MAX_BYTES or time.monotonic() > deadline:
                        raise InputError(f"{shown}: the answer is too large, or takes too long")
        except ValueError:  # of requests, for what is no URL or has another scheme
            raise InputError(f"{shown}: not a usable URL; give one with http(s):") from None
        except (OSError, HTTPError) as error:  # of requests and urllib3, with the URL in their text
            raise Unavailable(f"{shown}: cannot be reached ({type(error).__name__})") from None
        text = content.decode("utf-8", "replace")
        if not reply.ok:
            said = re.sub(r"\?\S+", "", " ".join(text[:200].split()))  # it may repeat the URL
            kind = Unavailable if reply.status_code in TEMPORARY else InputError
            raise kind(f"{shown}: the server answered {reply.status_code} ({said})")
        return text
