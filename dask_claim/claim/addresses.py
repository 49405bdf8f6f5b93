"""Addresses of gateways: which of them an operator's source names, by scheme, host, port, path."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote, urlsplit

from dask_claim.claim import units

if TYPE_CHECKING:
    from dask_claim.claim.fields import ClaimFields

DEFAULT_PORTS = {"http": 80, "https": 443}

_DOTS = (".", "..")


@dataclass(frozen=True, order=True)
class UrlPrefix:
    """An http or https address and all below it, by whole segments of the path.

    Two spellings of one address are equal: case of scheme and host, the default port, escapes,
    `.`, `..`, `//`, a slash at the end. User, query and fragment do not count.
    """

    scheme: str
    host: str
    port: int
    path: tuple[str, ...] = ()

    @classmethod
    def of(cls, url: str) -> UrlPrefix:
        """Return the prefix that `url` stands for.

        Raises ValueError if it is no http or https URL, or one that servers interpret differently.
        """
        if "\\" in url or not url.isprintable():
            raise ValueError("has characters that an address cannot have")
        parts = urlsplit(units.web_address(url))
        port = parts.port or DEFAULT_PORTS[parts.scheme]
        return cls(parts.scheme, parts.hostname or "", port, _segments(parts.path))

    def covers(self, url: str) -> bool:
        """Whether `url` is this address or one below it."""
        try:
            other = UrlPrefix.of(url)
        except ValueError:
            return False
        same = (self.scheme, self.host, self.port) == (other.scheme, other.host, other.port)
        return same and other.path[: len(self.path)] == self.path

    @property
    def origin(self) -> str:
        """Scheme, host and port."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}"

    def __str__(self) -> str:
        return "/".join([self.origin, *map(quote, self.path)])


@dataclass(frozen=True)
class OperatorGateways:
    """The gateways that the operator's sources name: only these may see credentials."""

    urls: frozenset[str] = frozenset()

    def include(self, url: str) -> bool:
        """Whether `url` is one of these gateways, or below one."""
        return url in self.urls or any(prefix.covers(url) for prefix in self.prefixes())

    def prefixes(self) -> list[UrlPrefix]:
        """Return them in order, without those that servers interpret differently."""
        prefixes = set()
        for url in self.urls:
            with suppress(ValueError):
                prefixes.add(UrlPrefix.of(url))
        return sorted(prefixes)


@dataclass(frozen=True)
class GatewayAddress:
    """Where a gateway is, and whether it may see credentials."""

    url: str
    proxy_url: str | None = None
    public_url: str | None = None

    trusted: bool = False
    """Whether an operator's source names this gateway, or an address above it."""

    password: str | None = field(default=None, repr=False)
    """That of a gateway of this run, on this machine."""

    @classmethod
    def of(
        cls, claim: ClaimFields, operators: OperatorGateways, url: str | None = None
    ) -> GatewayAddress | None:
        """Return the address of a claim's gateway, None where it has none.

        `url` is the gateway to be used, where that may be another one: what the claim says of its
        own is not for that.
        """
        if (url := url or claim.gateway_url) is None:
            return None
        same = url == claim.gateway_url
        proxy, public = (claim.proxy_url, claim.public_url) if same else (None, None)
        return cls(url.rstrip("/"), proxy, public, operators.include(url))


def is_loopback(url: str) -> bool:
    """Whether an address is one of this machine's own, which nobody else reaches."""
    from ipaddress import ip_address

    try:
        host = urlsplit(url).hostname or ""
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def _segments(path: str) -> tuple[str, ...]:
    segments: list[str] = []
    parts = path.split("/")
    for part in map(unquote, parts):
        # A second decoding, or a server that drops what follows ";", would make another path of it.
        doubtful = not part.isprintable() or {"/", "\\", "%", "\ufffd"} & set(part)
        if doubtful or (part not in _DOTS and part.partition(";")[0].strip() in _DOTS):
            raise ValueError(f"has a path that servers interpret differently: {path}")
        if part == "..":
            del segments[-1:]
        elif part not in ("", "."):
            segments.append(part)
    # "a//../b" is "a/b" to some and "b" to others.
    if ".." in map(unquote, parts) and "" in parts[1:-1]:
        raise ValueError(f"has a path that servers interpret differently: {path}")
    return tuple(segments)
