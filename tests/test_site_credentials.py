"""Credentials of the site's file: for its gateway alone, in the launcher and in the program."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jsonschema
import pytest
from click.testing import CliRunner
from dask_gateway.auth import GatewayAuth

from dask_claim.claim.model import load
from dask_claim.claim.site import read_site
from dask_claim.cli.main import cli
from dask_claim.errors import AuthenticationError, ClaimError
from dask_claim.providers.gateway.login import Login
from dask_claim.providers.gateway.site_auth import SiteAuth
from dask_claim.redact import redact_text
from tests.support.gateway import GatewayServer
from tests.support.launcher import PYTHON, Launcher
from tests.support.proxy import Proxy
from tests.support.scenes import SMALL

SECRET = "right-5678"
SITE = "https://dask.example.org"

# Its own gateway, by the configuration that it finds; then one that nobody but itself has named.
PROGRAM = """
import sys
from dask_gateway import Gateway
for address in (None, sys.argv[1]):
    with Gateway(address) as gateway:
        print(len(gateway.list_clusters()))
"""


def written(folder: Path, gateway: str, text: str, **more: str) -> dict[str, str]:
    site = folder / "claim.yaml"
    site.write_text(f"gateway_url: {gateway}\ncredentials: {{{text}}}\n")
    return {"DASK_CLAIM_SITE": str(site), "DASK_CONFIG": "/dev/null", **more}


def test_for_the_sites_gateway_alone(
    launcher: Launcher, closed_gateway: GatewayServer, gateway: GatewayServer, tmp_path: Path
) -> None:
    """That a claim's gateway is not shown them either is for `test_trust`."""
    (tmp_path / "password").write_text(f"{SECRET}\n")
    text = "type: basic, username: tester, password_file: password"
    env = written(tmp_path, closed_gateway.url, text)
    # What is configured for Dask is not for this gateway.
    env |= {"DASK_GATEWAY__AUTH__KWARGS__PASSWORD": "for-another-one"}
    with Proxy(gateway) as stranger:
        run = launcher(PYTHON, "-c", PROGRAM, stranger.url, claim=SMALL, env=env)
        assert (run.status, run.out) == (0, b"1\n0\n"), run.err
        assert run.receipt["gone"] is True
        shown = {header.partition(" ")[2] for header in stranger.shown}
        assert {base64.b64decode(each) for each in shown} == {b"", b"tester:"}
    assert SECRET not in run.err + str(run.receipt)


