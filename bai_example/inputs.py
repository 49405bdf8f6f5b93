"""A request -> the scenes that the map is made of, and the part of them that is wanted."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from loguru import logger

from bai_example import source
from bai_example.arguments import Request, Search
from bai_example.errors import InputError, merged
from bai_example.load import Crop
from bai_example.scene import Scene
from bai_example.search.area import Area
from bai_example.sign import signer
from bai_example.stac import Signer, read_scene, to_scene, unsigned


class Inputs(NamedTuple):
    """What a map is made of."""

    pre: tuple[Scene, ...]
    """Scenes before the event."""
    post: tuple[Scene, ...]
    """Scenes after it."""
    crop: Crop | None
    """The part that is wanted; None: all."""


def find_inputs(request: Request) -> Inputs:
    """Read the items that a request names, or search for them.

    Raises:
        InputError: with the problems of all.
    """
    sign = signer(request.sign)
    area = _area(request)
    crop = None if area is None else Crop(area.geometry, exact=request.geometry is not None)
    if request.search is None:
        return Inputs(*read_scenes(request.pre_event, request.post_event, sign), crop)
    assert area is not None
    return Inputs(*_searched(request.search, area, sign), crop)


def read_scenes(
    pre: Iterable[str], post: Iterable[str], sign: Signer = unsigned
) -> tuple[tuple[Scene, ...], tuple[Scene, ...]]:
    """Read the items before and after the event, URLs or paths.

    Raises:
        InputError: with the problems of all.
    """
    scenes: dict[str, list[Scene]] = {"pre-event": [], "post-event": []}
    errors: list[InputError] = []
    for (event, found), items in zip(scenes.items(), (pre, post), strict=True):
        for item in items:
            logger.info("{} {}", event.replace("-", " "), source.public(item))
            try:
                found.append(read_scene(item, sign))
            except InputError as error:
                errors.append(type(error)(*(f"{event} item: {each}" for each in error.problems)))
    if errors:
        raise merged(errors)
    # An item that is named twice counts once.
    before, after = (tuple(dict.fromkeys(found)) for found in scenes.values())
    return before, after


def _area(request: Request) -> Area | None:
    if request.bbox is not None:
        return Area.from_bbox(*request.bbox)
    return None if request.geometry is None else Area.from_file(request.geometry)


def _searched(
    wanted: Search, area: Area, sign: Signer
) -> tuple[tuple[Scene, ...], tuple[Scene, ...]]:
    # Not at the top: a tenth of a second, which a run without a search need not wait for.
    from bai_example.search.search import search

    choice = search(
        wanted.api, wanted.collection, area, wanted.event, wanted.window, wanted.max_cloud
    )
    for reason in choice.reasons:
        logger.info("{}", reason)
    before, after = (
        tuple(to_scene(found.document, found.href, sign) for found in event)
        for event in (choice.pre, choice.post)
    )
    return before, after
