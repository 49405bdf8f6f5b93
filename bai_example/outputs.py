"""Where the result goes: a folder, or a prefix of an S3 bucket; all files appear or none.

The files are made in a hidden or temporary folder. In a folder they then appear by renaming; S3
knows no such step, so the STAC documents are sent last, and whoever goes by them sees all files.
"""

from __future__ import annotations

import contextlib
import os
import re
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from bai_example.access import TEMPORARY, InputError, Unavailable, scheme

_TYPES = {
    ".tif": "image/tiff; application=geotiff; profile=cloud-optimized",
    ".png": "image/png",
    ".json": "application/geo+json",
    ".xml": "application/xml",
}
_BUCKET = re.compile(r"s3://([A-Za-z0-9][A-Za-z0-9._-]+)(?:/([^?#]*))?", re.IGNORECASE)


def destination(location: str) -> str:
    """The place that a user names, a path or ``s3://bucket/prefix``, as the rest takes it.

    Raises:
        InputError: it is another URL.
    """
    kind = scheme(location) if "://" in location else ""
    if kind not in ("", "s3"):
        raise InputError(f"{kind}://: cannot be written to; give a folder or s3://bucket/prefix")
    if not kind:
        return str(Path(location).expanduser())
    if not (found := _BUCKET.fullmatch(location)):
        # Not shown: it may hold a secret where the bucket should be.
        raise InputError("the output must be s3://bucket/prefix, with neither user nor query")
    return f"s3://{found[1]}/{(found[2] or '').strip('/')}".rstrip("/")


def url(location: str, name: str) -> str:
    """Where the file ``name`` will be."""
    return f"{location}/{name}" if "://" in location else str(Path(location) / name)


def staging(
    location: str, names: Sequence[str], overwrite: bool
) -> contextlib.AbstractContextManager[Path]:
    """A folder for the length of a ``with`` block; without an error, its files then appear.

    Args:
        location: what `destination` gave, a folder that is made if it is not there.
        names: the files that will be written.
        overwrite: whether they may replace older ones.

    Raises:
        InputError: at the beginning: nothing can be written, or a file exists and must not be
            replaced. At the end: one has appeared meanwhile, or they cannot be sent.
        Unavailable: a store cannot be reached, or not now.
    """
    into = _into_bucket if "://" in location else _into_folder
    return into(location, names, overwrite)


@contextlib.contextmanager
def _into_folder(location: str, names: Sequence[str], overwrite: bool) -> Iterator[Path]:
    folder = Path(location)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        hidden = tempfile.TemporaryDirectory(prefix=".bai-", dir=folder)
    except OSError as error:
        raise InputError(f"{location}: cannot be written to ({error.strerror})") from None
    with hidden as stage:
        paths = [folder / name for name in names]
        if there := [p for p in paths if os.path.lexists(p) and (p.is_dir() or not overwrite)]:
            raise InputError(*map(_exists, there))
        yield Path(stage)
        ours: list[Path] = []
        try:
            for file in _json_last(stage):
                target = folder / file.name
                if not overwrite:
                    # A rename replaces whatever is there, so the name is taken first.
                    target.open("xb").close()
                    ours.append(target)
                os.replace(file, target)
        except BaseException as error:
            for path in ours:
                path.unlink(missing_ok=True)
            if isinstance(error, FileExistsError):
                raise InputError(_exists(target)) from None
            raise


@contextlib.contextmanager
def _into_bucket(location: str, names: Sequence[str], overwrite: bool) -> Iterator[Path]:
    """boto3's own settings say who asks, and where."""
    bucket, _, prefix = location.removeprefix("s3://").partition("/")
    objects = {n: {"Bucket": bucket, "Key": f"{prefix}/{n}".lstrip("/")} for n in names}
    with _explained(f"{location}: cannot be written to"):
        s3, probe, there = _client(), objects[names[0]], []
        # An upload that is begun and aborted leaves no trace.
        s3.abort_multipart_upload(**probe, UploadId=s3.create_multipart_upload(**probe)["UploadId"])
        for name in () if overwrite else names:
            # 404, or 403 where one may write but not list: it is not there.
            with contextlib.suppress(s3.exceptions.ClientError):
                s3.head_object(**objects[name])
                there.append(name)
    if there:
        raise InputError(*(_exists(url(location, name)) for name in there))
    with tempfile.TemporaryDirectory(prefix="bai-") as stage:
        yield Path(stage)
        sent: list[str] = []
        with _explained(f"{location}: not written"):
            try:
                for file in _json_last(stage):
                    sent.append(file.name)
                    about = {"ContentType": _TYPES[file.suffix]}
                    # By upload_file an error may reach us without what the store answered.
                    with file.open("rb") as content:
                        s3.upload_fileobj(content, **objects[file.name], ExtraArgs=about)
            except BaseException:
                for name in [] if overwrite else sent:
                    with contextlib.suppress(Exception):
                        s3.delete_object(**objects[name])
                raise


def _client() -> Any:
    try:
        import boto3
        from botocore.config import Config
    except ImportError:
        raise InputError("writing to s3:// needs boto3: pip install 'dask-claim[s3]'") from None
    config = Config(
        connect_timeout=5, read_timeout=30, retries={"mode": "standard", "total_max_attempts": 4},
        # Many other stores do not know the checksums that boto3 adds by default since 1.36.
        request_checksum_calculation="when_required",
    )  # fmt: skip
    # A session of its own: boto3's common one keeps what it found first.
    return boto3.Session().client("s3", config=config)


@contextlib.contextmanager
def _explained(what: str) -> Iterator[None]:
    """Turn boto3's errors into `InputError` or `Unavailable`, without what a store may say."""
    try:
        yield
    except (InputError, OSError):
        raise
    except Exception as error:
        answer = getattr(error, "response", None) or {}
        status = answer.get("ResponseMetadata", {}).get("HTTPStatusCode")
        code = answer.get("Error", {}).get("Code") or type(error).__name__
        lost = status in TEMPORARY or "Connect" in code or "Timeout" in code
        kind = Unavailable if lost else InputError
        raise kind(f"{what} ({re.sub(r'[^A-Za-z0-9]', '', code)[:60]})") from None


def _json_last(folder: str) -> list[Path]:
    """The files of a folder in the order in which they appear: the catalogue last of all."""
    return sorted(Path(folder).iterdir(), key=lambda path: (path.suffix == ".json", path.name))


def _exists(path: object) -> str:
    return f"{path}: exists already; --overwrite replaces it"
