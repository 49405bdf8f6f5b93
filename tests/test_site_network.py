"""A gateway behind nginx with a private CA, reached directly and by an HTTP proxy."""

from __future__ import annotations

import asyncio
import getpass
import os
import shutil
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from subprocess import PIPE
from typing import NamedTuple

import pytest

from tests.support.forking import ForkedDask
from tests.support.gateway import REFERENCE, GatewayServer, free_port
from tests.support.launcher import PYTHON, Launcher, wait_for
from tests.support.missing import PATH, need
from tests.support.oidc_provider import CLIENT, CLIENT_SECRET, provider
from tests.support.serving import in_thread, of_an_unknown_authority

NGINX = """
daemon off; master_process off; worker_processes 1; pid nginx.pid; error_log error.log; {user}
events {{}}
http {{
    access_log access.log;
    client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi; scgi_temp_path scgi;
    ssl_certificate {folder}/server.pem; ssl_certificate_key {folder}/server.pem;
    server {{ listen 127.0.0.1:{port} ssl; location / {{ proxy_pass {url}; }} }}
    server {{ listen 127.0.0.1:{login_port} ssl; location / {{ proxy_pass {login}; }} }}
}}
"""

# Its own gateway, and its own cluster, with what it finds in its environment.
PROGRAM = """
import sys
from dask_gateway import Gateway
from distributed import Client
with Gateway() as gateway, Client() as client:
    print(len(gateway.list_clusters()), client.submit(sum, [20, 22]).result(), flush=True)
open("asked", "w").close()
sys.stdin.read()
"""


@asynccontextmanager
async def tunnelling(tunnels: list[str]) -> AsyncIterator[str]:
    """An HTTP proxy that only tunnels, and remembers where to."""

    async def copy(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await source.read(65536):
                sink.write(data)
                await sink.drain()
            sink.write_eof()

    async def meet(client: asyncio.StreamReader, back: asyncio.StreamWriter) -> None:
        with suppress(OSError, asyncio.IncompleteReadError):
            method, target, _ = (await client.readuntil(b"\r\n\r\n")).decode().split(" ", 2)
            tunnels.append(f"{method} {target}")
            server, there = await asyncio.open_connection(*target.split(":"))
            back.write(b"HTTP/1.1 200 OK\r\n\r\n")
            await asyncio.gather(copy(client, there), copy(server, back))
            there.close()
        back.close()

    serving = await asyncio.start_server(meet, "127.0.0.1", 0)
    yield f"http://127.0.0.1:{serving.sockets[0].getsockname()[1]}"
    serving.close()


class Site(NamedTuple):
    gateway: GatewayServer
    folder: Path
    url: str
    """The gateway's address, by HTTPS."""

    proxy: str
    tunnels: list[str]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, forked_dask: ForkedDask) -> Iterator[Site]:
    need("nginx")
    of_an_unknown_authority(folder := tmp_path_factory.mktemp("site"))
    port, login_port = free_port(), free_port()
    url, issuer = (f"https://127.0.0.1:{each}" for each in (port, login_port))
    # Started by root, nginx would change to a user who may not read the folder.
    user = f"user {getpass.getuser()};" if os.geteuid() == 0 else ""
    error, tunnels = folder / "error.log", []
    with provider(60, issuer=issuer) as login, in_thread(tunnelling(tunnels)) as proxy:
        options = REFERENCE + login.checking()
        gateway = GatewayServer(options, password="operator-1234", dask=forked_dask)
        (folder / "secret").write_text(CLIENT_SECRET)
        (folder / "claim.yaml").write_text(
            f"gateway_url: {url}\nproxy_url: {gateway.url.replace('http', 'gateway')}\n"
            f"credentials: {{type: oidc, issuer: '{issuer}', client_id: {CLIENT}, "
            "client_secret_file: secret}\n"
        )
        (folder / "nginx.conf").write_text(
            NGINX.format(
                user=user, folder=folder, port=port, url=gateway.url, login_port=login_port,
                login=login.address,
            )
        )  # fmt: skip
        nginx = [shutil.which("nginx", path=PATH), "-p", folder, "-e", error, "-c", "nginx.conf"]
        server = subprocess.Popen(nginx)
        try:
            # Written when it listens.
            wait_for((folder / "nginx.pid").exists, "nginx", 20, error.read_text)
            yield Site(gateway, folder, url, proxy, tunnels)
        finally:
            server.terminate()
            server.wait()
            gateway.stop()


pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("site network")]

CLAIM = {"worker_cores": 1, "max_workers": 1, "lease_timeout": 0}


@pytest.mark.parametrize(
    "excepted", ["", pytest.param("127.0.0.1", marks=pytest.mark.deep)], ids=["proxy", "NO_PROXY"]
)
def test_private_ca_and_proxy(
    launcher: Launcher, site: Site, tmp_path: Path, excepted: str
) -> None:
    """Launcher, program and, as the launcher is killed, guard: each by the way that is set."""
    env = {
        "DASK_CLAIM_SITE": str(site.folder / "claim.yaml"),
        "SSL_CERT_FILE": str(site.folder / "ca.pem"),
        "HTTPS_PROXY": site.proxy,
        "NO_PROXY": excepted,
    }
    unset = ("https_proxy", "no_proxy")
    site.tunnels.clear()
    run = launcher.start(
        PYTHON, "-c", PROGRAM, claim=CLAIM, env=env, unset=unset, cwd=tmp_path, stdin=PIPE
    )
    wait_for((tmp_path / "asked").exists, "the program's answer", 90, lambda: run.err)
    before = set(site.tunnels)
    site.tunnels.clear()
    run.process.kill()
    assert run.finish().out == b"1 42\n", run.err
    wait_for(lambda: not site.gateway.clusters(), "end of the cluster", 60, lambda: run.err)
    # To the gateway and to the provider.
    assert before == set(site.tunnels) and len(before) == (0 if excepted else 2)
    assert (f"CONNECT {site.url[8:]}" in before) is not bool(excepted)
