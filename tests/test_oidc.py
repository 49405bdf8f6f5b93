"""An OpenID provider whose tokens live some seconds: launcher, guard and program follow."""

from __future__ import annotations

import json
import socket
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from dask_claim.errors import AuthenticationError, GatewayUnreachable
from dask_claim.providers.gateway.oidc import OidcAuth
from dask_claim.providers.gateway.oidc_session import PATIENCE
from tests.support.gateway import REFERENCE, GatewayServer, clean_environment
from tests.support.launcher import DASK_CLAIM, ONE_TASK, PYTHON, Launcher, wait_for
from tests.support.oidc_provider import (
    CLIENT,
    CLIENT_SECRET,
    PASSWORD,
    PUBLIC_CLIENT,
    REFRESH_TOKEN,
    USER,
    Provider,
    provider,
)

# One provider and one gateway for all.
pytestmark = pytest.mark.xdist_group("oidc")

OIDC = "dask_claim.providers.gateway.oidc.OidcAuth"
LIFETIME = 5
"""Seconds that a token lives."""

# Asks the gateway itself until its token has ended three times, and once more at the end.
PROGRAM = """
import os, time
assert "secret-" + "1234" not in str(os.environ)
from dask_gateway import Gateway
from distributed import Client

with Client() as client:
    assert client.submit(sum, [20, 22]).result() == 42
with Gateway() as gateway:
    print(len(gateway.list_clusters()), flush=True)
    open("asked", "w").close()
    end = time.monotonic() + 17
    while time.monotonic() < end and not os.path.exists("enough"):
        time.sleep(0.1)
    print(len(gateway.list_clusters()), flush=True)
"""


@pytest.fixture(scope="module")
def issuer() -> Iterator[Provider]:
    with provider(LIFETIME) as made:
        yield made


@pytest.fixture(scope="module")
def site(issuer: Provider) -> Iterator[GatewayServer]:
    server = GatewayServer(REFERENCE + issuer.checking(), password="operator-1234")
    yield server
    server.stop()


def configured(site: GatewayServer, issuer: Provider, folder: Path, **more: str) -> dict[str, str]:
    (folder / "secret").write_text(f"{CLIENT_SECRET}\n")
    kwargs = {
        "ISSUER": issuer.issuer, "CLIENT_ID": CLIENT,
        "CLIENT_SECRET_FILE": str(folder / "secret"), **more,
    }  # fmt: skip
    return {
        "DASK_CLAIM_GATEWAY_URL": site.url,
        "DASK_GATEWAY__AUTH__TYPE": OIDC,
        **{f"DASK_GATEWAY__AUTH__KWARGS__{name}": value for name, value in kwargs.items()},
    }


def command_lines() -> str:
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            found.append(entry.read_bytes().decode(errors="replace"))
        except OSError:
            continue
    return "\n".join(found)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("end", "by"), [("ordinary", "site file"), ("SIGKILL", "site file"), ("SIGKILL", "Dask")]
)
def test_token_ends_three_times(
    launcher: Launcher, site: GatewayServer, issuer: Provider, tmp_path: Path, end: str, by: str
) -> None:
    env = configured(site, issuer, tmp_path)
    if by == "site file":
        (tmp_path / "claim.yaml").write_text(
            f"gateway_url: {site.url}\n"
            f"credentials: {{type: oidc, issuer: '{issuer.issuer}', client_id: {CLIENT}, "
            "client_secret_file: secret}\n"
        )
        env = {"DASK_CLAIM_SITE": "claim.yaml"}
    # Without a lease it is the token alone that ends the cluster.
    claim = {"worker_cores": 1, "lease_timeout": 0}
    run = launcher.start(PYTHON, "-c", PROGRAM, claim=claim, env=env, cwd=tmp_path)
    wait_for((tmp_path / "asked").exists, "the program's first request", 90, lambda: run.err)
    shown = command_lines()
    if end == "SIGKILL":
        given = len(issuer.grants)
        run.process.kill()
        (tmp_path / "enough").touch()
        wait_for(lambda: not site.clusters(), "end of the cluster", 60, lambda: run.err)
        assert len(issuer.grants) > given  # the guard's own
    result = run.finish(90)
    if end == "ordinary":
        assert (result.status, result.out) == (0, b"1\n1\n"), result.err
        assert result.receipt["gone"] is True
        assert site.clusters() == []
    assert "client_credentials" in issuer.grants
    for secret in ("secret-1234", "eyJ"):
        assert secret not in run.err + str(result.receipt) + shown
    assert "eyJ" not in site.log.read_text()