def test_wrong_password(launcher: Launcher, closed_gateway: GatewayServer, tmp_path: Path) -> None:
    env = written(tmp_path, closed_gateway.url, "type: basic, password: wrong-0000")
    run = launcher("true", claim={"worker_cores": 1}, env=env)
    assert run.status == 78
    assert f"They come from the credentials of {tmp_path}/claim.yaml" in run.err
    assert "wrong-0000" not in run.err


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
        (
            f"type: {__name__}.Own, secret_file: secret, key_file: key",
            "one-two {folder}/key",
        ),
    ],
)
def test_kinds(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, text: str, header: str) -> None:
    """An argument by its file or variable, unless the class itself takes a file's name."""
    (tmp_path / "secret").write_text("first-one\n")
    monkeypatch.setenv("HUB", "of-the-hub")
    monkeypatch.chdir("/")
    auth = SiteAuth(written(tmp_path, SITE, text)["DASK_CLAIM_SITE"], password="of another one")
    (tmp_path / "secret").write_text("one-two\n")
    here = SimpleNamespace(url=f"{SITE}:443/api/v1/clusters/", status=200)
    auth.prepare()
    headers, context = auth.pre_request(here)
    assert headers == {"Authorization": header.format(folder=tmp_path)}
    auth.post_response(here, context)
    for elsewhere in ("http://dask.example.org/", "https://dask.example.org.else.org/"):
        headers, context = auth.pre_request(SimpleNamespace(url=elsewhere))
        assert headers["Authorization"].startswith("Basic ") and context is None
    (tmp_path / "secret").unlink()
    assert auth.pre_request(here)[0]["Authorization"] == header.format(folder=tmp_path)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("type: basic, password_env: NOWHERE", "there is no variable NOWHERE"),
        ("type: bearer, token_file: nowhere", "No such file"),
        ("type: nowhere.Class, a: 1", "No module named 'nowhere'"),
        ("type: pathlib.Path", "is no class of"),
        ("type: oidc, issuer: 'https://login.example.org', client_id: me", "wants client_secret"),
        ("type: basic, pasword: a-secret", "unexpected keyword argument 'pasword'"),
    ],
)
def test_what_cannot_be_used(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, text: str, words: str
) -> None:
    for name, value in written(tmp_path, SITE, text).items():
        monkeypatch.setenv(name, value)
    with pytest.raises(AuthenticationError) as caught:
        Login(SITE, True, None).auth()
    assert words in str(caught.value)
    assert f"the credentials of {tmp_path}/claim.yaml" in str(caught.value)
    assert "a-secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("credentials: a-secret", "credentials"),
        ("credentials: {type: telepathy, password: a-secret}", "credentials.type"),
        ("credentials: {type: basic, password: [a-secret]}", "credentials.password"),
        ("credentials: {type: basic, password: a-secret}", "credentials.gateway"),
        ("credentials: {type: basic, gateway: a-secret}", "credentials.gateway"),
    ],
)
def test_a_faulty_entry(tmp_path: Path, text: str, path: str) -> None:
    (tmp_path / "claim.yaml").write_text(text)
    with pytest.raises(ClaimError) as caught:
        load(environ={"DASK_CLAIM_SITE": str(tmp_path / "claim.yaml")})
    assert path in str(caught.value) and "a-secret" not in str(caught.value)


def test_arguments_of_a_class(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Names and secrets stay as they were written; what else it takes may be a number."""
    monkeypatch.setattr("dask_claim.redact._known", set())
    text = (
        "type: my.Auth, username: 007, password: 12345678, pin: 0012, api_key: 1_000_000.10, "
        "token_lifetime: 60, use_token: true, realm: ~, "
    )
    said = written(tmp_path, SITE, text.rstrip(", "))
    found = read_site(said).credentials
    assert found and found.arguments == {
        "username": "007", "password": "12345678", "pin": "0012", "api_key": "1_000_000.10",
        "token_lifetime": 60, "use_token": True,
    }  # fmt: skip
    assert redact_text("of 12345678 and 1_000_000.10") == "of *** and ***"


def test_null_is_absent(tmp_path: Path) -> None:
    said = written(tmp_path, SITE, "type: basic, gateway: ~, password: ~")
    with Path(said["DASK_CLAIM_SITE"]).open("a") as file:
        file.write("\nprofiles: {standard: ~, other: {image: ~}}\npolicy: ~\ngateway_options: ~\n")
    for name in ("standard", "other"):
        found = load(environ={**said, "DASK_CLAIM_PROFILE": name})
        assert found.site and found.site.credentials and found.site.credentials.arguments == {}


def test_show_and_schema(tmp_path: Path) -> None:
    env = written(
        tmp_path, "https://else.example.org", f"type: basic, gateway: '{SITE}', password: {SECRET}"
    )

    def printed(*command: str) -> str:
        done = CliRunner(env=env).invoke(cli, command)
        assert done.exit_code == 0, done.output
        return done.stdout

    assert json.loads(printed("show", "--json"))["credentials"] == {
        "type": "basic", "gateway": f"{SITE}:443", "source": env["DASK_CLAIM_SITE"],
    }  # fmt: skip
    assert f"basic, for {SITE}:443 alone" in printed("show")
    assert SECRET not in printed("show") + printed("show", "--json")
    checker = jsonschema.Draft202012Validator(json.loads(printed("schema", "--site")))
    assert checker.is_valid({"credentials": {"type": "basic", "password_file": "x"}})
    assert not checker.is_valid({"credentials": {"password_file": "x"}})
