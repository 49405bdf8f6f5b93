"""Stage-in: fetches one file from an HTTP server into a folder, whole or not at all.

    python stage_in.py URL FOLDER

Exit status: 0; 1: the file cannot be had (no such file, no access, not a file's URL); 75: the
server cannot be reached, is overloaded or cut the download off, and another try may succeed.
"""

from __future__ import annotations

import os
import re
import sys
import time
from pathlib import Path
from urllib.parse import unquote, urlsplit

import requests

TEMPORARY = {408, 425, 429, 500, 502, 503, 504}
TRIES = 3
PAUSE = 1.0
"""Seconds before the second try; each further one waits twice as long."""
TIMEOUT = (10, 60)
"""Seconds to connect, and without a byte."""
LARGEST = 16 * 2**30
"""Bytes. A scene's band has far less; a server that never stops must not fill the disk."""


class Failure(Exception):
    """The file cannot be had."""

    status = 1


class Later(Failure):
    """The file cannot be had now."""

    status = 75


def public(url: str) -> str:
    """The URL without user, query and fragment, which may hold secrets."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def file_name(url: str) -> str:
    """The last part of the URL's path.

    Raises:
        Failure: it is no HTTP URL, or that part cannot be the name of a file.
    """
    try:
        parts = urlsplit(url)
    except ValueError:
        parts = urlsplit("")
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise Failure("the input must be an http:// or https:// URL")
    name = unquote(parts.path.rpartition("/")[2])
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,200}", name):
        raise Failure(f"{public(url)}: does not end in the name of a file")
    return name


def download(url: str, path: Path) -> None:
    """Write the content of `url` to `path`.

    Raises:
        Later: the server is away or overloaded, or the content is not complete.
        Failure: anything else.
    """
    try:
        # Compressed on the way, its length would not be known.
        headers = {"Accept-Encoding": "identity"}
        with requests.get(url, stream=True, timeout=TIMEOUT, headers=headers) as answer:
            if answer.status_code != 200:
                kind = Later if answer.status_code in TEMPORARY else Failure
                raise kind(f"the server answers {answer.status_code} {answer.reason}")
            if answer.headers.get("Content-Type", "").startswith("text/html"):
                raise Failure("the server sends a web page, not a file (does it want a login?)")
            got = 0
            with path.open("wb") as file:
                for block in answer.iter_content(2**20):
                    got += len(block)
                    if got > LARGEST:
                        raise Failure(f"larger than {LARGEST} bytes")
                    file.write(block)
    # The messages of requests show the URL with its query: only the kind of error is told.
    except requests.exceptions.SSLError:
        raise Failure("the server's certificate is not accepted") from None
    except requests.exceptions.ChunkedEncodingError:
        raise Later("the download was cut off") from None
    except (requests.ConnectionError, requests.Timeout) as error:
        raise Later(f"the server cannot be reached ({type(error).__name__})") from None
    except requests.RequestException as error:
        raise Failure(f"cannot be downloaded ({type(error).__name__})") from None


def stage_in(url: str, folder: Path) -> Path:
    """Fetch `url` into `folder`, which is made; what may pass is tried again."""
    path = folder / file_name(url)
    part = Path(f"{path.name}.part")  # not in the folder: there is a whole file or none
    folder.mkdir(parents=True, exist_ok=True)
    for attempt in range(TRIES):
        try:
            download(url, part)
        except Failure as error:
            part.unlink(missing_ok=True)
            told = type(error)(f"{public(url)}: {error}")
            if not isinstance(error, Later) or attempt == TRIES - 1:
                raise told from None
            print(f"stage-in: {told}; trying again", file=sys.stderr)
            time.sleep(PAUSE * 2**attempt)
        else:
            os.replace(part, path)
            return path
    raise AssertionError("unreachable")


if __name__ == "__main__":
    try:
        image = stage_in(sys.argv[1], Path(sys.argv[2]))
    except Failure as failure:
        print(f"stage-in: {failure}", file=sys.stderr)
        sys.exit(failure.status)
    print(f"{image.name}: {image.stat().st_size} bytes")
