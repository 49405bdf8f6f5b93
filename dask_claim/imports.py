"""How Dask's libraries are imported: nothing is written, and dask-claim's processes stay small."""

from __future__ import annotations

import os
import sys
import threading
import traceback
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from importlib import import_module
from typing import Any

from dask_claim.errors import ConfigurationError

DASK_CONFIG = "DASK_CONFIG"

# Importing dask_gateway copies a configuration file to DASK_CONFIG, by default ~/.config/dask,
# as it was when Dask was imported first; HOME is the output directory of a CWL tool. Nothing can be
# copied into /dev/null, and it reads as an empty configuration; ~/.config/dask is read besides.
NOWHERE = "/dev/null"

_importing = threading.Lock()


def dask_config(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the variable that keeps Dask's libraries from writing files below HOME on import."""
    return {} if DASK_CONFIG in environ else {DASK_CONFIG: NOWHERE}


@contextmanager
def writing_nothing() -> Iterator[None]:
    """Import one of Dask's libraries meanwhile, without a file appearing below HOME.

    One thread at a time: Dask's packages import one another in circles, which two threads break.
    """
    with _importing:
        added = dask_config(os.environ)
        os.environ.update(added)
        try:
            yield
        finally:
            for name in added:
                del os.environ[name]


@contextmanager
def without_numpy() -> Iterator[None]:
    """Import `distributed` meanwhile as where there is no NumPy; a later import of NumPy is free.

    Dask imports it to allocate the buffers of large messages, and has another way without it.
    That saves a fifth of the import's time and 13 MB in a process that sends none.
    """
    if "numpy" in sys.modules:
        yield
        return
    sys.modules["numpy"] = None  # type: ignore[assignment]  # its import raises ImportError
    try:
        yield
    finally:
        del sys.modules["numpy"]


def import_quietly(module: str) -> Any:
    """Import one of Dask's libraries, or what imports it, without a file appearing below HOME.

    Raises
    ------
    ConfigurationError
        It is missing, cannot be loaded, or ended Python: it may be a program that has a library's
        name.
    """
    return _import(module, nullcontext())


def import_dask(module: str) -> Any:
    """Like `import_quietly`, in a process of dask-claim's own, which has no use for NumPy."""
    return _import(module, without_numpy())


def _import(module: str, meanwhile: AbstractContextManager[None]) -> Any:
    with writing_nothing(), meanwhile:
        try:
            return import_module(module)
        except ImportError as error:
            raise ConfigurationError(
                f"{module} cannot be imported by {sys.executable}: {error}"
            ) from error
        except SystemExit as error:
            file = traceback.extract_tb(error.__traceback__)[-1].filename
            raise ConfigurationError(
                f"{file} ends Python when it is imported (SystemExit: {error}), and is imported in "
                "place of a library: rename it, or take its folder off PYTHONPATH"
            ) from error
