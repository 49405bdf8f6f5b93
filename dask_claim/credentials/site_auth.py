"""The credentials of the site's file, as the launcher, its guard and the program show them.

The program finds `DASK_GATEWAY__AUTH__TYPE` set to `SiteAuth`, and the path of the site's file:
it reads that for itself, so that no secret is handed on.
"""

from __future__ import annotations

import inspect
import os
import threading
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

from dask_gateway.auth import BasicAuth, GatewayAuth

from dask_claim.claim.site import read_site
from dask_claim.claim.site_credentials import KINDS
from dask_claim.credentials.identity import Secret, name_only, nameless_user


class SiteAuth(GatewayAuth):  # type: ignore[misc,unused-ignore]
    """Shows the site's credentials to the gateway that they are for, and a name to others."""

    def __init__(self, site_file: str | None = None, **configured: Any) -> None:
        """Read the site's file again: `site_file`, or that of the variables.

        Whatever else is `configured` in Dask's configuration is for other gateways. Raises
        ValueError where the file has no credentials, else what their class raises.
        """
        site = read_site({"DASK_CLAIM_SITE": site_file} if site_file else os.environ)
        if site.credentials is None:
            why = "; ".join(map(str, site.faults)) or "the file has none"
            raise ValueError(f"no credentials in {site.path}: {why}")
        self._credentials, self._folder = site.credentials, Path(site.path).absolute().parent
        kind = site.credentials.type
        self._class = resolve_name(KINDS.get(kind, kind))
        if not (isinstance(self._class, type) and issubclass(self._class, GatewayAuth)):
            raise TypeError(f"{kind} is not a subclass of dask_gateway.auth.GatewayAuth")
        self._lock = threading.Lock()
        self._arguments = self._read()
        self._inner = self._class(**self._arguments)

    def __getattr__(self, name: str) -> Any:
        """Return what the class has besides: its `token`, and whether it `renews` that."""
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self._inner, name)

    def prepare(self) -> None:
        """Have what the next request needs; may block."""
        prepare = getattr(self._current(), "prepare", None)
        if prepare is not None:
            prepare()

    def pre_request(self, resp: Any) -> tuple[dict[str, str], Any]:
        """Return the headers for a request that was answered with 401, and who made them."""
        if not self._credentials.gateway.covers(str(resp.url)):
            # The program's own code, or a redirection, has led somewhere else.
            return name_only().pre_request(resp)[0], None
        inner = self._current()
        headers, context = inner.pre_request(resp)
        return headers, (inner, context)

    def post_response(self, resp: Any, context: Any = None) -> None:
        """Pass the answer on to the authentication that made the headers."""
        if context is not None:
            inner, its_own = context
            inner.post_response(resp, its_own)

    def _current(self) -> GatewayAuth:
        """The authentication with its files as they are now."""
        with self._lock:
            try:
                arguments = self._read()
            except (OSError, ValueError):
                # While a file is being replaced the last content may still be accepted.
                return self._inner
            if arguments != self._arguments:
                self._arguments, self._inner = arguments, self._class(**arguments)
            return self._inner

    def _read(self) -> dict[str, Any]:
        """The arguments of the class; `NAME_file` and `NAME_env` give NAME, unless it has them."""
        parameters = inspect.signature(self._class).parameters
        arguments: dict[str, Any] = {}
        for name, value in self._credentials.arguments.items():
            plain, _, kind = name.rpartition("_")
            if kind == "file":
                value = str(self._folder / str(value))
            if not plain or kind not in ("file", "env") or name in parameters:
                arguments[name] = value
            elif kind == "file":
                arguments[plain] = Secret(plain, file=value).read()
            elif value in os.environ:
                arguments[plain] = os.environ[value]
            else:
                raise ValueError(f"the variable {value}, which {name} names, is not set")
        if self._class is BasicAuth and (user := nameless_user()):
            arguments.setdefault("username", user)
        return arguments
