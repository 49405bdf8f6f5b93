"""What a map was made of and with: inputs, command, claim and software, without secrets."""

from __future__ import annotations

import platform
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any, NamedTuple

import rasterio

if TYPE_CHECKING:
    from bai_example.scene import Scene

#: Distributions whose version may show in the numbers or in the files.
PACKAGES = ("dask-claim", "dask", "distributed", "numpy", "rasterio")

# scheme://userinfo@ host/path ?query#fragment, also within a longer text (/vsicurl/https://…).
_URL = re.compile(r"(\w[\w+.-]*://)(?:[^/?#\s]*@)?([^?#\s]*)(?:[?#]\S*)?")


class Input(NamedTuple):
    """A STAC item that the map was made of."""

    event: str
    """``pre-event`` or ``post-event``."""
    id: str
    href: str
    """Absolute path or URL, without userinfo and query."""


@dataclass(frozen=True)
class Provenance:
    """What somebody needs to judge the map, or to make it again."""

    inputs: tuple[Input, ...]
    """The items, pre-event first."""
    software: Mapping[str, str]
    """Name and version of each package that took part, of GDAL and of Python."""
    command: tuple[str, ...]
    """Program and arguments; empty where the map was made from Python."""
    claim: Mapping[str, Any] | None
    """The cluster that was asked for, in JSON types; None where that is not known."""


def collect(
    pre: Sequence[Scene],
    post: Sequence[Scene],
    *,
    command: Iterable[str] = (),
    claim: Mapping[str, Any] | None = None,
) -> Provenance:
    """Gather the provenance of a map.

    Userinfo and queries (which carry signatures) are cut off every URL. Other secrets, such as a
    token among the arguments, are the caller's to mask.

    Args:
        pre: the scenes before the event.
        post: the scenes after it.
        command: program and arguments.
        claim: the effective claim, in JSON types.
    """
    return Provenance(
        inputs=tuple(
            Input(event, scene.id, clean_href(scene.href))
            for event, scenes in (("pre-event", pre), ("post-event", post))
            for scene in scenes
        ),
        software=software(),
        command=tuple(clean_href(argument) for argument in command),
        claim=None if claim is None else _clean(claim),
    )


def clean_href(text: str) -> str:
    """The text with each URL in it cut to scheme, host and path; a path stays as it is."""
    return _URL.sub(r"\1\2", text)


def software() -> dict[str, str]:
    """Name and version of what computes; a package that is not installed as one is left out."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found | {"GDAL": rasterio.__gdal_version__, "Python": platform.python_version()}


def _clean(value: Any) -> Any:
    if isinstance(value, str):
        return clean_href(value)
    if isinstance(value, Mapping):
        return {name: _clean(item) for name, item in value.items()}
    return [_clean(item) for item in value] if isinstance(value, (list, tuple)) else value
