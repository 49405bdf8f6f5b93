"""What one gateway is shown: decided here for launcher, guard, `clusters`, `doctor`, program."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from dask_claim.claim.dask_config import collect, is_text_of_login
from dask_claim.claim.names import as_dask_reads
from dask_claim.claim.site import read_site
from dask_claim.credentials import identity
from dask_claim.errors import AuthenticationError, ConfigurationError, DaskClaimError, Exhausted
from dask_claim.redact import redact_text

if TYPE_CHECKING:
    from dask_gateway.auth import GatewayAuth

    from dask_claim.claim.addresses import GatewayAddress
    from dask_claim.claim.model import Resolved

_TYPE = "DASK_GATEWAY__AUTH__TYPE"
_ARGUMENT = "DASK_GATEWAY__AUTH__KWARGS__"
# By their paths: the program imports them, this process would import Dask's client with them.
_SITE_AUTH = "dask_claim.credentials.site_auth.SiteAuth"
_NAME_ONLY = f"{identity.__name__}.{identity.name_only.__name__}"
_OWN_GATEWAY = f"{identity.__name__}.{identity.own_gateway.__name__}"


@dataclass(frozen=True)
class Login:
    """How one gateway is logged in to."""

    auth: GatewayAuth

    source: str | None
    """Where the credentials come from, in words; None where they are withheld."""

    @property
    def withheld(self) -> bool:
        """Whether there are credentials, but this gateway does not get them."""
        return self.source is None

    @property
    def token(self) -> str | None:
        """The token that is sent, where the authentication has one; never to be printed."""
        token = getattr(self.auth, "token", None) or getattr(self.auth, "api_token", None)
        return token if isinstance(token, str) else None

    @property
    def renews(self) -> bool:
        """Whether the authentication gets new tokens by itself."""
        return bool(getattr(self.auth, "renews", False))

    async def prepare(self) -> None:
        """Get what the next request needs: the client's own request would block the event loop."""
        prepare = getattr(self.auth, "prepare", None)
        if prepare is not None:
            await asyncio.to_thread(prepare)


def log_in(gateway: GatewayAddress) -> Login:
    """Return the login for a gateway, with the credentials of this environment as they are now.

    Raises AuthenticationError where the class of the authentication itself fails; at a request its
    methods do so.
    """
    import dask.config
    from dask_gateway.auth import get_auth

    chosen = choose(gateway, os.environ)
    where = f"the Dask Gateway at {redact_text(gateway.url)}, from {chosen.source}"
    with _explained(where):
        configured = {"gateway": {"auth": dask.config.get("gateway.auth", None) or {}}}
        added = dask.config.collect_env(chosen.variables)
        settings = dask.config.merge(configured, added)["gateway"]["auth"]
        arguments = settings.get("kwargs") or {}
        for name, value in arguments.items():
            # From a file Dask makes numbers of digits, which its client cannot send.
            if is_text_of_login(name) and not isinstance(value, (str, bool, type(None))):
                arguments[name] = str(value)
        with dask.config.set({"gateway.auth": {**settings, "kwargs": arguments}}):
            auth = get_auth()
    for name in ("prepare", "pre_request", "post_response"):
        if (method := getattr(auth, name, None)) is not None:
            setattr(auth, name, _explained(where)(method))
    return Login(auth, chosen.source)


class Chosen(NamedTuple):
    """The credentials that a gateway may see."""

    source: str | None
    """Where they come from, in words; None where they are withheld."""

    variables: dict[str, str]
    """How Dask is configured, in this process and in the program's; without configured secrets."""


