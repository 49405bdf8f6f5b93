"""Dask's own configuration of a gateway, read without importing Dask where there is none."""

from __future__ import annotations

import os
import site
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from dask_claim.claim.spellings import Reading, read
from dask_claim.errors import Fault
from dask_claim.imports import writing_nothing
from dask_claim.redact import names_secret, redact

if TYPE_CHECKING:
    from dask_claim.claim.addresses import GatewayAddress

_OF_DASK = {
    "gateway_url": "gateway.address",
    "proxy_url": "gateway.proxy-address",
    "public_url": "gateway.public-address",
}


def gateway_of_dask(environ: Mapping[str, str]) -> Iterator[tuple[str, Reading]]:
    """Yield (source, reading) for each address of a gateway that Dask is configured with."""
    try:
        configuration = collect(environ)
    except (ValueError, TypeError) as error:
        problem = f"cannot be read: {' '.join(str(error).split())}"
        yield "Dask's configuration", Reading(faults=[Fault((), None, problem)])
        return
    if not configuration:
        return
    import dask.config

    for field, key in _OF_DASK.items():
        value = dask.config.get(key, None, config=configuration)
        if value is None or value == "":
            continue
        try:
            reading = read({field: filled_in(value, environ)})
        except ValueError as error:
            reading = Reading(faults=[Fault((field,), redact(value), str(error))])
        yield f"Dask's configuration ({key})", reading


def filled_in(value: Any, environ: Mapping[str, str]) -> Any:
    """Return a setting of dask_gateway's; a text is a template that the environment fills in.

    Raises ValueError where it cannot.
    """
    if not isinstance(value, str):
        return value
    try:
        return value.format(**environ)
    except KeyError as error:
        raise ValueError(f"{error.args[0]} is not set") from None
    except (ValueError, IndexError, AttributeError, TypeError):
        raise ValueError("cannot be filled in; write {NAME} for a variable, {{ for {") from None


def is_text_of_login(argument: str) -> bool:
    """Whether an argument of an authentication is a text, whatever it looks like."""
    return argument.lower() == "username" or names_secret(argument)


def goes_direct(gateway: GatewayAddress, environ: Mapping[str, str]) -> bool:
    """Whether a gateway is not reached by the HTTP proxy of this process's environment.

    Dask Gateway's client takes `HTTP_PROXY` and `HTTPS_PROXY`, and does not look at `NO_PROXY`.
    `environ` has Dask's configuration.
    """
    if gateway.password is not None:
        return True  # no proxy of the network leads to this machine's loopback
    from urllib.request import getproxies, proxy_bypass  # takes 50 ms, for gateways alone

    parts = urlsplit(gateway.url)
    host = parts.hostname or ""
    host = host if ":" in host else parts.netloc.rpartition("@")[2]
    if parts.scheme not in getproxies() or not proxy_bypass(host):
        return False
    try:
        configuration = collect(environ)
    except (ValueError, TypeError):
        return False
    if not configuration:
        return True
    import dask.config

    # An operator may name a proxy there, too, or switch it off.
    return dask.config.get("gateway.http-client.proxy", True, config=configuration) is True


def collect(environ: Mapping[str, str]) -> dict[str, Any]:
    """Return Dask's configuration for this environment, empty where it mentions no gateway.

    Raises ValueError or TypeError where Dask cannot read it.
    """
    files = [str(path) for path in _dask_files(environ) if _mentions_gateway(path)]
    variables = {
        name: value
        for name, value in environ.items()
        if name.startswith("DASK_GATEWAY__") or name == "DASK_INTERNAL_INHERIT_CONFIG"
    }
    if not files and not variables:
        return {}  # importing Dask to learn that costs more than all the rest
    with writing_nothing():
        import dask.config

    configuration: dict[str, Any] = dask.config.collect(paths=files, env=variables)
    return configuration


def _dask_files(environ: Mapping[str, str]) -> Iterator[Path]:
    """Yield the files of Dask's configuration, weakest first, for this environment."""
    home = environ.get("HOME") or os.path.expanduser("~")
    folders = [
        environ.get("DASK_ROOT_CONFIG", "/etc/dask"),
        *(os.path.join(prefix, "etc", "dask") for prefix in (sys.prefix, *site.PREFIXES)),
        os.path.join(home, ".config", "dask"),
        environ.get("DASK_CONFIG", ""),
    ]
    # Dask, too, takes a folder that is named twice where it is stronger.
    for folder in reversed(list(dict.fromkeys(reversed(folders)))):
        path = Path(folder)
        try:
            inside = sorted(path.iterdir()) if folder and path.is_dir() else []
        except OSError:
            inside = []
        yield from (file for file in inside if file.suffix.lower() in (".json", ".yaml", ".yml"))
        if path.is_file():
            yield path


def _mentions_gateway(path: Path) -> bool:
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return False
    # dask_gateway leaves a file there that is comments from top to bottom.
    return any("gateway" in line for line in lines if not line.lstrip().startswith("#"))
