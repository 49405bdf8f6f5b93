"""Credentials of the site's file: what may stand there, and what is made of it."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from dask_gateway.auth import GatewayAuth

from dask_claim.claim.addresses import GatewayAddress
from dask_claim.claim.model import load
from dask_claim.claim.site import read_site
from dask_claim.credentials.login import log_in
from dask_claim.credentials.site_auth import SiteAuth
from dask_claim.errors import AuthenticationError, ClaimError
from dask_claim.redact import redact_text

SITE = "https://dask.example.org"


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("DASK_CLAIM_SITE", str(tmp_path / "claim.yaml"))
    monkeypatch.setenv("DASK_CONFIG", "/dev/null")
    return tmp_path / "claim.yaml"


def said(text: str) -> str:
    return f"gateway_url: {SITE}\ncredentials: {{{text}}}\n"


class Own(GatewayAuth):
    """A site's own class."""

    def __init__(self, *, secret: str, key_file: str) -> None:
        self._said = f"{secret} {key_file}"

    def pre_request(self, resp: Any) -> tuple[dict[str, str], str]:
        return {"Authorization": self._said}, "context"

    def post_response(self, resp: Any, context: object) -> None:
        assert context == "context"


@pytest.mark.parametrize(
    ("text", "header"),
    [
        ("type: bearer, token_file: secret", "Bearer one-two"),
        ("type: jupyterhub, api_token_file: secret", "jupyterhub one-two"),
        ("type: jupyterhub, api_token_env: HUB", "jupyterhub of-the-hub"),
        ("type: bearer, token: 0123", "Bearer 0123"),
        ("type: basic, username: 7, password: 1e5", "Basic NzoxZTU="),
        (f"type: {__name__}.Own, secret_file: secret, key_file: key", "one-two {folder}/key"),
    ],
)
def test_kinds(monkeypatch: pytest.MonkeyPatch, site: Path, text: str, header: str) -> None:
    """An argument by its file or variable, unless the class itself takes a file's name."""
    site.write_text(said(text))
    (secret := site.with_name("secret")).write_text("first-one\n")
    monkeypatch.setenv("HUB", "of-the-hub")
    monkeypatch.chdir("/")
    auth = SiteAuth(str(site), password="of another one")
    secret.write_text("one-two\n")
    here = SimpleNamespace(url=f"{SITE}:443/api/v1/clusters/", status=200)
    auth.prepare()
    headers, context = auth.pre_request(here)
    assert headers == {"Authorization": header.format(folder=site.parent)}
    auth.post_response(here, context)
    for elsewhere in ("http://dask.example.org/", "https://dask.example.org.else.org/"):
        headers, context = auth.pre_request(SimpleNamespace(url=elsewhere))
        assert headers["Authorization"].startswith("Basic ") and context is None
    secret.unlink()
    assert auth.pre_request(here)[0]["Authorization"] == header.format(folder=site.parent)


def test_what_is_wrong_beside_them_takes_them_from_no_run(site: Path) -> None:
    site.write_text(f"{said('type: bearer, token: one')}policy: {{max_coers: 4}}\n")
    headers, _ = SiteAuth(str(site)).pre_request(SimpleNamespace(url=SITE, status=200))
    assert headers["Authorization"] == "Bearer one"
    with pytest.raises(ClaimError, match=r"policy\.max_coers"):
        load()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("type: basic, password_env: NOWHERE", "the variable NOWHERE"),
        ("type: bearer, token_file: nowhere", "No such file"),
        ("type: nowhere.Class, a: 1", "No module named 'nowhere'"),
        ("type: pathlib.Path", "is not a subclass of"),
        ("type: oidc, issuer: 'https://login.example.org', client_id: me", "needs client_secret"),
        ("type: basic, pasword: a-secret", "unexpected keyword argument 'pasword'"),
    ],
)
def test_what_cannot_be_used(site: Path, text: str, words: str) -> None:
    site.write_text(said(text))
    with pytest.raises(AuthenticationError) as caught:
        log_in(GatewayAddress(SITE, trusted=True))
    assert words in str(caught.value) and f"the credentials of {site}" in str(caught.value)
    assert "a-secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("a-secret", "credentials: must be an object with a type"),
        ("{password: a-secret}", "credentials: must be an object with a type"),
        ("{type: [a-secret]}", "credentials: must be an object with a type"),
        ("{type: telepathy, password: a-secret}", "credentials.type"),
        ("{type: basic, password: [a-secret]}", "credentials.password"),
        ("{type: basic, password: a-secret}", "credentials.gateway"),
        ("{type: basic, gateway: a-secret}", "credentials.gateway"),
    ],
)
def test_a_faulty_entry(site: Path, text: str, path: str) -> None:
    site.write_text(f"credentials: {text}")
    with pytest.raises(ClaimError) as caught:
        load()
    assert path in str(caught.value) and "a-secret" not in str(caught.value)


def test_arguments_of_a_class(monkeypatch: pytest.MonkeyPatch, site: Path) -> None:
    """Names and secrets stay as they were written; what else it takes may be a number."""
    monkeypatch.setattr("dask_claim.redact._registered", set())
    text = (
        "type: my.Auth, username: 007, password: 12345678, pin: 0012, api_key: 1_000_000.10, "
        "token_lifetime: 60, use_token: true, realm: ~"
    )
    site.write_text(said(text))
    found = read_site({"DASK_CLAIM_SITE": str(site)}).credentials
    assert found and found.arguments == {
        "username": "007", "password": "12345678", "pin": "0012", "api_key": "1_000_000.10",
        "token_lifetime": 60, "use_token": True,
    }  # fmt: skip
    assert redact_text("of 12345678 and 1_000_000.10") == "of *** and ***"


def test_null_is_absent(site: Path) -> None:
    more = "profiles: {standard: ~, other: {image: ~}}\npolicy: ~\ngateway_options: ~\n"
    site.write_text(said("type: basic, gateway: ~, password: ~") + more)
    for name in ("standard", "other"):
        found = load(environ={"DASK_CLAIM_SITE": str(site), "DASK_CLAIM_PROFILE": name})
        assert found.site and found.site.credentials and found.site.credentials.arguments == {}
