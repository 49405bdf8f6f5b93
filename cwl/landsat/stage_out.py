"""Stage-out: sends a dataset's folder to an S3 store.

    python stage_out.py FOLDER s3://BUCKET/PREFIX [--endpoint URL] [--region NAME]

Its files become PREFIX/FOLDER/FILE, its met.json last: whoever goes by that sees all of them. A
dataset that is there already is not touched. The credentials are boto3's, from a file that
AWS_SHARED_CREDENTIALS_FILE names or wherever else boto3 looks.

Exit status: 0; 1: the store refuses, or there is nothing complete to send; 75: it cannot be reached
or is overloaded, and another try may succeed.
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

TEMPORARY = {408, 429, 500, 502, 503, 504}
TYPES = {".TIF": "image/tiff", ".png": "image/png", ".json": "application/json"}


class Failure(Exception):
    """The dataset was not sent."""

    def __init__(self, message: str, status: int = 1) -> None:
        super().__init__(message)
        self.status = status


def connect(endpoint: str | None, region: str) -> Any:
    """A client of the store, which tries a request four times."""
    config = Config(
        connect_timeout=5,
        read_timeout=60,
        retries={"mode": "standard", "total_max_attempts": 4},
        # Many other stores do not know the checksums that boto3 adds by default since 1.36.
        request_checksum_calculation="when_required",
    )
    return boto3.Session().client("s3", endpoint_url=endpoint, region_name=region, config=config)


def stage_out(folder: Path, location: str, endpoint: str | None, region: str) -> list[str]:
    """Send the files of `folder`; return their s3:// URLs.

    Raises:
        Failure: the dataset is not in the store, or without its met.json.
    """
    found = re.fullmatch(r"s3://([A-Za-z0-9][A-Za-z0-9._-]+)(?:/([^?#]*))?", location)
    if not found:  # not shown: it may hold a secret where the bucket should be
        raise Failure("the destination must be s3://bucket/prefix, with neither user nor query")
    bucket, prefix = found[1], (found[2] or "").strip("/")
    start = f"{prefix}/{folder.name}/" if prefix else f"{folder.name}/"
    files = sorted(folder.iterdir(), key=lambda path: (path.suffix == ".json", path.name))
    if not files or not files[-1].name.endswith(".met.json"):
        raise Failure(f"{folder.name}: is no complete dataset, it has no met.json")
    shown = f"s3://{bucket}/{start}"
    try:
        s3 = connect(endpoint, region)
        if exists(s3, bucket, start + files[-1].name):
            raise Failure(f"{shown}: exists already")
        for file in files:
            about = {"ContentType": TYPES.get(file.suffix, "application/octet-stream")}
            # By upload_file an error may reach us without what the store answered.
            with file.open("rb") as content:
                s3.upload_fileobj(content, bucket, start + file.name, ExtraArgs=about)
    except (BotoCoreError, ClientError, ValueError) as error:
        raise explained(error, shown) from None
    return [shown + file.name for file in files]


def exists(s3: Any, bucket: str, key: str) -> bool:
    try:
        s3.head_object(Bucket=bucket, Key=key)
    except ClientError as error:
        # Who may write but not list is told 403 of an object that is not there.
        if error.response["ResponseMetadata"]["HTTPStatusCode"] in (403, 404):
            return False
        raise
    return True


def explained(error: Exception, shown: str) -> Failure:
    """In one line, without what a store may say: only its error's code."""
    answer = getattr(error, "response", {})
    code = str(answer.get("Error", {}).get("Code") or type(error).__name__)
    lost = "Connect" in code or "Timeout" in code
    temporary = lost or answer.get("ResponseMetadata", {}).get("HTTPStatusCode") in TEMPORARY
    code = re.sub(r"[^A-Za-z0-9]", "", code)[:60]
    return Failure(f"{shown}: not sent ({code})", 75 if temporary else 1)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="stage_out.py", description="Send a dataset to S3.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("location", metavar="s3://BUCKET/PREFIX")
    parser.add_argument("--endpoint", metavar="URL", help="of another store than Amazon's")
    parser.add_argument("--region", default="us-east-1")
    options = parser.parse_args()
    try:
        urls = stage_out(options.folder, options.location, options.endpoint, options.region)
    except Failure as failure:
        print(f"stage-out: {failure}", file=sys.stderr)
        sys.exit(failure.status)
    print(*urls, sep="\n")
