"""What one gateway is shown: asked for here by launcher, guard, `clusters` and `doctor` alike."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from dask_claim.claim.dask_config import collected, is_text_of_login
from dask_claim.claim.site import read_site
from dask_claim.credentials.identity import name_only, nameless_user, token_of
from dask_claim.errors import AuthenticationError, DaskClaimError, Exhausted
from dask_claim.redact import redact_text

if TYPE_CHECKING:
    from dask_gateway.auth import GatewayAuth

    from dask_claim.claim.addresses import GatewayAddress, OperatorGateways
    from dask_claim.claim.site_credentials import Credentials

T = TypeVar("T")

HOW_TO_ALLOW = "to send them there, set DASK_CLAIM_GATEWAY_URL"


@dataclass(frozen=True)
class Login:
    """How one gateway is logged in to."""

    auth: GatewayAuth

    source: str | None
    """Where the credentials come from, in words; None where they are withheld."""

    user: str | None = None
    """The name used where the system has none for this user."""

    own_gateway: bool = False
    """Whether it is that of a run's own gateway, on this machine."""

    @property
    def withheld(self) -> bool:
        """Whether there are credentials, but this gateway does not get them."""
        return self.source is None

    @property
    def token(self) -> str | None:
        """The token that is sent, where the authentication has one; never to be printed."""
        return token_of(self.auth)

    @property
    def renews(self) -> bool:
        """Whether the authentication gets new tokens by itself."""
        return bool(getattr(self.auth, "renews", False))

    async def prepare(self) -> None:
        """Get what the next request needs: the client itself asks inside the event loop."""
        prepare = getattr(self.auth, "prepare", None)
        if prepare is not None:
            await asyncio.to_thread(prepare)


def own_gateway_login(user: str, password: str) -> Login:
    """Return the login for a run's own gateway."""
    from dask_gateway.auth import BasicAuth

    return Login(BasicAuth(user, password), "this run", own_gateway=True)


def log_in(gateway: GatewayAddress) -> Login:
    """Return the login for a gateway, with the credentials of this environment as they are now.

    Raises
    ------
    AuthenticationError
        The class of the authentication itself fails, now or at a request.
    """
    from dask_claim.credentials.site_auth import SiteAuth

    chosen, user = choose(gateway, os.environ), None
    if chosen == "withheld":
        return Login(name_only(), None)
    if chosen == "Dask's":
        source = "Dask's configuration gateway.auth (DASK_GATEWAY__AUTH__…)"
        user = _nameless_user_of_dask()
        make: Callable[[], GatewayAuth] = lambda: _of_dask(user)  # noqa: E731
    else:
        source, make = f"the credentials of {chosen.path}", SiteAuth
    where = f"the credentials for the Dask Gateway at {redact_text(gateway.url)}, from {source}"
    auth = _explaining(make, where)()
    for name in ("prepare", "pre_request", "post_response"):
        if (method := getattr(auth, name, None)) is not None:
            setattr(auth, name, _explaining(method, where))
    return Login(auth, source, user)


def choose(
    gateway: GatewayAddress, environ: Mapping[str, str]
) -> Credentials | Literal["Dask's", "withheld"]:
    """Return which of the configured credentials a gateway may see.

    Those of the site's file where they are for it, else those of Dask's configuration. `withheld`:
    there are some, but no operator's source names the gateway.
    """
    of_site = read_site(environ).credentials
    if not gateway.trusted and (of_site is not None or dask_has_secrets(environ)):
        return "withheld"
    return of_site if of_site is not None and of_site.gateway.covers(gateway.url) else "Dask's"


def withheld_warning(
    gateway: GatewayAddress | None, operators: OperatorGateways, environ: Mapping[str, str]
) -> str | None:
    """Return a warning where credentials are withheld from the gateway to be used, else None."""
    if gateway is None or choose(gateway, environ) != "withheld":
        return None
    return f"{why_withheld(gateway, operators)}; {HOW_TO_ALLOW}"


def why_withheld(gateway: GatewayAddress, operators: OperatorGateways) -> str:
    """Return to which gateways the credentials belong that this one does not get."""
    own = ", ".join(map(str, operators.prefixes())) or "no gateway: no operator's source names one"
    return (
        f"No operator's source names the gateway at {redact_text(gateway.url)}, so it gets no "
        f"credentials (they are for {own})"
    )


def dask_has_secrets(environ: Mapping[str, str]) -> bool:
    """Whether Dask is configured to show a gateway more than a user's name."""
    try:
        auth = (collected(environ).get("gateway") or {}).get("auth") or {}
        more = set(auth.get("kwargs") or {}) - {"username"}
    except (ValueError, TypeError, AttributeError):
        return True  # withholding what cannot be read does no harm
    return auth.get("type", "basic") not in ("basic", None) or bool(more)


def _nameless_user_of_dask() -> str | None:
    import dask.config

    named = (dask.config.get("gateway.auth.kwargs", None) or {}).get("username")
    basic = dask.config.get("gateway.auth.type", None) == "basic"
    return nameless_user() if basic and not named else None


def _of_dask(user: str | None) -> GatewayAuth:
    import dask.config
    from dask_gateway.auth import get_auth

    arguments = dict(_texts(dask.config.get("gateway.auth.kwargs", None) or {}))
    if user is not None:
        arguments["username"] = user
    with dask.config.set({"gateway.auth.kwargs": arguments}):
        return get_auth()


def _texts(arguments: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield names and secrets as they were written: Dask makes numbers of digits."""
    for name, value in arguments.items():
        if is_text_of_login(name) and not isinstance(value, (str, bool, type(None))):
            value = os.environ.get(f"DASK_GATEWAY__AUTH__KWARGS__{name.upper()}", str(value))
        yield name, value


def _explaining(method: Callable[..., T], where: str) -> Callable[..., T]:
    """Return `method`, raising AuthenticationError for whatever an authentication's class raises.

    It would pass for an error of the gateway's; and a class for a command line may end Python.
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
            raise AuthenticationError(f"{where}, cannot be used: {text[:300]}") from error

    return call
