"""Receipts out of files and folders, whatever else lies there."""

from __future__ import annotations

import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import ValidationError
from pydantic_core import from_json

from dask_claim.receipts import VERSION
from dask_claim.receipts.fields import ReceiptFields

LARGEST = 32 * 2**20
"""Bytes of a file that may be a receipt."""

MARKS = ("dask_claim", "timeline")
"""What an object of JSON has if it is a receipt."""


@dataclass
class Receipts:
    """The receipts of some paths, read one after the other.

    `others` and `unreadable` are whole once the last receipt is read.
    """

    paths: Iterable[Path]
    """Files, and folders whose files `*.json` are looked at, not those of folders in them."""

    others: list[Path] = field(default_factory=list)
    """Files of JSON that are not receipts."""

    unreadable: dict[Path, str] = field(default_factory=dict)
    """Files that could not be read, and why."""

    def __iter__(self) -> Iterator[tuple[Path, ReceiptFields]]:
        for path in dict.fromkeys(self._files()):
            try:
                receipt = self._read(path)
            except (OSError, ValueError) as error:
                self.unreadable[path] = _problem(error)
                continue
            if receipt is None:
                self.others.append(path)
            else:
                yield path, receipt

    def _files(self) -> Iterator[Path]:
        for path in self.paths:
            if not path.is_dir():
                yield path
                continue
            try:
                yield from sorted(each for each in path.iterdir() if each.suffix == ".json")
            except OSError as error:
                self.unreadable[path] = _problem(error)

    def _read(self, path: Path) -> ReceiptFields | None:
        """Return the receipt in a file, None where there is something else."""
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise ValueError("not a regular file")
        if status.st_size > LARGEST:
            raise ValueError(f"larger than {LARGEST >> 20} MiB")
        written = from_json(path.read_bytes())
        if not isinstance(written, dict) or not all(mark in written for mark in MARKS):
            return None
        try:
            return ReceiptFields.model_validate(written)
        except ValidationError as error:
            version = written.get("version")
            if isinstance(version, int) and version > VERSION:
                raise ValueError(f"written by a newer dask-claim (version {version})") from error
            raise


def _problem(error: OSError | ValueError) -> str:
    if isinstance(error, ValidationError):
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        where = ".".join(map(str, first["loc"]))
        return f"{where}: {first['msg']}"
    return getattr(error, "strerror", None) or str(error)
