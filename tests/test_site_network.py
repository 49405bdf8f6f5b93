"""A gateway behind nginx with a private CA, reached directly and by an HTTP proxy."""

from __future__ import annotations

import getpass
import ipaddress
import os
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta, timezone
from pathlib import Path
from subprocess import PIPE
from typing import NamedTuple

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.support.gateway import REFERENCE, GatewayServer, free_port
from tests.support.launcher import PYTHON, Launcher, wait_for
from tests.support.missing import need
from tests.support.oidc_provider import CLIENT, CLIENT_SECRET, provider

NGINX = """
daemon off; master_process off; worker_processes 1; pid nginx.pid; error_log error.log; {user}
events {{}}
http {{
    access_log access.log;
    client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi; scgi_temp_path scgi;
    ssl_certificate {cert}; ssl_certificate_key {key};
    server {{ listen 127.0.0.1:{port} ssl; location / {{ proxy_pass {url}; }} }}
    server {{ listen 127.0.0.1:{login_port} ssl; location / {{ proxy_pass {login}; }} }}
}}
"""

KEY_USAGE = (
    "digital_signature", "content_commitment", "key_encipherment", "data_encipherment",
    "key_agreement", "key_cert_sign", "crl_sign", "encipher_only", "decipher_only",
)  # fmt: skip

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


def certificates(folder: Path) -> None:
    """Write a CA of the site's own, and its certificate for 127.0.0.1."""
    now = datetime.now(timezone.utc)

    def signed(name: str, key: object, issuer: str, by: object, ca: bool) -> x509.Certificate:
        def named(text: str) -> x509.Name:
            return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])

        made = (
            x509.CertificateBuilder()
            .subject_name(named(name))
            .issuer_name(named(issuer))
            .public_key(key.public_key())  # type: ignore[attr-defined]
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(minutes=5))
            .not_valid_after(now + timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        )
        authority = x509.AuthorityKeyIdentifier.from_issuer_public_key(by.public_key())  # type: ignore[attr-defined]
        made = made.add_extension(authority, critical=False)
        own = x509.SubjectKeyIdentifier.from_public_key(key.public_key())  # type: ignore[attr-defined]
        made = made.add_extension(own, critical=False)
        if ca:
            usage = dict.fromkeys(KEY_USAGE, False) | {"key_cert_sign": True, "crl_sign": True}
            made = made.add_extension(x509.KeyUsage(**usage), critical=True)
        else:
            address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
            made = made.add_extension(x509.SubjectAlternativeName([address]), critical=False)
        return made.sign(by, hashes.SHA256())  # type: ignore[arg-type]

    ca_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    pem = serialization.Encoding.PEM
    ca = signed("A site's CA", ca_key, "A site's CA", ca_key, True)
    own = signed("gateway", key, "A site's CA", ca_key, False)
    (folder / "ca.pem").write_bytes(ca.public_bytes(pem))
    (folder / "cert.pem").write_bytes(own.public_bytes(pem))
    form = serialization.PrivateFormat.PKCS8
    plain = serialization.NoEncryption()
    (folder / "key.pem").write_bytes(key.private_bytes(pem, form, plain))


@contextmanager
def nginx(folder: Path, **ways: object) -> Iterator[None]:
    """HTTPS before a gateway and a provider; see `NGINX`."""
    need("nginx")
    found = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")
    # Started by root, nginx would change to a user who may not read the folder.
    user = f"user {getpass.getuser()};" if os.geteuid() == 0 else ""
    cert, key = folder / "cert.pem", folder / "key.pem"
    (folder / "nginx.conf").write_text(NGINX.format(user=user, cert=cert, key=key, **ways))
    error = folder / "error.log"
    server = subprocess.Popen([found, "-p", folder, "-e", error, "-c", "nginx.conf"])
    try:
        for name in ("port", "login_port"):
            wait_for(lambda port=ways[name]: listening(port), "nginx", 20, error.read_text)
        yield
    finally:
        server.terminate()
        server.wait()


