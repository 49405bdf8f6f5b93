"""A STAC API: its items and collections by pystac-client, page by page.

What it raises becomes `InputError`, and what it finds is kept from passing for a local file.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import itertools
import urllib.parse
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import shapely
from pystac_client import Client
from pystac_client.exceptions import APIError
from shapely.geometry import mapping

from bai_example import source
from bai_example.errors import InputError, Unavailable
from bai_example.search.acquisition import Found
from bai_example.search.area import MAX_POINTS, Area
from bai_example.search.transport import Transport, status_of

#: Items asked for in one request. Servers may give fewer, and follow with more pages.
PAGE = 100
#: Items that a search may find: a year of one tile has 300.
MAX_ITEMS = 1000
#: Status of a method that a server does not have. To search by POST is optional for an API; it is
#: tried first because a geometry may be too long for a URL.
NOT_ALLOWED = 405
#: Collections that an error may have to list.
MAX_COLLECTIONS = 1000


def is_api(document: Mapping[str, Any]) -> bool:
    """Whether a catalogue's JSON is the landing page of an API that can be searched."""
    conforms = document.get("conformsTo")
    return isinstance(conforms, list) and any("item-search" in str(uri) for uri in conforms)


class Refused(InputError):
    """The API can be reached, and refuses what it is asked."""


class Api:
    """A STAC API that can be searched."""

    def __init__(self, url: str) -> None:
        self._url = url

    def items(
        self, collection: str, area: Area, first: dt.datetime, last: dt.datetime
    ) -> list[Found]:
        """Search, and follow the pages.

        Args:
            collection: id of the collection.
            area: what the items must meet.
            first: earliest time of acquisition.
            last: latest one.

        Raises:
            Unavailable: the API cannot be reached, or not now.
            Refused: it answers with an error.
            InputError: it answers nonsense, or has more than `MAX_ITEMS`.
        """
        asked = area.shape
        if shapely.get_num_coordinates(asked) > MAX_POINTS:
            asked = asked.envelope
        with self._explained():
            client = self._open()

            def documents_by(method: str) -> list[dict[str, Any]]:
                search = client.search(
                    method=method,
                    collections=[collection],
                    intersects=mapping(asked),
                    datetime=(first, last),
                    limit=PAGE,
                )
                return list(itertools.islice(search.items_as_dicts(), MAX_ITEMS + 1))

            try:
                documents = documents_by("POST")
            except APIError as error:
                if status_of(error) != NOT_ALLOWED:
                    raise
                documents = documents_by("GET")
        if len(documents) > MAX_ITEMS:
            raise InputError(
                f"{source.public(self._url)}: more than {MAX_ITEMS} items of {collection} "
                "meet the area in that time; try a smaller area or --window"
            )
        return [
            Found(document, self._location(document, collection))
            for document in documents
            if isinstance(document, dict)
        ]

    def collections(self) -> list[str]:
        """The ids of the API's collections; empty if it does not tell them."""
        with contextlib.suppress(InputError), self._explained():
            found = itertools.islice(self._open().get_collections(), MAX_COLLECTIONS)
            return [collection.id for collection in found]
        return []

    def _open(self) -> Client:
        return Client.open(self._url, stac_io=Transport(), timeout=source.SILENCE)

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        """Turn what pystac-client raises into an `InputError`."""
        try:
            with warnings.catch_warnings():
                # Of what an API should do and does not; all of it is dealt with here.
                warnings.simplefilter("ignore")
                yield
        except InputError:
            raise
        except APIError as error:
            temporary = status_of(error) in source.TEMPORARY
            kind = Unavailable if temporary else Refused
            raise kind(f"{source.public(self._url)}: {error}") from None
        except Exception as error:  # every kind, for malformed replies
            raise InputError(
                f"{source.public(self._url)}: not a usable STAC API ({type(error).__name__})"
            ) from None

    def _location(self, document: Mapping[str, Any], collection: str) -> str:
        """Where an item is: its self link, else where APIs have their items.

        Only http and https: an item from the network must not pass for one of this machine's,
        which may point at local files.
        """
        links = document.get("links")
        for link in links if isinstance(links, list) else []:
            if isinstance(link, dict) and link.get("rel") == "self":
                href = str(link.get("href"))
                if source.is_remote(href):
                    return href
        base = source.public(self._url).rstrip("/")
        name = urllib.parse.quote(str(document.get("id")), safe="")
        return f"{base}/collections/{urllib.parse.quote(collection, safe='')}/items/{name}"
