"""What Dask's own configuration says of a gateway, where it says anything at all."""

from __future__ import annotations

import os
import site
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from dask_claim.errors import Fault
from dask_claim.redact import redact
from dask_claim.spellings import Reading, read

_OF_DASK = {
    "gateway_url": "gateway.address",
    "proxy_url": "gateway.proxy-address",
    "public_url": "gateway.public-address",
}


def said_by_dask(environ: Mapping[str, str]) -> Iterator[tuple[str, Reading]]:
    """Return (place, reading) for each address of a gateway that Dask is configured with."""
    files = [str(path) for path in _dask_files(environ) if _speaks_of_gateway(path)]
    variables = {
        name: value
        for name, value in environ.items()
        if name.startswith("DASK_GATEWAY__") or name == "DASK_INTERNAL_INHERIT_CONFIG"
    }
    if not files and not variables:
        return  # importing Dask to learn that costs more than all the rest
    try:
        import dask.config

        found = dask.config.collect(paths=files, env=variables)
    except (ValueError, TypeError) as error:
        mend = f"cannot be read: {' '.join(str(error).split())}"
        yield "Dask's configuration", Reading(faults=[Fault("", None, mend)])
        return
    for field, key in _OF_DASK.items():
        value = dask.config.get(key, None, config=found)
        if value is None or value == "":
            continue
        try:
            # dask_gateway fills such templates from the environment, too.
            reading = read({field: value.format(**environ) if isinstance(value, str) else value})
        except (KeyError, ValueError, IndexError, AttributeError) as error:
            mend = f"cannot be filled in from the environment: {error!r}"
            reading = Reading(faults=[Fault(field, redact(value), mend)])
        yield f"Dask's configuration ({key})", reading


def _dask_files(environ: Mapping[str, str]) -> Iterator[Path]:
    """List the files of Dask's configuration, weakest first, for this environment."""
    home = environ.get("HOME") or os.path.expanduser("~")
    folders = [
        environ.get("DASK_ROOT_CONFIG", "/etc/dask"),
        *(os.path.join(prefix, "etc", "dask") for prefix in (sys.prefix, *site.PREFIXES)),
        os.path.join(home, ".config", "dask"),
        environ.get("DASK_CONFIG", ""),
    ]
    # Dask, too, takes a folder that is named twice at its stronger place.
    for folder in reversed(list(dict.fromkeys(reversed(folders)))):
        path = Path(folder)
        try:
            inside = sorted(path.iterdir()) if folder and path.is_dir() else []
        except OSError:
            inside = []
        yield from (file for file in inside if file.suffix.lower() in (".json", ".yaml", ".yml"))
        if path.is_file():
            yield path


def _speaks_of_gateway(path: Path) -> bool:
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return False
    # dask_gateway leaves a file there that is comments from top to bottom.
    return any("gateway" in line for line in lines if not line.lstrip().startswith("#"))
