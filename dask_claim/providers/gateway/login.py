"""What one gateway is shown: whose credentials, where from, and their token before a request."""

from __future__ import annotations

import asyncio
import getpass
import os
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from dask_claim.claim.dask_config import is_text_of_login
from dask_claim.claim.site import credentials_for
from dask_claim.errors import AuthenticationError, DaskClaimError, Exhausted
from dask_claim.redact import redact_text

if TYPE_CHECKING:
    from dask_gateway.auth import GatewayAuth

T = TypeVar("T")


class Login:
    """How one gateway is logged in to, as often as that is asked for."""

    def __init__(self, url: str, allowed: bool, own: tuple[str, str] | None) -> None:
        """Choose the credentials of the gateway at `url`.

        `allowed` says whether it may see any, `own` are user and password of a gateway of this run.
        """
        self._url, self._allowed, self._own = url, allowed, own
        self.source = "Dask's configuration gateway.auth (DASK_GATEWAY__AUTH__…)"
        """Where they come from, in words."""

        self.user: str | None = None
        """The name used where the system has none for this user."""

    def auth(self) -> GatewayAuth:
        """Return the authentication, with the credentials as they are now.

        Raises
        ------
        AuthenticationError
            Its class itself fails, now or at a request.
        """
        found = self._told(self._chosen)()
        for name in ("prepare", "pre_request", "post_response"):
            if (method := getattr(found, name, None)) is not None:
                setattr(found, name, self._told(method))
        return found

    def _told(self, method: Callable[..., T]) -> Callable[..., T]:
        """Whatever a class of the site's raises, as what it is: no refusal of the gateway's.

        It may be written for a command line, and end Python.
        """

        def call(*arguments: Any, **more: Any) -> T:
            try:
                return method(*arguments, **more)
            except DaskClaimError:
                raise
            except (Exception, SystemExit) as error:
                if exhausted := Exhausted.of(error):
                    raise exhausted from error
                text = " ".join(redact_text(f"{type(error).__name__}: {error}").split())
                raise AuthenticationError(
                    f"the credentials for the Dask Gateway at {redact_text(self._url)}, from "
                    f"{self.source}, cannot be used: {text[:300]}"
                ) from error

        return call

    def _chosen(self) -> GatewayAuth:
        import dask.config
        from dask_gateway.auth import BasicAuth, get_auth
        from dask_gateway.utils import format_template

        from dask_claim.providers.gateway.auth import name_only_auth
        from dask_claim.providers.gateway.site_auth import SiteAuth

        if self._own is not None:
            return BasicAuth(*self._own)
        if not self._allowed:
            return name_only_auth()
        if of_site := credentials_for(self._url, os.environ):
            self.source = f"the credentials of {of_site.path}"
            return SiteAuth()
        said = _texts(dask.config.get("gateway.auth.kwargs", None) or {})
        if dask.config.get("gateway.auth.type", None) == "basic" and not said.get("username"):
            self.user = nameless_user()
        if self.user is None:
            with dask.config.set({"gateway.auth.kwargs": said}):
                return get_auth()
        return BasicAuth(self.user, format_template(said.get("password")))


def _texts(said: Mapping[str, Any]) -> dict[str, Any]:
    """Return arguments with names and secrets as written: Dask makes numbers of digits."""

    def text(name: str, value: Any) -> Any:
        if isinstance(value, (str, bool, type(None))) or not is_text_of_login(name):
            return value
        return os.environ.get(f"DASK_GATEWAY__AUTH__KWARGS__{name.upper()}", str(value))

    return {name: text(name, value) for name, value in said.items()}


def nameless_user() -> str | None:
    """Return a name for the user where the system has none, else None.

    A container may run under a uid without a passwd entry, and Dask Gateway's basic
    authentication then fails with a KeyError. The launcher and the command must agree on the name.
    """
    try:
        getpass.getuser()
    except (KeyError, OSError):
        return f"uid-{os.getuid()}"
    return None


def user_name() -> str:
    """Return this user's name, in any case."""
    return nameless_user() or getpass.getuser()


def token_of(auth: object) -> str | None:
    """Return the token that an authentication, ours or JupyterHub's, shows, if it has one."""
    token = getattr(auth, "token", None) or getattr(auth, "api_token", None)
    return token if isinstance(token, str) else None


async def prepared(auth: object) -> None:
    """Have an authentication get what the next request needs.

    The client calls it inside the event loop, where none may block.
    """
    prepare = getattr(auth, "prepare", None)
    if prepare is not None:
        await asyncio.to_thread(prepare)
