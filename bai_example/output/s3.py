"""A prefix of an S3 bucket as destination: multi-part uploads, of which all are completed or none.

The parts of every file are sent first, and then each upload is completed, which is when an object
appears.

What cannot be undone: a process that is killed leaves unfinished uploads behind, which nobody sees
but the bucket's owner pays for; a lifecycle rule ``AbortIncompleteMultipartUpload`` removes them.
And where ``--overwrite`` has replaced an object before the last one fails, the older one is gone.
"""

from __future__ import annotations

import re
import tempfile
import uuid
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pystac
from loguru import logger

from bai_example.errors import InputError
from bai_example.output.s3_store import RUN, Store, explained, reason

#: Bytes of a part, of which `PARALLEL` are in memory at once. S3 allows 5 MiB or more, and 10,000
#: parts (Amazon S3 user guide, "Multipart upload limits"); a file of 80 GB takes larger ones.
PART, MOST_PARTS, PARALLEL = 8 * 2**20, 10_000, 4
#: Attempts of each request, with pauses of up to 1, 2, 4, … s between them: few while the user
#: waits for the first line, more once there is something to lose.
ASKING, SENDING = 3, 5

_TYPES = {
    ".tif": pystac.MediaType.COG,
    ".png": pystac.MediaType.PNG,
    ".json": pystac.MediaType.GEOJSON,
    ".xml": pystac.MediaType.XML,
}
#: What a store answers where an object has appeared, or is just being written by somebody else.
_APPEARED = ("PreconditionFailed", "ConditionalRequestConflict")
_LOCATION = re.compile(r"s3://([A-Za-z0-9][A-Za-z0-9._-]+)(?:/([^?#]*))?", re.IGNORECASE)


class S3Prefix:
    """The objects below a prefix of a bucket; see `bai_example.output.destination.Destination`."""

    def __init__(self, location: str) -> None:
        """Take ``s3://bucket/prefix``; an InputError says what is wrong with it."""
        found = _LOCATION.fullmatch(location)
        if not found:  # not shown: it may hold a secret where the bucket should be
            raise InputError("the output must be s3://bucket/prefix, with neither user nor query")
        self._bucket, prefix = found[1], (found[2] or "").strip("/")
        self._start = f"{prefix}/" if prefix else ""
        self.location = f"s3://{self._bucket}/{prefix}".rstrip("/")
        self._overwrite = False

    def prepare(self, names: Sequence[str], overwrite: bool) -> None:
        """See `Destination.prepare`. An upload is begun and aborted, which leaves no trace."""
        self._overwrite = overwrite
        store = Store(self._bucket, ASKING)
        probe = Upload(store, self._start + names[0], Path(names[0]), run="")

        def begin_and_abort() -> None:
            probe.begin()
            probe.abort()

        with explained(f"{self.location}: cannot be written to", store):
            with ThreadPoolExecutor(1) as pool:  # where no signal comes between the two
                pool.submit(begin_and_abort).result()
            there = [] if overwrite else [n for n in names if store.has(self._start + n)]
        if there:
            raise InputError(*(_exists(self.url(name)) for name in there))

    @contextmanager
    def staging(self) -> Iterator[Path]:
        """See `Destination.staging`. The folder is a temporary one; TMPDIR says where."""
        with tempfile.TemporaryDirectory(prefix="bai-") as folder:
            yield Path(folder)
            files = sorted(Path(folder).iterdir(), key=lambda path: path.suffix == ".json")
            store, run = Store(self._bucket, SENDING), uuid.uuid4().hex
            uploads = [Upload(store, self._start + file.name, file, run) for file in files]
            with explained(f"{self.location}: nothing was written", store):
                publish(uploads, self._overwrite)

    def url(self, name: str) -> str:
        """See `Destination.url`."""
        return f"{self.location}/{name}"


class Upload:
    """A file on its way to an object.

    Call it from threads only: a signal strikes the main thread, and there it could come between
    a request and the note of its answer.
    """

    def __init__(self, store: Store, key: str, file: Path, run: str) -> None:
        self._store, self._file, self._run = store, file, run
        self._s3, self._object = store.s3, {"Bucket": store.bucket, "Key": key}
        self.url = f"s3://{store.bucket}/{key}"
        self._id: str | None = None
        self._parts: list[dict[str, Any]] = []
        self._completing = False

    def begin(self) -> None:
        """Begin the upload."""
        about = {"ContentType": str(_TYPES[self._file.suffix]), "Metadata": {RUN: self._run}}
        self._id = self._s3.create_multipart_upload(**self._object, **about)["UploadId"]

    def numbers(self) -> range:
        """The numbers of the file's parts, from 1."""
        return range(1, max(1, -(-self._file.stat().st_size // self._part_size())) + 1)

    def _part_size(self) -> int:
        return max(PART, -(-self._file.stat().st_size // MOST_PARTS))

    def send(self, number: int) -> None:
        """Send a part."""
        with self._file.open("rb") as file:
            file.seek((number - 1) * self._part_size())
            body = file.read(self._part_size())
        part: dict[str, Any] = {"PartNumber": number}
        answer = self._s3.upload_part(**self._object, UploadId=self._id, Body=body, **part)
        self._parts.append(part | {"ETag": answer["ETag"]})

    def complete(self, overwrite: bool) -> None:
        """Let the object appear; a store that knows the condition refuses to replace another."""
        self._completing = True
        parts = {"Parts": sorted(self._parts, key=lambda part: int(part["PartNumber"]))}
        condition = {} if overwrite else {"IfNoneMatch": "*"}
        try:
            self._s3.complete_multipart_upload(
                **self._object, UploadId=self._id, MultipartUpload=parts, **condition
            )
        except self._s3.exceptions.ClientError as error:
            if error.response["Error"]["Code"] not in _APPEARED:
                raise
            raise InputError(_exists(self.url)) from None

    def abort(self) -> None:
        """Forget the parts; no harm where it was completed or never begun."""
        try:
            if self._id:
                self._s3.abort_multipart_upload(**self._object, UploadId=self._id)
        except self._s3.exceptions.ClientError as error:
            if error.response["Error"]["Code"] != "NoSuchUpload":
                raise

    def undo(self) -> None:
        """Leave nothing; where that fails, log what may be left."""
        try:
            self.abort()
            # It may have been completed though the answer was lost. The object may also be
            # somebody else's, for which the completion was refused.
            if self._completing and self._store.has(self._object["Key"], self._run):
                self._s3.delete_object(**self._object)
        except Exception as error:
            logger.warning("{}: something may be left there ({})", self.url, reason(error))


def publish(uploads: Sequence[Upload], overwrite: bool) -> None:
    """Make all the objects, the last one last, or none: after an error what was made is removed."""
    pool = ThreadPoolExecutor(PARALLEL)
    try:
        list(pool.map(Upload.begin, uploads))
        parts = [(upload, number) for upload in uploads for number in upload.numbers()]
        list(pool.map(lambda part: part[0].send(part[1]), parts))
        for upload in uploads:
            pool.submit(upload.complete, overwrite).result()
    except BaseException:
        # First the requests under way end: a part that arrives after the abort would stay.
        pool.shutdown(cancel_futures=True)
        for upload in uploads:
            upload.undo()
        raise
    finally:
        pool.shutdown()


def _exists(url: str) -> str:
    return f"{url}: exists already; --overwrite replaces it"