def listening(port: int) -> bool:
    with suppress(OSError), socket.create_connection(("127.0.0.1", port)):
        return True
    return False


class ConnectProxy:
    """An HTTP proxy that only tunnels, and remembers where to."""

    def __enter__(self) -> ConnectProxy:
        self.tunnels: list[str] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._serve, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _serve(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._tunnel, args=(client,), daemon=True).start()

    def _tunnel(self, client: socket.socket) -> None:
        with client, suppress(OSError, ValueError):
            head = b""
            while b"\r\n\r\n" not in head:
                head += client.recv(4096)
            method, target, _ = head.decode().split(" ", 2)
            self.tunnels.append(f"{method} {target}")
            host, _, port = target.partition(":")
            with socket.create_connection((host, int(port))) as server:
                client.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
                back = threading.Thread(target=_copy, args=(server, client), daemon=True)
                back.start()
                _copy(client, server)
                back.join()


def _copy(source: socket.socket, sink: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(65536):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)


class Site(NamedTuple):
    gateway: GatewayServer
    proxy: ConnectProxy
    folder: Path
    url: str
    """The gateway's address, by HTTPS."""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("site")
    certificates(folder)
    port, login_port = free_port(), free_port()
    issuer = f"https://127.0.0.1:{login_port}"
    with provider(60, issuer=issuer) as login:
        gateway = GatewayServer(REFERENCE + login.checking(), password="operator-1234")
        try:
            url = f"https://127.0.0.1:{port}"
            (folder / "secret").write_text(CLIENT_SECRET)
            (folder / "claim.yaml").write_text(
                f"gateway_url: {url}\nproxy_url: {gateway.url.replace('http', 'gateway')}\n"
                f"credentials: {{type: oidc, issuer: '{issuer}', client_id: {CLIENT}, "
                "client_secret_file: secret}\n"
            )
            ways = {"url": gateway.url, "login": login.address}
            before = nginx(folder, port=port, login_port=login_port, **ways)
            with before, ConnectProxy() as proxy:
                yield Site(gateway, proxy, folder, url)
        finally:
            gateway.stop()


pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("site network")]

CLAIM = {"worker_cores": 1, "max_workers": 1, "lease_timeout": 0}


@pytest.mark.parametrize("excepted", ["", "127.0.0.1"], ids=["proxy", "NO_PROXY"])
def test_private_ca_and_proxy(
    launcher: Launcher, site: Site, tmp_path: Path, excepted: str
) -> None:
    """Launcher, program and, where the launcher is killed, guard: each by the way that is set."""
    env = {
        "DASK_CLAIM_SITE": str(site.folder / "claim.yaml"),
        "SSL_CERT_FILE": str(site.folder / "ca.pem"),
        "HTTPS_PROXY": site.proxy.url,
        "NO_PROXY": excepted,
    }
    unset = ("https_proxy", "no_proxy")
    site.proxy.tunnels.clear()
    run = launcher.start(
        PYTHON, "-c", PROGRAM, claim=CLAIM, env=env, unset=unset, cwd=tmp_path, stdin=PIPE
    )
    wait_for((tmp_path / "asked").exists, "the program's answer", 90, lambda: run.err)
    by_proxy = sorted(set(site.proxy.tunnels))
    if excepted:
        run.process.kill()
    result = run.finish(90)
    wait_for(lambda: not site.gateway.clusters(), "end of the cluster", 60, lambda: run.err)
    if excepted:
        assert site.proxy.tunnels == []
    else:
        assert (result.status, result.out) == (0, b"1 42\n"), result.err
        assert result.receipt["gone"] is True
        assert len(by_proxy) == 2 and f"CONNECT {site.url[8:]}" in by_proxy


def test_ca_that_nobody_named(launcher: Launcher, site: Site) -> None:
    env = {"DASK_CLAIM_SITE": str(site.folder / "claim.yaml")}
    run = launcher("true", claim=CLAIM, env=env, unset=("SSL_CERT_FILE", "HTTPS_PROXY"))
    assert run.status == 78
    assert "certificate" in run.err and "SSL_CERT_FILE" in run.err
