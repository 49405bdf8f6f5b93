"""Credentials that are replaced while a run goes on: launcher, guard and program follow."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from dask_claim.providers.gateway.auth import BearerAuth
from tests.support.gateway import REFERENCE, GatewayServer
from tests.support.launcher import PYTHON, Launcher, wait_for

# Checks every request; the password is the test's own.
CHECKING = """
from aiohttp import web
from dask_gateway_server.auth import SimpleAuthenticator
from dask_gateway_server.models import User
from pathlib import Path

class OneToken(SimpleAuthenticator):
    async def authenticate_and_handle(self, request, handler):
        said = request.headers.get("Authorization", "")
        if said == "Bearer " + Path("token").read_text():
            request["user"] = User("tester")
        elif said.startswith("Basic "):
            request["user"] = await self.authenticate(request)
        else:
            raise web.HTTPUnauthorized(headers={"WWW-Authenticate": "Bearer"})
        return await handler(request)

c.DaskGateway.authenticator_class = OneToken
c.OneToken.password = "operator-1234"
Path("token").write_text("none as yet")
"""

# The program asks the gateway itself, before and after the token is another one.
PROGRAM = """
import os, time
from dask_gateway import Gateway

def ask():
    with Gateway() as gateway:
        print(len(gateway.list_clusters()), flush=True)

ask()
open("asked", "w").close()
while not os.path.exists("replaced"):
    time.sleep(0.05)
ask()
"""


@pytest.fixture(scope="module")
def site() -> Iterator[GatewayServer]:
    server = GatewayServer(REFERENCE + CHECKING, password="operator-1234")
    yield server
    server.stop()


def replace(path: Path, text: str) -> None:
    new = path.with_suffix(".new")
    new.write_text(text)
    os.replace(new, path)


@pytest.mark.slow
@pytest.mark.parametrize("end", ["ordinary", "SIGKILL"])
def test_token_replaced(launcher: Launcher, site: GatewayServer, tmp_path: Path, end: str) -> None:
    mine, theirs = tmp_path / "token", site.folder / "token"
    replace(theirs, "first-secret-1")
    replace(mine, "first-secret-1\n")
    env = {
        "DASK_CLAIM_GATEWAY_URL": site.url,
        "DASK_GATEWAY__AUTH__TYPE": "dask_claim.providers.gateway.auth.BearerAuth",
        "DASK_GATEWAY__AUTH__KWARGS__TOKEN_FILE": str(mine),
    }
    # Without a lease it is the token alone that ends the cluster.
    claim = {"worker_cores": 1, "lease_timeout": 0}
    run = launcher.start(PYTHON, "-c", PROGRAM, claim=claim, env=env, cwd=tmp_path)
    wait_for((tmp_path / "asked").exists, "the program's first request", 90, lambda: run.err)
    replace(theirs, "second-secret-2")
    replace(mine, "second-secret-2\n")
    if end == "SIGKILL":
        run.process.kill()
    (tmp_path / "replaced").touch()
    result = run.finish(90)
    if end == "ordinary":
        assert (result.status, result.out) == (0, b"1\n1\n"), result.err
        assert result.receipt["gone"] is True
    wait_for(lambda: not site.clusters(), "end of the cluster", 60, lambda: run.err)
    assert "secret" not in run.err + str(result.receipt)


@pytest.mark.slow
def test_token_removed(launcher: Launcher, site: GatewayServer, tmp_path: Path) -> None:
    """While the command runs: the token that the gateway has accepted ends the cluster."""
    token = tmp_path / "token"
    replace(site.folder / "token", "first-secret-1")
    replace(token, "first-secret-1\n")
    env = {
        "DASK_CLAIM_GATEWAY_URL": site.url,
        "DASK_GATEWAY__AUTH__TYPE": "dask_claim.providers.gateway.auth.BearerAuth",
        "DASK_GATEWAY__AUTH__KWARGS__TOKEN_FILE": str(token),
    }
    claim = {"worker_cores": 1, "lease_timeout": 0}
    run = launcher("sh", "-c", f"rm {token}; exit 3", claim=claim, env=env)
    assert (run.status, run.receipt["gone"]) == (3, True), run.err
    assert site.clusters() == []


@pytest.mark.parametrize("wrong", [{}, {"token": "a", "token_file": "b"}, {"token": "a\nb"}])
def test_what_is_no_token(wrong: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="bearer authentication"):
        BearerAuth(**wrong)


def test_number_and_prefix() -> None:
    headers, _ = BearerAuth(token=1234, prefix="").pre_request(None)
    assert headers == {"Authorization": "1234"}
    headers, _ = BearerAuth(token="abc", token_prefix="eodc/").pre_request(None)
    assert headers == {"Authorization": "Bearer eodc/abc"}


def test_file_is_read_again(tmp_path: Path) -> None:
    file = tmp_path / "token"
    replace(file, "first\n")
    auth = BearerAuth(token_file=str(file))
    replace(file, "second\n")
    second = ({"Authorization": "Bearer second"}, None)
    assert auth.pre_request(None) == second
    file.unlink()
    assert auth.pre_request(None) == second
