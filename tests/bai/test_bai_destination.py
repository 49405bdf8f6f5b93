"""Where files go, a folder or an S3 store: all of them appear or none, and never over others."""

from __future__ import annotations

import gc
import os
import socket
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from bai_example.access import InputError, Unavailable
from bai_example.outputs import ALL, destination, staging
from tests.bai.servers import Handler, Server
from tests.support.serving import serving

pytestmark = pytest.mark.xdist_group("s3")  # one store for all
CONTENT = {name: name.encode() for name in ALL} | {"bai.tif": os.urandom(5 * 2**18)}


def fill(stage: Path) -> None:
    for name, content in CONTENT.items():
        (stage / name).write_bytes(content)


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


# A folder


def test_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the user wrote it; made on the way; a link that leads nowhere is there, too. (Files that
    are there, and what stays after a failure: test_bai_command.)"""
    monkeypatch.setenv("HOME", str(tmp_path))
    places = {"out/": "out", "a:b": "a:b", "~/a/b": f"{tmp_path}/a/b"}
    assert {place: destination(place) for place in places} == places
    folder = tmp_path / "a" / "b"
    for overwrite in (False, True):
        with staging(str(folder), overwrite) as stage:
            fill(stage)
            assert overwrite or not [path for path in folder.iterdir() if path.name in ALL]
        assert files(folder) == CONTENT
        (folder / "bai.json").unlink()
        (folder / "bai.json").symlink_to("nowhere")
    with pytest.raises(InputError, match=r"bai\.json: exists already"), staging(str(folder), False):
        pass


def test_locations_that_are_none(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "with folder" / "bai.png").mkdir(parents=True)
    for place, message in (
        (str(tmp_path / "file"), "file: cannot be written to"),
        ("/proc/none", "cannot be written to"),
        (str(tmp_path / "with folder"), r"bai\.png: is a folder"),
    ):
        with pytest.raises(InputError, match=message), staging(place, overwrite=True):
            pass
    for location in (
        "gs://bucket/x", "file:///x", "https://me:k3y@host/x?sig=k3y", "s3:///x",
        "s3://k3y:k3y@bucket/x", "s3://bucket/x?sig=k3y",
    ):  # fmt: skip
        with pytest.raises(InputError, match="a folder or s3://bucket/prefix") as caught:
            destination(location)
        assert "k3y" not in str(caught.value)


# An S3 store


class Between(Server):
    """Passes requests on to the store, but for those that `disturb` deals with."""

    def __init__(self, store: tuple[str, int]) -> None:
        super().__init__(Passing)
        self.store = store
        self.seen: list[str] = []
        self.disturb: Callable[[str], str | None] = lambda request: None
        """Request line -> ``cut``, ``deny``, ``busy``, or nothing."""


class Passing(Handler):
    protocol_version = "HTTP/1.1"
    server: Between

    def do_GET(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        line = f"{self.command} {self.path}"
        self.server.seen.append(line)
        how = self.server.disturb(line)
        if how == "cut":
            self.close_connection = True
        elif how == "deny":
            self.answer(403, b"<Error><Code>AccessDenied</Code><Message>k3y</Message></Error>")
        elif how == "busy":
            self.answer(503, b"<Error><Code>SlowDown</Code></Error>")
        else:
            status, content, headers = self.ask(self.server.store, body)
            self.answer(status, content, **headers)

    do_HEAD = do_PUT = do_POST = do_DELETE = do_GET


@pytest.fixture(scope="module")
def store() -> Iterator[tuple[str, int]]:
    """Host and port of an S3 store."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    yield server.get_host_and_port()
    server.stop()
    gc.collect()  # a connection that was left open is told of here, not in somebody else's test


@pytest.fixture
def between(store: tuple[str, int], monkeypatch: pytest.MonkeyPatch) -> Iterator[Between]:
    """The way to the store, and an environment that leads there; retries come at once."""
    pause = "botocore.retries.standard.ExponentialBackoff.delay_amount"
    monkeypatch.setattr(pause, lambda self, context: 0)
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    with serving(Between(store)) as server:
        for name, value in {
            "ENDPOINT_URL": server.url, "ACCESS_KEY_ID": "me", "SECRET_ACCESS_KEY": "k3y",
            "CONFIG_FILE": "/dev/null", "SHARED_CREDENTIALS_FILE": "/dev/null",
            "EC2_METADATA_DISABLED": "true",
        }.items():  # fmt: skip
            monkeypatch.setenv(f"AWS_{name}", value)
        yield server


class Bucket:
    """A bucket of this test's own, seen without anything between."""

    def __init__(self, direct: Any) -> None:
        self.name, self.s3 = f"bucket-{uuid.uuid4().hex}", direct
        direct.create_bucket(Bucket=self.name)

    def objects(self) -> dict[str, bytes]:
        keys = [o["Key"] for o in self.s3.list_objects_v2(Bucket=self.name).get("Contents", [])]
        return {k: self.s3.get_object(Bucket=self.name, Key=k)["Body"].read() for k in keys}

    def unfinished(self) -> list[str]:
        found = self.s3.list_multipart_uploads(Bucket=self.name).get("Uploads", [])
        return [upload["Key"] for upload in found]


@pytest.fixture(scope="module")
def direct(store: tuple[str, int]) -> Iterator[Any]:
    """A client that speaks to the store itself."""
    import boto3

    client = boto3.client(
        "s3", endpoint_url="http://{}:{}".format(*store), region_name="us-east-1",
        aws_access_key_id="me", aws_secret_access_key="k3y",
    )  # fmt: skip
    yield client
    client.close()


@pytest.fixture
def bucket(between: Between, direct: Any) -> Iterator[Bucket]:
    found = Bucket(direct)
    yield found
    assert found.unfinished() == []


