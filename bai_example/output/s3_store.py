"""An S3 bucket and its client, bounded in time; and its errors in words.

Credentials, region and endpoint are found as boto3, and so rasterio, finds them: environment,
profile, role; ``AWS_ENDPOINT_URL_S3`` or ``AWS_ENDPOINT_URL`` for another store than Amazon's.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

from bai_example import source
from bai_example.errors import InputError, Unavailable

#: Seconds to wait for a connection, and for a store that says nothing.
CONNECT, SILENCE = 5, 30
#: Key of an object's metadata that tells which run has made it.
RUN = "bai-run"

_REASONS = {
    "NoSuchBucket": "there is no such bucket",
    "AccessDenied": "access denied; needed are s3:GetObject, s3:PutObject, s3:DeleteObject and "
    "s3:AbortMultipartUpload",
    "NoCredentialsError": "there are no credentials; set AWS_PROFILE, or AWS_ACCESS_KEY_ID and "
    "AWS_SECRET_ACCESS_KEY",
    "PartialCredentialsError": "the credentials are incomplete",
    "ProfileNotFound": "AWS_PROFILE names a profile that is not there",
    "EndpointConnectionError": "no connection",
    "ConnectTimeoutError": "no connection in time",
    "ReadTimeoutError": "no answer in time",
    "ConnectionClosedError": "the connection was cut",
}


class Store:
    """A bucket, and the client that speaks to it."""

    def __init__(self, bucket: str, attempts: int) -> None:
        """Make a client that attempts each request so many times, with growing pauses.

        Raises:
            InputError: boto3 is not installed, or cannot be configured.
        """
        try:
            import boto3
            from botocore.config import Config
        except ImportError:
            raise InputError("writing to s3:// needs boto3: pip install 'dask-claim[s3]'") from None
        self.bucket = bucket
        config = Config(
            connect_timeout=CONNECT,
            read_timeout=SILENCE,
            retries={"mode": "standard", "total_max_attempts": attempts},
            # Many other stores do not know the checksums that boto3 adds by default since 1.36.
            request_checksum_calculation="when_required",
        )
        with explained(f"s3://{bucket}: cannot be written to"):
            try:
                # A session of its own: boto3's common one keeps what it found first.
                self.s3: Any = boto3.Session().client("s3", config=config)
            except ValueError:
                raise InputError("AWS_ENDPOINT_URL must be an http: or https: URL") from None

    def has(self, key: str, run: str | None = None) -> bool:
        """Whether there is an object ``key``; with ``run``, whether that run has made it."""
        try:
            found = self.s3.head_object(Bucket=self.bucket, Key=key)
        except self.s3.exceptions.ClientError as error:
            # Who may write but not list is told 403 of an object that is not there. Where one is
            # there all the same, completing the upload fails.
            if error.response["ResponseMetadata"]["HTTPStatusCode"] in (403, 404):
                return False
            raise
        return run is None or found["Metadata"].get(RUN) == run


@contextmanager
def explained(what: str, store: Store | None = None) -> Iterator[None]:
    """Turn errors of the store into `InputError` or `Unavailable`, which hold only known words."""
    from botocore.exceptions import BotoCoreError, ClientError, ConnectionError, HTTPClientError

    try:
        yield
    except (BotoCoreError, ClientError) as error:
        answer = getattr(error, "response", None) or {}
        status = answer.get("ResponseMetadata", {}).get("HTTPStatusCode")
        lost = isinstance(error, (ConnectionError, HTTPClientError))
        kind = Unavailable if lost or status in source.TEMPORARY else InputError
        where = f"{_host(store.s3.meta.endpoint_url)}: " if store else ""
        raise kind(f"{what} ({where}{reason(error)})") from None


def reason(error: Exception) -> str:
    """Why a request failed. Not the error's own text, which may hold a URL or what a store says."""
    answer = getattr(error, "response", None) or {}
    code = str(answer.get("Error", {}).get("Code", "")) or type(error).__name__
    name = re.sub(r"\W", "", code)[:60]
    return _REASONS.get(name) or (f"it answered {name}" if answer else f"boto3 says {name}")


def _host(endpoint: str) -> str:
    return urlsplit(endpoint).netloc.rpartition("@")[2]
