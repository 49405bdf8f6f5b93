"""Credentials that are replaced, or end, while a run goes on: launcher, guard, program follow."""

from __future__ import annotations

import base64
import os
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from dask_claim.credentials.oidc import PATIENCE
from dask_claim.errors import AuthenticationError
from dask_claim.providers.gateway.api import GatewayApi
from tests.support.forking import ForkedDask
from tests.support.gateway import REFERENCE, GatewayServer
from tests.support.launcher import PYTHON, Launcher, wait_for
from tests.support.oidc_provider import (
    CLIENT,
    CLIENT_SECRET,
    PASSWORD,
    PUBLIC_CLIENT,
    TOKEN_PREFIX,
    USER,
    Provider,
    provider,
)
from tests.support.proxy import Proxy
from tests.support.scenes import SMALL
from tests.test_gateway_api import ask

# One provider and one gateway for all.
pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("credentials")]

# Without a lease it is the token alone that ends the cluster.
CLAIM = {**SMALL, "lease_timeout": 0}
LIFETIME = 4
"""Seconds that a provider's token lives."""

# Asks the gateway itself, before and after the token is another one.
PROGRAM = """
import os, time
assert "secret-" + "1234" not in str(os.environ)
from dask_gateway import Gateway

with Gateway() as gateway:
    print(len(gateway.list_clusters()), flush=True)
    open("asked", "w").close()
    while not os.path.exists("replaced"):
        time.sleep(0.05)
    print(len(gateway.list_clusters()), flush=True)
"""


@pytest.fixture(scope="module")
def issuer() -> Iterator[Provider]:
    with provider(LIFETIME) as made:
        yield made


@pytest.fixture(scope="module")
def site(issuer: Provider, forked_dask: ForkedDask) -> Iterator[GatewayServer]:
    options = REFERENCE + issuer.checking()
    server = GatewayServer(options, password="operator-1234", dask=forked_dask)
    yield server
    server.stop()


def written(folder: Path, gateway: str, credentials: str) -> dict[str, str]:
    """The site's file."""
    text = f"gateway_url: {gateway}\ncredentials: {{{credentials}}}\n"
    (folder / "claim.yaml").write_text(text)
    return {"DASK_CLAIM_SITE": str(folder / "claim.yaml")}


def oidc(issuer: str, client: str = CLIENT, **more: str) -> str:
    said = {"type": "oidc", "issuer": f"'{issuer}'", "client_id": client, **more}
    return ", ".join(f"{name}: {value}" for name, value in said.items())


def replace(path: Path, text: str) -> None:
    new = path.with_suffix(".new")
    new.write_text(text)
    os.replace(new, path)


FILE = "type: bearer, token_file: token"
# As at EODC: a client without a secret, and a word directly before the token.
USERS = oidc(
    "ISSUER", PUBLIC_CLIENT, username=USER, password_file="password", token_prefix=TOKEN_PREFIX
)
WRITTEN = {"token": "first-secret-1", "secret": CLIENT_SECRET, "password": PASSWORD}