def send(bucket: Bucket, prefix: str = "a/b", overwrite: bool = False) -> None:
    with staging(destination(f"s3://{bucket.name}/{prefix}"), overwrite) as stage:
        fill(stage)


@pytest.mark.slow
def test_the_program_writes_to_s3(
    bucket: Bucket, sample: Path, program: Callable[..., Any]
) -> None:
    """All the files that it writes into a folder."""
    from rasterio.io import MemoryFile

    items = [f"--{event}-event={sample / event}.json" for event in ("pre", "post")]
    status, lines = program(*items, "--output-dir", f"s3://{bucket.name}/run/1")
    assert status == 0
    objects = bucket.objects()
    assert set(objects) == {f"run/1/{name}" for name in ALL}
    assert any(f"s3://{bucket.name}/run/1/bai.tif" in line for line in lines)
    with MemoryFile(objects["run/1/bai.tif"]) as memory, memory.open() as file:
        assert (file.shape, file.overviews(1)) == ((256, 256), [])


def test_s3(bucket: Bucket, between: Between, monkeypatch: pytest.MonkeyPatch) -> None:
    """In parts where it is large; with content types; the item last."""
    monkeypatch.setitem(CONTENT, "bai.tif", os.urandom(17 * 2**20))
    place = destination(f"s3://{bucket.name}/a/b/")
    assert place == f"s3://{bucket.name}/a/b"
    assert bucket.unfinished() == []
    with staging(place, overwrite=False) as stage:
        fill(stage)
        assert bucket.objects() == {}
    assert not stage.exists()
    assert bucket.objects() == {f"a/b/{name}": content for name, content in CONTENT.items()}
    assert sum("/a/b/bai.tif?" in line and line.startswith("PUT") for line in between.seen) == 3
    assert between.seen[-1].startswith(f"PUT /{bucket.name}/a/b/catalog.json")
    types = [
        bucket.s3.head_object(Bucket=bucket.name, Key=f"a/b/{name}")["ContentType"]
        for name in ("bai.tif", "bai.png", "bai.json")
    ]
    assert types == ["image/tiff", "image/png", "application/json"]


def test_s3_has_the_files_already(bucket: Bucket) -> None:
    bucket.s3.put_object(Bucket=bucket.name, Key="a/b/bai.tif", Body=b"older")
    with pytest.raises(InputError) as caught:
        send(bucket)
    assert caught.value.args == (
        f"s3://{bucket.name}/a/b/bai.tif: exists already; --overwrite replaces it",
    )
    assert bucket.objects() == {"a/b/bai.tif": b"older"}
    send(bucket, overwrite=True)
    assert bucket.objects() == {f"a/b/{name}": content for name, content in CONTENT.items()}


def test_s3_where_one_may_write_but_not_list(bucket: Bucket, between: Between) -> None:
    """The store says 403 of objects that are not there."""
    between.disturb = lambda line: "deny" if line.startswith("HEAD") else None
    send(bucket)
    assert len(bucket.objects()) == len(ALL)


@pytest.mark.parametrize(("how", "what"), [("cut", "bai.tif"), ("deny", "bai.json")])
def test_s3_fails_in_the_middle(bucket: Bucket, between: Between, how: str, what: str) -> None:
    """Whichever request fails, the item, by which others go, is not there."""
    place = destination(f"s3://{bucket.name}/p")
    between.disturb = lambda line: how if line.startswith("PUT") and what in line else None
    kind = Unavailable if how == "cut" else InputError
    with (
        pytest.raises(kind, match="cannot be written to") as caught,
        staging(place, overwrite=False) as stage,
    ):
        fill(stage)
    assert "k3y" not in str(caught.value)
    assert "p/bai.json" not in bucket.objects()


def refusal(location: str = "s3://nobody-has-this/x", kind: type[InputError] = InputError) -> str:
    """What is said at the beginning, with an error of just this kind."""
    with pytest.raises(InputError) as caught, staging(location, overwrite=False):
        pass
    assert type(caught.value) is kind
    (problem,) = caught.value.args
    assert "k3y" not in problem and "\n" not in problem
    return problem


def test_s3_that_cannot_be_written_to(
    bucket: Bucket, between: Between, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No such bucket, no rights, no boto3, nobody there, no address, no credentials."""
    assert refusal() == "s3://nobody-has-this/x: cannot be written to (NoSuchBucket)"
    between.disturb = lambda line: "deny" if line.startswith("POST") else None
    assert "(AccessDenied)" in refusal(f"s3://{bucket.name}")
    with monkeypatch.context() as without:
        without.setitem(sys.modules, "boto3", None)
        assert "install dask-claim[s3]" in refusal()
    with monkeypatch.context() as elsewhere, socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        nobody = f"http://me:k3y@127.0.0.1:{taken.getsockname()[1]}"
        elsewhere.setenv("AWS_ENDPOINT_URL_S3", nobody)
        assert "(EndpointConnectionError)" in refusal(kind=Unavailable)
        elsewhere.setenv("AWS_ENDPOINT_URL_S3", "store:k3y")
        assert "(ValueError)" in refusal()
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    assert "(NoCredentialsError)" in refusal()
    monkeypatch.setenv("AWS_PROFILE", "none")
    assert "(ProfileNotFound)" in refusal()


def test_store_that_is_busy(bucket: Bucket, between: Between) -> None:
    """For a while, which does not matter, or for long."""
    left = 99

    def busy(line: str) -> str | None:
        nonlocal left
        left -= line.startswith("POST")
        return "busy" if left >= 0 else None

    between.disturb = busy
    assert "(SlowDown)" in refusal(f"s3://{bucket.name}/x", Unavailable)
    left = 2
    send(bucket)
    assert len(bucket.objects()) == len(ALL)
