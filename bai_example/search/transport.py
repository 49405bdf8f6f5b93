"""The requests of pystac-client: with limits of size and time, retried where that may help.

Its own have none of these, and put whole URLs, with whatever secret is in them, into their errors.
"""

from __future__ import annotations

import re
import time
from typing import Any

import requests
from pystac_client.exceptions import APIError
from pystac_client.stac_api_io import StacApiIO

from bai_example import source
from bai_example.errors import InputError, Unavailable
from bai_example.patience import within
from bai_example.search.acquisition import plain


class Transport(StacApiIO):
    """How pystac-client is given its answers; the limits and pauses are those of `source`."""

    def __init__(self) -> None:
        super().__init__(max_retries=None)
        self.session.max_redirects = 5
        self.session.headers["User-Agent"] = "bai-example"

    def read_text(self, source: Any, *args: Any, **kwargs: Any) -> str:
        """Read a link or URL; unlike the method replaced, never a file of this machine."""
        if isinstance(source, str):
            return self.request(source, *args, **kwargs)
        return super().read_text(source, *args, **kwargs)

    def request(
        self,
        href: str,
        method: str | None = None,
        headers: dict[str, str] | None = None,
        parameters: dict[str, Any] | None = None,
    ) -> str:
        """The text of an answer.

        Raises:
            APIError: the server answered with an error, also after the last attempt.
            Unavailable: it cannot be reached.
        """
        if not source.is_remote(href):
            shown = source.public(href)
            raise InputError(f"{shown}: an API may point at http: and https: URLs only")
        method = (method or "GET").upper()
        content = {"json": parameters} if method == "POST" else {"params": parameters}
        request = requests.Request(method, href, headers=headers, **content)
        for pause in (*source.PAUSES, None):
            try:
                return within(source.ATTEMPT, self._attempt, request)
            except APIError as error:
                if status_of(error) not in source.TEMPORARY or pause is None:
                    raise
            except (requests.RequestException, OSError) as error:
                if pause is None:
                    problem = f"{source.public(href)}: cannot be reached ({_why(error)})"
                    raise Unavailable(problem) from None
            time.sleep(pause)
        raise AssertionError("the last attempt returns or raises")

    def _attempt(self, request: requests.Request) -> str:
        prepared = self.session.prepare_request(request)
        settings = self.session.merge_environment_settings(prepared.url, {}, True, None, None)
        received = bytearray()
        with self.session.send(prepared, timeout=self.timeout, **settings) as reply:
            for part in reply.iter_content(65536):
                received += part
                if len(received) > source.MAX_BYTES:
                    shown, size = source.public(prepared.url or ""), source.MAX_BYTES // 2**20
                    raise InputError(f"{shown}: an answer exceeds {size} MiB")
        if not reply.ok:
            # A server may repeat the URL, with its secrets, in its explanation.
            said = re.sub(r"\?\S+", "", bytes(received[:1000]).decode("utf-8", "replace"))
            error = APIError(f"the server answered {reply.status_code} ({plain(said, 200)})")
            error.status_code = reply.status_code
            raise error
        return received.decode("utf-8")


def status_of(error: APIError) -> int | None:
    """The status that a server answered with; None if it did not get that far."""
    return getattr(error, "status_code", None)


def _why(error: BaseException) -> str:
    """The cause of a failed request, without its URL."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, TimeoutError):
            return "no answer in time"
        if isinstance(cause, OSError) and cause.strerror:
            return cause.strerror
        cause = cause.__cause__ or cause.__context__
    return type(error).__name__
