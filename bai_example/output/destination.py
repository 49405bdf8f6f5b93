"""Where the result goes: a folder, or a prefix of an S3 bucket; all files appear or none."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Protocol

from bai_example import source
from bai_example.errors import InputError
from bai_example.output.s3 import S3Prefix


class Destination(Protocol):
    """A place for the result's files."""

    location: str
    """As the user wrote it, without a slash at the end."""

    def prepare(self, names: Sequence[str], overwrite: bool) -> None:
        """See that files can be written, before anything is computed.

        Args:
            names: the files that will be written.
            overwrite: whether they may replace older ones.

        Raises:
            InputError: nothing can be written, or a file exists and must not be replaced.
            Unavailable: the store cannot be reached, or not now.
        """

    def staging(self) -> AbstractContextManager[Path]:
        """A local folder for the length of a ``with`` block; call `prepare` before.

        If the block ends without an error, the files in it appear at the destination, the item
        (``.json``) last, so that whoever sees it sees what it describes. Else nothing appears.

        Raises:
            InputError: at the end of the block: without ``overwrite`` a file has appeared
                meanwhile, or the files cannot be transferred (`Unavailable`: not now).
        """

    def url(self, name: str) -> str:
        """Where the file ``name`` will be."""


def destination(location: str) -> Destination:
    """The destination that a user names.

    Args:
        location: a folder (a path or a ``file:`` URL) or ``s3://bucket/prefix``.

    Raises:
        InputError: it is another URL.
    """
    kind = source.scheme(location) if "://" in location else ""
    if kind == "s3":
        return S3Prefix(location)
    if kind == "file":
        return LocalFolder(source.local_path(location))
    if kind:
        raise InputError(f"{kind}://: cannot be written to; give a folder or s3://bucket/prefix")
    return LocalFolder(Path(location).expanduser())


class LocalFolder:
    """A folder of this machine, made if it is not there."""

    def __init__(self, folder: Path) -> None:
        self.location = str(folder)
        self._folder = folder
        self._overwrite = False

    def prepare(self, names: Sequence[str], overwrite: bool) -> None:
        """See `Destination.prepare`."""
        self._overwrite = overwrite
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            with self._hidden():
                pass
        except OSError as error:
            raise InputError(f"{self._folder}: cannot be written to ({error.strerror})") from None
        problems = []
        for path in (self._folder / name for name in names):
            if path.is_dir():
                problems.append(f"{path}: is a folder, and a file is to be written there")
            elif os.path.lexists(path) and not overwrite:
                problems.append(_exists(path))
        if problems:
            raise InputError(*problems)

    @contextmanager
    def staging(self) -> Iterator[Path]:
        """See `Destination.staging`. Each file moves by one rename on the same file system."""
        with self._hidden() as stage:
            yield stage
            self._publish(sorted(stage.iterdir(), key=lambda path: path.suffix == ".json"))

    def url(self, name: str) -> str:
        """See `Destination.url`."""
        return str(self._folder / name)

    @contextmanager
    def _hidden(self) -> Iterator[Path]:
        stage = self._folder / f".bai-{uuid.uuid4().hex[:12]}"
        try:
            stage.mkdir()  # in here, for a signal may end the program right after it
            yield stage
        finally:
            shutil.rmtree(stage, ignore_errors=True)

    def _publish(self, files: Sequence[Path]) -> None:
        ours: list[Path] = []
        try:
            for file in files:
                target = self._folder / file.name
                if not self._overwrite:
                    # A rename replaces whatever is there, and not every file system has hard
                    # links. So the name is taken first, which only one program can do.
                    target.open("xb").close()
                    ours.append(target)
                os.replace(file, target)
        except BaseException as error:
            for path in ours:
                path.unlink(missing_ok=True)
            if isinstance(error, FileExistsError):
                raise InputError(_exists(target)) from None
            raise


def _exists(path: Path) -> str:
    return f"{path}: exists already; --overwrite replaces it"