@pytest.mark.parametrize(
    ("credentials", "end"),
    [
        (FILE, "SIGKILL"), (FILE, "removed"), (USERS, "ordinary"),
        pytest.param("Dask's", "SIGKILL", marks=pytest.mark.deep),
    ],
    ids=["file-SIGKILL", "file-removed", "users", "Dask-SIGKILL"],
)  # fmt: skip
def test_token_replaced(
    launcher: Launcher, site: GatewayServer, issuer: Provider, tmp_path: Path,
    credentials: str, end: str,
) -> None:  # fmt: skip
    """`removed`: the token that the gateway has accepted last will do."""
    theirs = site.folder / "token"
    replace(theirs, WRITTEN["token"])
    for name, text in WRITTEN.items():
        (tmp_path / name).write_text(f"{text}\n")
    env = written(tmp_path, site.url, credentials.replace("ISSUER", issuer.issuer))
    if credentials == "Dask's":
        env = {
            "DASK_CLAIM_GATEWAY_URL": site.url,
            "DASK_GATEWAY__AUTH__TYPE": "dask_claim.credentials.oidc.OidcAuth",
            "DASK_GATEWAY__AUTH__KWARGS__ISSUER": issuer.issuer,
            "DASK_GATEWAY__AUTH__KWARGS__CLIENT_ID": CLIENT,
            "DASK_GATEWAY__AUTH__KWARGS__CLIENT_SECRET_FILE": str(tmp_path / "secret"),
        }
    given = len(issuer.grants)
    run = launcher.start(PYTHON, "-c", PROGRAM, claim=CLAIM, env=env, cwd=tmp_path)
    wait_for((tmp_path / "asked").exists, "the program's first request", 90, lambda: run.err)
    shown = subprocess.check_output(["ps", "-eww", "-o", "args"], text=True)
    assert PROGRAM.splitlines()[-1] in shown
    before = len(issuer.grants)
    if end == "removed":
        (tmp_path / "token").unlink()
    else:
        replace(theirs, "second-secret-2")
        replace(tmp_path / "token", "second-secret-2\n")
    if end == "SIGKILL":
        run.process.kill()
    elif credentials != FILE:
        time.sleep(LIFETIME)  # the program's token ends
    (tmp_path / "replaced").touch()
    result = run.finish()
    if end != "SIGKILL":
        assert (result.status, result.out) == (0, b"1\n1\n"), result.err
        assert result.receipt["gone"] is True
    wait_for(lambda: not site.clusters(), "end of the cluster", 60, lambda: run.err)
    if credentials != FILE:
        # The guard has one of its own, and the program, whose first has ended, another one.
        assert len(issuer.grants) > before
        first = "password" if credentials == USERS else "client_credentials"
        assert issuer.grants[given] == first
    for secret in ("secret-1", "secret-2", "eyJ", PASSWORD):
        assert secret not in run.err + str(result.receipt) + shown
    assert "eyJ" not in site.log.read_text()


@pytest.mark.parametrize(
    ("credentials", "words"),
    [
        ("type: basic, password: wrong-secret", "They come from the credentials of {file}"),
        (oidc("ISSUER", client_secret="wrong-secret"), "provider {issuer} refuses: invalid_client"),
        (
            oidc("ISSUER", client_secret=CLIENT_SECRET, audience="else"),
            "refused the credentials (401",
        ),
    ],
    ids=["password", "client", "audience"],
)
def test_what_is_refused(
    monkeypatch: pytest.MonkeyPatch, site: GatewayServer, issuer: Provider, tmp_path: Path,
    credentials: str, words: str,
) -> None:  # fmt: skip
    env = written(tmp_path, site.url, credentials.replace("ISSUER", issuer.issuer))
    monkeypatch.setenv("DASK_CLAIM_SITE", env["DASK_CLAIM_SITE"])
    with pytest.raises(AuthenticationError) as caught:
        ask(site.url, GatewayApi.clusters)
    assert caught.value.exit_status == 78 and "-secret" not in str(caught.value)
    assert words.format(issuer=issuer.issuer, file=tmp_path / "claim.yaml") in str(caught.value)


ELSEWHERE = """
import sys
from dask_gateway import Gateway
for address in (None, sys.argv[1]):
    with Gateway(address) as gateway:
        print(len(gateway.list_clusters()))
"""


def test_for_the_sites_gateway_alone(
    launcher: Launcher, site: GatewayServer, gateway: GatewayServer, tmp_path: Path
) -> None:
    """Not for one that nobody but the program itself names."""
    (tmp_path / "password").write_text(f"{site.password}\n")
    text = "type: basic, username: tester, password_file: password"
    # What is configured for Dask is not for this gateway.
    other = {"DASK_GATEWAY__AUTH__KWARGS__PASSWORD": "for-another-one"}
    env = {**written(tmp_path, site.url, text), **other}
    with Proxy(gateway) as stranger:
        run = launcher(PYTHON, "-c", ELSEWHERE, stranger.url, claim=SMALL, env=env)
    assert (run.status, run.out) == (0, b"1\n0\n"), run.err
    assert run.receipt["gone"] is True
    shown = {header.partition(" ")[2] for header in stranger.shown}
    assert {base64.b64decode(each) for each in shown} == {b"", b"tester:"}
    assert site.password not in run.err + str(run.receipt)


def test_signal_while_the_provider_hangs(launcher: Launcher, tmp_path: Path) -> None:
    """It ends the run at once: nobody waits for the provider's answer."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}"
        env = written(tmp_path, address, oidc(address, client_secret="no"))
        run = launcher.start("true", claim={"worker_cores": 1}, env=env)
        silent.settimeout(60)
        asked, _ = silent.accept()
        with asked:
            run.process.terminate()
            asked.settimeout(PATIENCE * 0.9)
            # It hangs up before its own patience with the provider is over.
            while asked.recv(4096):
                pass
        assert run.finish().status == 143
