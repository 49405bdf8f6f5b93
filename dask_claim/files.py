"""Files that appear whole or not at all, folders of one run, and random names for both."""

from __future__ import annotations

import errno
import os
import re
import secrets
import select
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from string import ascii_lowercase
from typing import Literal

from dask_claim.errors import ConfigurationError

_PATIENCE = 5.0
"""Seconds to wait for the reader of a FIFO or pipe: to open it, and each time that it is full."""

_IRREPLACEABLE = {errno.EBUSY, errno.EROFS, errno.EACCES, errno.EPERM}
"""A file that is a mount of its own, or lies in a folder that cannot be written to."""

_OWN_DESCRIPTORS = re.compile(r"/dev/fd|/proc/(\d+)(/task/\d+)?/fd")
_PRIVATE = re.compile("dask-claim-(files|keys|gateway)-")


def letters(count: int = 32) -> str:
    """Return random letters, 4.7 bits each.

    Dask reads the value of each DASK_* variable as a Python literal, and Python warns on the
    command's stderr of a digit before a word such as `in`, `if` or `or`.
    """
    return "".join(secrets.choice(ascii_lowercase) for _ in range(count))


def private_path(content: Literal["files", "keys", "gateway"]) -> str:
    """Return where a private folder can be made, named by its content; a ticket comes first.

    Raises
    ------
    ConfigurationError
        There is no place for temporary files.
    """
    with _place_for_files():
        return os.path.join(tempfile.gettempdir(), f"dask-claim-{content}-{letters(12)}")


def make_private_folder(path: str) -> None:
    """Make the folder, that only this user can look into; the same error."""
    with _place_for_files():
        os.mkdir(path, mode=0o700)


@contextmanager
def _place_for_files() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ConfigurationError(
            "no folder for temporary files can be written to: set TMPDIR to one that can "
            f"({error.strerror or error})"
        ) from error


def remove_private_folder(folder: str) -> None:
    """Remove a folder that `make_private_folder` has made, and no other."""
    if _PRIVATE.match(Path(folder).name):
        shutil.rmtree(folder, ignore_errors=True)


def write_whole(path: Path, text: str) -> None:
    """Write `text` to `path`; a regular file is replaced at once, so that no half one is seen.

    One that cannot be replaced, such as a container's /dev/termination-log, is written in place.

    Parameters
    ----------
    path : Path
        A symlink stays, and what it leads to is written. What is there keeps its permissions; a
        new file gets those of any new file. Into a FIFO, a device or an open descriptor
        (`/dev/stdout`, `/dev/fd/3`) the text is written as it is.
    text : str
        Written as UTF-8.

    Raises
    ------
    OSError
        The folder is missing or cannot be written to; the FIFO or pipe has no reader for 5 s.
    """
    content = text.encode(errors="backslashreplace")  # names of files may be no UTF-8
    descriptor = _own_descriptor(path)
    if descriptor is not None:
        # Opening it again would start at the beginning of what others have written to it.
        _write_into(descriptor, content)
        return
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        mode = None
    if mode is not None and not stat.S_ISREG(mode):
        opened = _open_for_reader(path)
        try:
            _write_into(opened, content)
        finally:
            os.close(opened)
        return
    try:
        _replace(Path(os.path.realpath(path)), content, mode)
    except OSError as error:
        if mode is None or error.errno not in _IRREPLACEABLE:
            raise
        path.write_bytes(content)


def is_replaceable(path: Path) -> bool:
    """Whether `write_whole` replaces what is there: nothing yet, or a regular file."""
    return _own_descriptor(path) is None and (path.is_file() or not path.exists())


def _replace(path: Path, content: bytes, mode: int | None) -> None:
    # With mode 0o666 the system applies the umask; Python could only read it by changing it.
    temporary = path.with_name(f".{path.name[:40]}.{letters(12)}")
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    try:
        with os.fdopen(handle, "wb") as file:
            if mode is not None:
                os.fchmod(handle, stat.S_IMODE(mode))
            file.write(content)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def _own_descriptor(path: Path) -> int | None:
    """Return the descriptor of this process that `path` names, itself or through links."""
    text = os.fspath(path)
    for _ in range(40):
        folder, name = os.path.realpath(os.path.dirname(text)), os.path.basename(text)
        match = _OWN_DESCRIPTORS.fullmatch(folder)
        if match and name.isdecimal() and match[1] in (None, str(os.getpid())):
            return int(name)
        if not os.path.islink(text):
            return None
        text = os.path.join(folder, os.readlink(text))
    return None


def _open_for_reader(path: Path) -> int:
    """Open a device or FIFO; the latter opens once it has a reader."""
    deadline = time.monotonic() + _PATIENCE
    while True:
        try:
            return os.open(path, os.O_WRONLY | os.O_NONBLOCK)
        except OSError as error:
            if error.errno != errno.ENXIO:
                raise
            if time.monotonic() > deadline:
                raise OSError(errno.ENXIO, "it has no reader", str(path)) from None
        time.sleep(0.02)


def _write_into(descriptor: int, content: bytes) -> None:
    poll = select.poll()
    poll.register(descriptor, select.POLLOUT)
    while content:
        if not poll.poll(_PATIENCE * 1000):
            raise OSError(errno.EAGAIN, "its reader does not read")
        # As much as a pipe that is ready takes without blocking.
        content = content[os.write(descriptor, content[: select.PIPE_BUF]) :]