def choose(gateway: GatewayAddress, environ: Mapping[str, str]) -> Chosen:
    """Return the credentials for a gateway.

    Those of the site's file where they are for it, else those of Dask's configuration. They are
    withheld where there are some, but no operator's source names the gateway.

    Raises ConfigurationError where those of Dask's configuration are needed and cannot be read.
    """
    if gateway.password is not None:
        named = {"USERNAME": identity.user_name(), "PASSWORD": gateway.password}
        kind = _OWN_GATEWAY if _dask_has_secrets(environ) else "basic"
        variables = {f"{_ARGUMENT}{name}": _quote(text) for name, text in named.items()}
        return Chosen("this run", {_TYPE: kind, **variables})
    site = read_site(environ)
    of_site = site.credentials
    if not gateway.trusted and (of_site is not None or _dask_has_secrets(environ)):
        return Chosen(None, {_TYPE: _NAME_ONLY})
    if of_site is not None and of_site.gateway.covers(gateway.url):
        site_file = {f"{_ARGUMENT}SITE_FILE": os.path.abspath(site.path)}
        return Chosen(f"the credentials of {site.path}", {_TYPE: _SITE_AUTH, **site_file})
    variables = {}
    kind, arguments = _auth_of_dask(environ)
    if kind == "basic" and not arguments.get("username") and (user := identity.nameless_user()):
        variables[f"{_ARGUMENT}USERNAME"] = _quote(user)
    for name, value in environ.items():
        # Dask would make a number of a password of digits, which its client cannot send.
        is_text = name.startswith(_ARGUMENT) and is_text_of_login(name[len(_ARGUMENT) :])
        if is_text and isinstance(as_dask_reads(value), (int, float)):
            variables[name] = _quote(value)
    return Chosen("Dask's configuration gateway.auth (DASK_GATEWAY__AUTH__…)", variables)


def describe_withheld(resolved: Resolved) -> str | None:
    """Return a warning where credentials are withheld from the gateway to be used, else None."""
    gateway = resolved.gateway()
    if gateway is None or choose(gateway, resolved.environ).source is not None:
        return None
    own = ", ".join(map(str, resolved.operator_gateways.prefixes()))
    own = own or "no gateway: no operator's source names one"
    return (
        f"No operator's source names the gateway at {redact_text(gateway.url)}, so it gets no "
        f"credentials (they are for {own}); to send them there, set DASK_CLAIM_GATEWAY_URL"
    )


def _auth_of_dask(environ: Mapping[str, str]) -> tuple[Any, Mapping[str, Any]]:
    """Return type and arguments. Raises ConfigurationError where they cannot be read."""
    try:
        configured = collect(environ)
    except (ValueError, TypeError) as error:
        words = redact_text(" ".join(str(error).split()))
        raise ConfigurationError(f"Dask's configuration cannot be read: {words}") from error
    try:
        auth = (configured.get("gateway") or {}).get("auth") or {}
        return auth.get("type", "basic"), dict(auth.get("kwargs") or {})
    except (AttributeError, TypeError, ValueError):
        raise ConfigurationError(
            "gateway.auth in Dask's configuration, or its kwargs: must be a mapping of names and "
            "values"
        ) from None


def _dask_has_secrets(environ: Mapping[str, str]) -> bool:
    """Whether Dask is configured to show a gateway more than a user's name."""
    try:
        kind, arguments = _auth_of_dask(environ)
    except ConfigurationError:
        return True  # withholding what cannot be read does no harm
    return kind not in ("basic", None) or bool(arguments.keys() - {"username"})


@contextmanager
def _explained(where: str) -> Iterator[None]:
    """Raise AuthenticationError for whatever an authentication's class raises.

    It would pass for an error of the gateway's; and a class for a command line may end Python.
    """
    try:
        yield
    except DaskClaimError:
        raise
    except (Exception, SystemExit) as error:
        if exhausted := Exhausted.of(error):
            raise exhausted from error
        text = " ".join(redact_text(f"{type(error).__name__}: {error}").split())
        raise AuthenticationError(
            f"the credentials for {where}, cannot be used: {text[:300]}"
        ) from error


def _quote(text: str) -> str:
    """Return a text as Dask reads it back: 007, 1e3 or None would be something else."""
    as_it_is = not text[:1].isdigit() and as_dask_reads(text) == text
    return text if as_it_is else repr(text)
