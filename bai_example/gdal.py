"""How GDAL reads: its settings, and its errors as `InputError`."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import rasterio
from rasterio.errors import RasterioError

from bai_example import source
from bai_example.errors import InputError, Unavailable

#: Settings for every read, here and on the workers. Given with each read, because a worker's
#: environment belongs to the operator of the cluster.
SETTINGS: dict[str, Any] = {
    # No listing of the folder beside a raster: over HTTP that is one more request per file.
    "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR",
    # A COG's header is read in one request; 16 kB (the default) is too small for a full tile's.
    "GDAL_INGESTED_BYTES_AT_OPEN": 32768,
    # Adjacent byte ranges in one request; several at once where the server speaks HTTP/2.
    "GDAL_HTTP_MERGE_CONSECUTIVE_RANGES": "YES",
    "GDAL_HTTP_MULTIPLEX": "YES",
    "GDAL_HTTP_VERSION": "2TLS",
    # A busy server (429, 502, 503, 504) is asked again before the run fails.
    "GDAL_HTTP_MAX_RETRY": 3,
    "GDAL_HTTP_RETRY_DELAY": 1,
    # A server that stalls is an error after some minutes, retries included, not a run that never
    # ends.
    "GDAL_HTTP_CONNECTTIMEOUT": 15,
    "GDAL_HTTP_LOW_SPEED_TIME": 15,
    "GDAL_HTTP_LOW_SPEED_LIMIT": 1,
    # GDAL keeps decoded tiles, by default in 5 % of the host's memory, whatever the container's
    # limit. Every tile is used once here, so a little is enough.
    "GDAL_CACHEMAX": 64,
}

#: What GDAL and curl say of trouble that may be gone the next time. Of a server that fails amid a
#: tile GDAL says no more than how many bytes are missing.
_TEMPORARY = re.compile(
    r"(response[_ ]code|HTTP error code) ?[:=] ?(408|429|5\d\d)|timed? ?out|too slow"
    r"|connect to|connection (reset|refused|closed)|resolve host|Empty reply|transfer closed"
    r"|Read error .*; got \d+ bytes, expected",
    re.IGNORECASE,
)
#: What of a URL may be a secret: user and password, and the query of one that is signed.
_SECRET = re.compile(r"(?<=://)[^/\s'\"]*@|\?[^\s'\"]*")
#: Seconds waited before each further attempt at a remote raster.
PAUSES = (1.0, 4.0)

T = TypeVar("T")


def with_raster(href: str, use: Callable[[rasterio.DatasetReader], T]) -> T:
    """Open a raster, use it, close it; a remote one again where the trouble may be gone.

    A file of its own for each use: no lock, and no handle shared between threads.

    Args:
        href: what GDAL opens.
        use: is called with the open raster, and once more after trouble.

    Raises:
        InputError: it cannot be opened or read; the message names it.
        Unavailable: and trying again later may help.
    """
    problem, temporary, settings = "", False, SETTINGS
    for pause in (*(PAUSES if _is_remote(href) else ()), None):
        try:
            with rasterio.Env(**settings), rasterio.open(href) as raster:
                return use(raster)
        except (RasterioError, OSError) as error:
            said = [_without_secrets(" ".join(str(each).split())) for each in _causes(error)]
        # rasterio's own message is vaguer than its cause.
        problem = said[min(1, len(said) - 1)]
        temporary = _is_remote(href) and any(map(_TEMPORARY.search, said))
        if pause is None or not temporary:
            break
        time.sleep(pause)
        # What GDAL remembers of the file is the failure.
        settings = {**SETTINGS, "CPL_VSIL_CURL_NON_CACHED": "/vsicurl/:/vsis3/"}
    # Not from within the handler: an exception travels to the client together with its context,
    # and GDAL's exceptions cannot be pickled.
    kind = Unavailable if temporary else InputError
    raise kind(f"{source.public(href)}: cannot be read ({problem})")


def _is_remote(href: str) -> bool:
    return bool(source.scheme(href)) or href.startswith(("/vsicurl", "/vsis3", "/vsigs", "/vsiaz"))


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """The error, what it was raised from, and so on."""
    while error is not None:
        yield error
        error = error.__cause__


def _without_secrets(text: str) -> str:
    """Text of GDAL's, which names URLs whole."""
    return _SECRET.sub("", text)


def _clean(record: logging.LogRecord) -> bool:
    record.msg, record.args = _without_secrets(record.getMessage()), ()
    return True


# rasterio logs the URLs that it opens, and what GDAL warns of; and a worker's log may be read by
# others.
logging.getLogger("rasterio").setLevel(logging.WARNING)
for _name in ("rasterio._env", "rasterio._err"):
    logging.getLogger(_name).addFilter(_clean)
