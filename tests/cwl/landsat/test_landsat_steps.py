"""The programs of the steps: what they fetch and send, and what they say where they cannot."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests.support.gateway import clean_environment, free_port
from tests.support.landsat import FOLDER, Server, Store, program

NAME = "LC08_L2SP_065045_20210714_20210721_02_T1_QA_PIXEL.TIF"


@pytest.fixture
def stage_in(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ModuleType:
    monkeypatch.chdir(tmp_path)
    module = program("stage_in")
    module.PAUSE = 0.01
    return module


@pytest.mark.parametrize(("how", "tries"), [("whole", 1), ("cut-once", 2)])
def test_fetched(
    how: str, tries: int, stage_in: ModuleType, band_server: Server, tmp_path: Path
) -> None:
    path = stage_in.stage_in(band_server.url(NAME, how), Path("image"))
    assert path == Path("image", NAME)
    assert path.read_bytes() == band_server.content
    assert len(band_server.seen) == tries
    assert [each for each in tmp_path.rglob("*") if each.is_file()] == [tmp_path / path]


@pytest.mark.parametrize(
    ("how", "status", "tries", "words"),
    [
        ("404", 1, 1, "the server answers 404 Not Found"),
        ("403", 1, 1, "the server answers 403 Forbidden"),
        ("503", 75, 3, "the server answers 503 Service Unavailable"),
        ("cut", 75, 3, "the download was cut off"),
        ("page", 1, 1, "a web page, not a file"),
        ("nobody", 75, 0, "cannot be reached (ConnectionError)"),
        ("whole", 1, 1, "larger than 1000 bytes"),
    ],
)
def test_not_fetched(
    how: str, status: int, tries: int, words: str, stage_in: ModuleType, band_server: Server,
    tmp_path: Path,
) -> None:  # fmt: skip
    """One line with the URL, without its secrets; and no file."""
    url, port = band_server.url(NAME, how), str(band_server.server_port)
    if how == "nobody":
        url, port = url.replace(port, other := str(free_port())), other
    if how == "whole":
        stage_in.LARGEST = 1000
    with pytest.raises(stage_in.Failure) as caught:
        stage_in.stage_in(url, Path("image"))
    assert str(caught.value).startswith(f"http://127.0.0.1:{port}/{how}/{NAME}: ")
    assert words in str(caught.value) and caught.value.status == status
    assert not any(secret in str(caught.value) for secret in ("passw0rd", "s1gned"))
    assert len(band_server.seen) == tries
    assert [each for each in tmp_path.rglob("*") if each.is_file()] == []


@pytest.mark.parametrize(
    "url",
    ["file:///etc/passwd", "ftp://h/x.TIF", "x.TIF", "http://[::1", "http://h/", "http://h/..",
     "http://h/%2e%2e", "http://h/a%2Fb", "http://h/-rf", "http://h/a%0Ab"],
)  # fmt: skip
def test_no_name_of_a_file(url: str, stage_in: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(stage_in.Failure) as caught:
        stage_in.stage_in(url, Path("image"))
    assert caught.value.status == 1
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    folder = tmp_path / "scene_downsampled"
    folder.mkdir()
    for name in ("scene_downsampled.TIF", "scene_downsampled.browse.png"):
        (folder / name).write_bytes(os.urandom(1000))
    (folder / "scene_downsampled.met.json").write_text("{}")
    return folder


def send(dataset: Path, store: Store, **changed: str) -> subprocess.CompletedProcess[str]:
    """Run the program as the workflow does."""
    inputs: dict[str, Any] = {**store.inputs(dataset.parent.name), **changed}
    credentials = dataset.parent / "credentials"
    names = ("aws_access_key_id", "aws_secret_access_key")
    content = "".join(f"{name} = {inputs[name]}\n" for name in names)
    # As the workflow has it where nobody gives a token.
    credentials.write_text(f"[default]\n{content}aws_session_token = \n")
    done = subprocess.run(
        [sys.executable, FOLDER / "stage_out.py", dataset, inputs["destination"],
         "--endpoint", inputs["endpoint"]],
        env=clean_environment(
            AWS_SHARED_CREDENTIALS_FILE=str(credentials), AWS_EC2_METADATA_DISABLED="true"
        ),
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert inputs["aws_secret_access_key"] not in done.stdout + done.stderr
    return done


def test_sent(dataset: Path, store: Store) -> None:
    """Once: what is there already stays as it is."""
    done = send(dataset, store)
    assert done.returncode == 0, done.stderr
    start = f"{dataset.parent.name}/{dataset.name}/"
    sent = {start + path.name: path.read_bytes() for path in dataset.iterdir()}
    assert store.objects(start) == sent
    order = [line.rpartition(".")[2] for line in done.stdout.splitlines()]
    assert order == ["TIF", "png", "json"]
    (dataset / "scene_downsampled.TIF").write_text("other")
    done = send(dataset, store)
    assert (done.returncode, done.stderr) == (1, f"stage-out: s3://maps/{start}: exists already\n")
    assert store.objects(start) == sent


@pytest.mark.parametrize(
    ("changed", "status", "words"),
    [
        ({"key": "AKIA0000000000000000"}, 1, "not sent (InvalidAccessKeyId)"),
        ({"secret": "wr0ng"}, 1, "not sent (SignatureDoesNotMatch)"),
        ({"destination": "s3://closed/x"}, 1, "not sent (AccessDenied)"),
        ({"destination": "s3://me:passw0rd@maps/x"}, 1, "must be s3://bucket/prefix"),
        ({"endpoint": "nonsense"}, 1, "not sent (ValueError)"),
        ({"endpoint": "http://127.0.0.1:{port}"}, 75, "not sent (EndpointConnectionError)"),
        ({"half": "a dataset"}, 1, "is no complete dataset"),
    ],
)
def test_refused(
    changed: dict[str, str], status: int, words: str, dataset: Path, store: Store,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    module = program("stage_out")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", changed.get("key", store.key))
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", changed.get("secret", store.secret))
    if "half" in changed:
        (dataset / "scene_downsampled.met.json").unlink()
    destination = changed.get("destination", f"s3://maps/{dataset.parent.name}")
    endpoint = changed.get("endpoint", store.url).format(port=free_port())
    with pytest.raises(module.Failure) as caught:
        module.stage_out(dataset, destination, endpoint, "us-east-1")
    shown = str(caught.value)
    assert words in shown and "\n" not in shown and "passw0rd" not in shown
    assert caught.value.status == status
    assert store.objects(dataset.parent.name) == store.objects("x", "closed") == {}


def test_an_overloaded_store() -> None:
    """As S3 says it; nothing else of its answer is shown."""
    from botocore.exceptions import ClientError

    answer = {
        "Error": {"Code": "SlowDown", "Message": "k3y"}, "ResponseMetadata": {"HTTPStatusCode": 503}
    }  # fmt: skip
    failure = program("stage_out").explained(ClientError(answer, "PutObject"), "s3://maps/x/")
    assert (str(failure), failure.status) == ("s3://maps/x/: not sent (SlowDown)", 75)


def test_failure_in_the_middle(
    dataset: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The store has no met.json, by which others go; another try sends all of it."""
    module = program("stage_out")
    connect = module.connect

    def connected(*arguments: Any) -> Any:
        s3 = connect(*arguments)
        upload = s3.upload_fileobj

        def upload_fileobj(file: Any, bucket: str, *more: Any, **options: Any) -> None:
            upload(file, "closed" if file.name.endswith(".json") else bucket, *more, **options)

        s3.upload_fileobj = upload_fileobj
        return s3

    monkeypatch.setenv("AWS_ACCESS_KEY_ID", store.key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", store.secret)
    given = dataset, f"s3://maps/{dataset.parent.name}", store.url, "us-east-1"
    with monkeypatch.context() as failing:
        failing.setattr(module, "connect", connected)
        with pytest.raises(module.Failure, match="AccessDenied"):
            module.stage_out(*given)
    sent = [key.rpartition(".")[2] for key in store.objects(dataset.parent.name)]
    assert sorted(sent) == ["TIF", "png"]
    module.stage_out(*given)
    assert len(store.objects(dataset.parent.name)) == 3
