"""What the workflow's tests share: a band, a server that fails in many ways, an S3 store."""

from __future__ import annotations

import http.server
import importlib.util
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests.support.gateway import clean_environment, free_port
from tests.support.launcher import wait_for
from tests.support.serving import serving

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "cwl" / "landsat"
DOCUMENT = FOLDER / "landsat.cwl"


def program(name: str) -> ModuleType:
    """One of the steps' programs, which stand in no package."""
    spec = importlib.util.spec_from_file_location(f"landsat_{name}", FOLDER / f"{name}.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def band(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sample, with cells at its edges that are smaller than the others."""
    path: Path = program("sample").write_sample(tmp_path_factory.mktemp("band"), 705)
    return path


class Server(http.server.ThreadingHTTPServer):
    """Sends one file, or fails as the first part of the path says."""

    daemon_threads = True

    def __init__(self, content: bytes) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.content = content
        self.seen: list[str] = []

    def url(self, name: str, how: str = "whole") -> str:
        return f"http://me:passw0rd@127.0.0.1:{self.server_port}/{how}/{name}?signature=s1gned"


class Answer(http.server.BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        how = self.path.split("/")[1]
        self.server.seen.append(how)
        cut = how == "cut" or (how == "cut-once" and self.server.seen.count(how) == 1)
        if how.isdecimal():
            self.send_error(int(how))
            return
        self.send_response(200)
        self.send_header("Content-Type", "text/html" if how == "page" else "image/tiff")
        self.send_header("Content-Length", str(len(self.server.content)))
        self.end_headers()
        self.wfile.write(self.server.content[: 1000 if cut else None])

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@pytest.fixture
def band_server(band: Path) -> Iterator[Server]:
    with serving(Server(band.read_bytes())) as server:
        yield server


@dataclass
class Store:
    """An S3 store that knows one user, who may write to the bucket `maps` and to no other."""

    url: str
    key: str
    secret: str
    admin: Any

    def inputs(self, prefix: str, **more: str) -> dict[str, Any]:
        """What the workflow wants to know of it."""
        return {
            "destination": f"s3://maps/{prefix}", "endpoint": self.url,
            "aws_access_key_id": self.key, "aws_secret_access_key": self.secret, **more,
        }  # fmt: skip

    def objects(self, prefix: str, bucket: str = "maps") -> dict[str, bytes]:
        found = self.admin.list_objects_v2(Bucket=bucket, Prefix=prefix).get("Contents", [])
        keys = [each["Key"] for each in found]
        return {key: self.admin.get_object(Bucket=bucket, Key=key)["Body"].read() for key in keys}


POLICY = """{"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "s3:*",
"Resource": ["arn:aws:s3:::%s", "arn:aws:s3:::%s/*"]}]}"""


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """moto, as a process of its own: it checks who asks, and that holds for the whole process."""
    import boto3

    port, log = free_port(), tmp_path_factory.mktemp("store") / "log"
    url = f"http://127.0.0.1:{port}"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [Path(sys.executable).with_name("moto_server"), "--port", str(port)],
            env=clean_environment(), stdout=output, stderr=output,
        )  # fmt: skip

    def answers() -> bool:
        try:
            with urllib.request.urlopen(f"{url}/moto-api/", timeout=5):
                return True
        except OSError:
            assert process.poll() is None, log.read_text()
            return False

    def client(service: str, key: str = "any", secret: str = "any") -> Any:
        return boto3.client(
            service, endpoint_url=url, region_name="us-east-1",
            aws_access_key_id=key, aws_secret_access_key=secret,
        )  # fmt: skip

    try:
        wait_for(answers, "S3 store", 60, log.read_text)
        iam, s3 = client("iam"), client("s3")
        for bucket in ("maps", "closed"):
            s3.create_bucket(Bucket=bucket)
        keys = {}
        for user, buckets in (("sender", "maps"), ("admin", "*")):
            iam.create_user(UserName=user)
            policy = POLICY % (buckets, buckets)
            iam.put_user_policy(UserName=user, PolicyName="s3", PolicyDocument=policy)
            keys[user] = iam.create_access_key(UserName=user)["AccessKey"]
        request = urllib.request.Request(
            f"{url}/moto-api/reset-auth", b"0", {"Content-Type": "text/plain"}
        )
        with urllib.request.urlopen(request, timeout=5):
            pass
        sender, admin = (
            (keys[user]["AccessKeyId"], keys[user]["SecretAccessKey"]) for user in keys
        )
        made = client("s3", *admin)
        yield Store(url, *sender, made)
        for each in (iam, s3, made):
            each.close()
    finally:
        process.terminate()
        process.wait(timeout=30)
