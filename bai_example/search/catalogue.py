"""A static catalogue: JSON files that link to each other, on a server or on this machine."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Mapping
from typing import Any

from bai_example import source
from bai_example.errors import InputError
from bai_example.search.acquisition import Found, plain
from bai_example.search.area import Area

#: Documents read at most: catalogues, collections and items.
MAX_DOCUMENTS = 2000


class Static:
    """A catalogue or collection that is read link by link."""

    def __init__(self, location: str, document: Mapping[str, Any]) -> None:
        self._location, self._document = location, document
        self._collections: dict[str, None] = {}

    def items(
        self, collection: str, area: Area, first: dt.datetime, last: dt.datetime
    ) -> Iterator[Found]:
        """Every item of a collection, in the order of the links.

        Collections with another id are not entered.

        Args:
            collection: id of the collection.
            area: not used: nothing is known of an item before it is read.
            first: not used either.
            last: not used either.

        Raises:
            InputError: a document cannot be read, or there are more than `MAX_DOCUMENTS`.
        """
        # Depth first, so that the links of one branch at a time wait.
        waiting: list[tuple[str, str | None]] = [(self._location, None)]
        known = {self._location}
        while waiting:
            location, parent = waiting.pop()
            document = self._document if location == self._location else source.read_json(location)
            kind = document.get("type")
            if kind == "Feature":
                if document.get("collection", parent) == collection:
                    yield Found(dict(document), location)
                continue
            if kind == "Collection":
                parent = str(document.get("id"))
                self._collections[plain(parent)] = None
                if parent != collection:
                    continue
            links = [href for href in _links(document, location) if href not in known]
            known.update(links)
            if len(known) > MAX_DOCUMENTS:
                raise InputError(
                    f"{source.public(self._location)}: more than {MAX_DOCUMENTS} documents; "
                    "give the part of the catalogue that is needed, or an API"
                )
            waiting += [(href, parent) for href in reversed(links)]

    def collections(self) -> list[str]:
        """The ids of the collections that `items` came across."""
        return list(self._collections)


def _links(document: Mapping[str, Any], location: str) -> list[str]:
    links = document.get("links")
    hrefs = [
        source.resolve(str(link.get("href")), location)
        for link in (links if isinstance(links, list) else [])
        if isinstance(link, dict) and link.get("rel") in ("child", "item")
    ]
    return list(dict.fromkeys(hrefs))
