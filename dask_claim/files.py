"""Files that appear whole or not at all."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path


def write_whole(path: Path, text: str, mode: int | None = None) -> None:
    """Write `text` to `path` through a temporary file beside it, so that no half file is seen.

    Parameters
    ----------
    path : Path
        What is there is replaced.
    text : str
        Written as UTF-8.
    mode : int, optional
        The file's permissions; by default those of any new file.

    Raises
    ------
    OSError
        The folder is missing or cannot be written to.
    """
    handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        umask = os.umask(0)
        os.umask(umask)
        # mkstemp's own mode would hide it from the runner
        os.chmod(temporary, 0o666 & ~umask if mode is None else mode)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
