"""Tokens, of a file and of an OpenID provider, and which answers of that are not trusted."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from dask_claim.credentials.bearer import BearerAuth
from dask_claim.credentials.oidc import DISCOVERY, OidcAuth
from dask_claim.errors import AuthenticationError, ConfigurationError, GatewayUnreachable
from tests.support.oidc_provider import (
    CLIENT,
    CLIENT_SECRET,
    PASSWORD,
    REFRESH_TOKEN,
    USER,
    provider,
)
from tests.support.serving import answering, in_thread, of_an_unknown_authority, raw

REFUSED = SimpleNamespace(status=401)


@pytest.mark.slow
@pytest.mark.parametrize("rotate", [False, True])
def test_grants(rotate: bool, tmp_path: Path) -> None:
    """Each grant gives a token, and another one when the first has been refused."""
    (file := tmp_path / "refresh").write_text(REFRESH_TOKEN)
    ways: dict[str, dict[str, Any]] = {
        "client_credentials": {},
        "password": {"username": USER, "password": PASSWORD},
        "refresh_token": {"refresh_token_file": str(file)},
    }
    with provider(300, rotate) as issuer:
        for grant, more in ways.items():
            auth = OidcAuth(issuer.issuer, CLIENT, client_secret=CLIENT_SECRET, **more)
            before = auth.pre_request(None)
            assert auth.pre_request(None) == before and issuer.grants[-1] == grant
            auth.post_response(REFUSED)
            assert auth.pre_request(None) != before
        assert len(issuer.grants) == 6 and "Bearer eyJ" in str(before)


@contextmanager
def stranger(*answers: tuple[int, Any], description: Any = None) -> Iterator[tuple[str, list[str]]]:
    """A provider that says whatever it is told to: its address, and the secrets that it is shown.

    `ISSUER` in a description stands for that address.
    """
    said = json.dumps(description or {"issuer": "ISSUER", "token_endpoint": "ISSUER/token"})
    with answering({"/token": [*answers]}) as (issuer, server):
        server.answers[DISCOVERY] = [(200, json.loads(said.replace("ISSUER", issuer)))]
        yield issuer, server.forms


def test_refresh_token_that_is_used_up() -> None:
    """A password gives a token then, and so does a file with another one."""
    good = {"access_token": "a.b.c", "refresh_token": "used-secret-1111"}
    # Some repeat what they were sent.
    bad = {"error": "invalid_grant", "error_description": "used-secret-1111"}
    with stranger((200, good), (400, bad)) as (issuer, forms):
        auth = OidcAuth(issuer, "me", username="u", password="user-secret")
        assert auth.pre_request(None) == ({"Authorization": "Bearer a.b.c"}, None)
        auth.post_response(REFUSED)
        with pytest.raises(AuthenticationError, match=r"invalid_grant: \*\*\*") as caught:
            auth.prepare()
        assert "secret" not in str(caught.value)
        assert [form.partition("&")[0] for form in forms[1:]] == [
            "grant_type=refresh_token",
            "grant_type=password",
        ]


ELSEWHERE = {"issuer": "ISSUER", "token_endpoint": "http://gateway.example.org/token"}


@pytest.mark.parametrize(
    ("description", "answer", "error", "words"),
    [
        ({"issuer": "https://else.example.org"}, None, AuthenticationError, "another issuer"),
        (ELSEWHERE, None, AuthenticationError, "no https:// token endpoint"),
        ([1], None, AuthenticationError, "not a JSON object"),
        ("<html>", None, AuthenticationError, "Expecting value"),
        (None, (307, "http://127.0.0.1:9/"), AuthenticationError, "redirection"),
        (None, (200, {"access_token": "a b\r\nX: y"}), AuthenticationError, "a token cannot have"),
        (None, (200, {"expires_in": 5}), AuthenticationError, "token is empty"),
        (None, (200, {"access_token": "a", "expires_in": [1]}), AuthenticationError, "int()"),
        (None, (400, {"error": "unauthorized_client"}), AuthenticationError, "unauthorized_client"),
        (None, (503, {"error": "temporarily_unavailable"}), GatewayUnreachable, "503"),
        (None, (429, ""), GatewayUnreachable, "429"),
    ],
)
def test_untrustworthy_answers(
    description: Any, answer: tuple[int, Any], error: type[Exception], words: str
) -> None:
    with (
        stranger(answer, description=description) as (issuer, forms),
        pytest.raises(error) as caught,
    ):
        OidcAuth(issuer, "me", client_secret="client-secret").prepare()
    assert words in str(caught.value) and issuer in str(caught.value)
    assert "client-secret" not in str(caught.value)
    assert len(forms) == (answer is not None)


def test_what_cannot_be_reached_or_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    with (
        in_thread(raw(tls=of_an_unknown_authority())) as port,
        pytest.raises(ConfigurationError, match=r"certificate.*SSL_CERT_FILE"),
    ):
        OidcAuth(f"https://127.0.0.1:{port}", "me", client_secret="client-secret").prepare()
    with pytest.raises(GatewayUnreachable, match="cannot be reached"):
        OidcAuth(f"http://127.0.0.1:{port}", "me", client_secret="client-secret").prepare()
    with pytest.raises(AuthenticationError, match=f"No such file.*{tmp_path}/none"):
        OidcAuth("http://127.0.0.1:1", "me", client_secret_file=f"{tmp_path}/none").prepare()


def test_what_is_missing_or_too_much() -> None:
    for words, wrong in {
        "needs client_secret": {},
        "https://": {"issuer": "http://login.example.org"},
        "either": {"client_secret": "a", "client_secret_file": "b"},
        "one of": {"grant": "implicit"},
        "username and password": {"password": "a"},
    }.items():
        with pytest.raises(ValueError, match=words):
            OidcAuth(**{"issuer": "https://login.example.org", "client_id": "me", **wrong})
    for token in {}, {"token": "a", "token_file": "b"}, {"token": "a\nb"}:
        with pytest.raises(ValueError, match="token"):
            BearerAuth(**token)


def test_bearer_header(tmp_path: Path) -> None:
    """A number, a prefix, and a file, which is read again; without it the last token stays."""

    def header(auth: BearerAuth) -> str:
        return auth.pre_request(None)[0]["Authorization"]

    assert header(BearerAuth(token=1234, prefix="")) == "1234"
    assert header(BearerAuth(token="abc", token_prefix="eodc/")) == "Bearer eodc/abc"
    (file := tmp_path / "token").write_text("first\n")
    auth = BearerAuth(token_file=str(file))
    file.write_text("second\n")
    assert header(auth) == "Bearer second"
    file.unlink()
    assert header(auth) == "Bearer second"