def test_wrong_secret(
    launcher: Launcher, site: GatewayServer, issuer: Provider, tmp_path: Path
) -> None:
    env = configured(site, issuer, tmp_path)
    (tmp_path / "secret").write_text("wrong-secret-0000")
    run = launcher("true", claim={"worker_cores": 1}, env=env)
    assert run.status == 78
    assert f"the OpenID provider {issuer.issuer} refuses: invalid_client" in run.err
    assert "wrong-secret" not in run.err + str(run.receipt)


def test_signal_while_the_provider_hangs(launcher: Launcher, tmp_path: Path) -> None:
    """It ends the run at once: nobody waits for the provider's answer."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}"
        (tmp_path / "claim.yaml").write_text(
            f"gateway_url: {address}\n"
            f"credentials: {{type: oidc, issuer: '{address}', client_id: me, client_secret: no}}\n"
        )
        env = {"DASK_CLAIM_SITE": str(tmp_path / "claim.yaml")}
        run = launcher.start("true", claim={"worker_cores": 1}, env=env)
        silent.settimeout(60)
        asked, _ = silent.accept()
        with asked:
            run.process.terminate()
            asked.settimeout(PATIENCE * 0.9)
            # It hangs up before its own patience with the provider is over.
            while asked.recv(4096):
                pass
        assert run.finish(30).status == 143


def test_wrong_audience(
    launcher: Launcher, site: GatewayServer, issuer: Provider, tmp_path: Path
) -> None:
    run = launcher(
        "true",
        claim={"worker_cores": 1},
        env=configured(site, issuer, tmp_path, AUDIENCE="somebody-else"),
    )
    assert run.status == 78
    assert "refused the credentials (401" in run.err


@pytest.mark.slow
def test_password_of_a_user_and_prefix(
    launcher: Launcher, issuer: Provider, tmp_path: Path
) -> None:
    """As at EODC: a client without a secret, and a word directly before the token."""
    server = GatewayServer(REFERENCE + issuer.checking("eodc/"), password="operator-1234")
    (tmp_path / "password").write_text(f"{PASSWORD}\n")
    (tmp_path / "claim.yaml").write_text(
        f"gateway_url: {server.url}\n"
        f"credentials: {{type: oidc, issuer: '{issuer.issuer}', client_id: {PUBLIC_CLIENT}, "
        f"username: {USER}, password_file: password, token_prefix: eodc/}}\n"
    )
    env = {"DASK_CLAIM_SITE": str(tmp_path / "claim.yaml")}
    try:
        run = launcher(PYTHON, "-c", ONE_TASK, claim={"worker_cores": 1}, env=env)
        assert (run.status, run.out) == (0, b"42\n"), run.err
        assert run.receipt["gone"] is True and server.clusters() == []
        doctor = subprocess.run(
            [DASK_CLAIM, "doctor"], env=clean_environment(**env), capture_output=True, text=True
        )
        assert "credentials: accepted; clusters of yours: 0; tokens are renewed" in doctor.stdout
    finally:
        server.stop()
    assert "password" in issuer.grants and PASSWORD not in run.err


@pytest.mark.slow
@pytest.mark.parametrize("rotate", [False, True])
def test_grants(rotate: bool, tmp_path: Path) -> None:
    """Each grant gives a token, and another one when the first has been refused."""
    file = tmp_path / "refresh"
    file.write_text(REFRESH_TOKEN)
    user = {"username": USER, "password": PASSWORD}
    ways: dict[str, dict[str, Any]] = {
        "client_credentials": {},
        "password": user,
        "refresh_token": {"refresh_token_file": str(file)},
    }
    with provider(300, rotate) as issuer:
        for grant, more in ways.items():
            auth = OidcAuth(issuer.issuer, CLIENT, client_secret=CLIENT_SECRET, **more)
            before = auth.pre_request(None)
            assert auth.pre_request(None) == before and issuer.grants[-1] == grant
            auth.post_response(Answer(401))
            assert auth.pre_request(None) != before
        assert len(issuer.grants) == 6 and "Bearer eyJ" in str(before)


class Answer:
    def __init__(self, status: int) -> None:
        self.status = status


class Stranger:
    """A provider that says whatever it is told to, and counts the secrets that it is shown."""

    def __init__(self, description: Any = None, answer: tuple[int, Any] = (200, {})) -> None:
        self.description, self.answer = description, answer
        self.forms: list[str] = []
        owner = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                said = {"issuer": owner.issuer, "token_endpoint": f"{owner.issuer}/token"}
                content = said if owner.description is None else owner.description
                self.reply(200, content)

            def do_POST(self) -> None:
                form = self.rfile.read(int(self.headers["Content-Length"])).decode()
                owner.forms.append(form)
                self.reply(*owner.answer)

            def reply(self, status: int, content: Any) -> None:
                text = content if isinstance(content, str) else json.dumps(content)
                self.send_response(status)
                if status == 307:
                    self.send_header("Location", text)
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text.encode())

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.issuer = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.05}
        )

    def __enter__(self) -> Stranger:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


def test_refresh_token_that_is_used_up(tmp_path: Path) -> None:
    """A password gives a token then, and so does a file with another one."""
    good = {"access_token": "a.b.c", "refresh_token": "used-secret-1111"}
    with Stranger(answer=(200, good)) as stranger:
        auth = OidcAuth(stranger.issuer, "me", username="u", password="user-secret")
        assert auth.pre_request(None) == ({"Authorization": "Bearer a.b.c"}, None)
        auth.post_response(Answer(401))
        # Some repeat what they were sent.
        stranger.answer = (400, {"error": "invalid_grant", "error_description": "used-secret-1111"})
        with pytest.raises(AuthenticationError, match=r"invalid_grant: \*\*\*") as caught:
            auth.prepare()
        assert "secret" not in str(caught.value)
        assert [form[:20] for form in stranger.forms[1:]] == [
            "grant_type=refresh_t",
            "grant_type=password&",
        ]


@pytest.mark.parametrize(
    ("description", "answer", "error", "words"),
    [
        ({"issuer": "https://else.example.org"}, None, AuthenticationError, "another issuer"),
        ([], None, AuthenticationError, "no JSON object"),
        ("<html>", None, AuthenticationError, "Expecting value"),
        ("x" * 70_000, None, AuthenticationError, "longer than"),
        (None, (307, "http://127.0.0.1:9/"), AuthenticationError, "redirection"),
        (None, (200, {"access_token": "a b\r\nX: y"}), AuthenticationError, "no token"),
        (None, (200, {"expires_in": 5}), AuthenticationError, "no token"),
        (None, (200, {"access_token": "a", "expires_in": [1]}), AuthenticationError, "int()"),
        (None, (400, {"error": "unauthorized_client"}), AuthenticationError, "unauthorized_client"),
        (None, (503, {"error": "temporarily_unavailable"}), GatewayUnreachable, "503"),
        (None, (429, ""), GatewayUnreachable, "429"),
    ],
)
def test_untrustworthy_answers(
    description: Any, answer: tuple[int, Any], error: type[Exception], words: str
) -> None:
    with Stranger(description, answer) as stranger:
        auth = OidcAuth(stranger.issuer, "me", client_secret="client-secret")
        with pytest.raises(error) as caught:
            auth.prepare()
    assert words in str(caught.value) and stranger.issuer in str(caught.value)
    assert "client-secret" not in str(caught.value)
    assert len(stranger.forms) == (answer is not None)


def test_other_token_endpoint_is_not_plain_http() -> None:
    with Stranger() as stranger:
        stranger.description = {
            "issuer": stranger.issuer, "token_endpoint": "http://gateway.example.org/token",
        }  # fmt: skip
        with pytest.raises(AuthenticationError, match="no https:// token endpoint"):
            OidcAuth(stranger.issuer, "me", client_secret="client-secret").prepare()


def test_provider_that_is_away(tmp_path: Path) -> None:
    with pytest.raises(GatewayUnreachable, match="cannot be reached"):
        OidcAuth("http://127.0.0.1:1", "me", client_secret="client-secret").prepare()
    with pytest.raises(AuthenticationError, match="No such file") as caught:
        OidcAuth("http://127.0.0.1:1", "me", client_secret_file=f"{tmp_path}/none").prepare()
    assert f"{tmp_path}/none" in str(caught.value)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({}, "wants client_secret"),
        ({"issuer": "http://login.example.org"}, "https://"),
        ({"client_secret": "a", "client_secret_file": "b"}, "either"),
        ({"grant": "implicit"}, "none of"),
        ({"password": "a"}, "username and password"),
    ],
)
def test_what_is_missing_or_too_much(wrong: dict[str, str], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        OidcAuth(**{"issuer": "https://login.example.org", "client_id": "me", **wrong})
