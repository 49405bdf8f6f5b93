"""Temporary (status 75) is only what can pass by itself: which faults do, and for how long."""

from __future__ import annotations

import asyncio
import socket
import ssl
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from dask_claim.claim.model import Claim
from dask_claim.errors import (
    ConfigurationError,
    DaskClaimError,
    GatewayAway,
    GatewayUnreachable,
    LimitReached,
    NoGatewayThere,
    NotAGateway,
)
from dask_claim.providers.base import Provider, import_quietly
from dask_claim.providers.gateway import patience
from dask_claim.providers.gateway.answers import _without_answer
from dask_claim.providers.gateway.api import GatewayApi
from dask_claim.providers.gateway.patience import Patience
from dask_claim.providers.gateway.provider import GatewayProvider, _is_refusal
from dask_claim.providers.holding import failure
from dask_claim.providers.values import Addresses, Request
from tests.support.faulty import CLUSTER, faulty
from tests.support.launcher import Launcher
from tests.test_gateway_api import ask
from tests.test_site_network import certificates

PAGE = "<html>Log in</html>"


def http(status: str, body: str = PAGE, more: str = "") -> bytes:
    head = f"HTTP/1.1 {status}\r\nContent-Type: text/html\r\nContent-Length: {len(body)}\r\n"
    return f"{head}{more}Connection: close\r\n\r\n{body}".encode()


class Standing:
    """A server in a gateway's place: reads a request and sends some bytes, or hangs up."""

    def __init__(self, sent: bytes | None, tls: ssl.SSLContext | None, reset: bool) -> None:
        self._sent, self._tls, self._reset = sent, tls, reset
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            with client:
                self._answer(client)

    def _answer(self, client: socket.socket) -> None:
        client.settimeout(10)
        try:
            if self._tls:
                client = self._tls.wrap_socket(client, server_side=True)
            client.recv(65536)
            if self._reset:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            elif self._sent:
                client.sendall(self._sent)
        except OSError:
            pass
        finally:
            client.close()


@contextmanager
def standing(
    sent: bytes | None, tls: ssl.SSLContext | None = None, reset: bool = False
) -> Iterator[int]:
    server = Standing(sent, tls, reset)
    try:
        yield server.port
    finally:
        server.close()


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("USER", "tester")
    for name in ("http_proxy", "https_proxy", "no_proxy", "SSL_CERT_FILE"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


def fault_of(url: str) -> DaskClaimError:
    with pytest.raises(DaskClaimError) as caught:
        ask({"gateway_url": url}, lambda api: api.options())
    return caught.value


OWN = '{"error": "out of order"}'


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        # What a restart or time cures.
        (http("500 Internal Server Error"), 75),
        (http("500 Internal Server Error", OWN).replace(b"text/html", b"application/json"), 75),
        (http("502 Bad Gateway"), 75),
        (http("503 Service Unavailable"), 75),
        (http("504 Gateway Timeout"), 75),
        (http("408 Request Timeout"), 75),
        (http("429 Too Many Requests"), 75),
        (http("404 Not Found"), 75),
        (http("200 OK", "half")[:-2], 75),
        (b"HTTP/1.1 200 OK\r\n", 75),
        (None, 75),
        # What does not pass by itself.
        (http("200 OK"), 78),
        (http("200 OK", "[]").replace(b"text/html", b"application/json"), 78),
        (http("302 Found", more="Location: ?login\r\n"), 78),
        (http("400 Bad Request"), 78),
        (http("405 Method Not Allowed"), 78),
        (http("422 Unprocessable Entity"), 78),
        (http("401 Unauthorized"), 78),
        (http("403 Forbidden"), 78),
        (http("407 Proxy Authentication Required"), 78),
        (b"SSH-2.0-OpenSSH_9.2\r\n", 78),
    ],
    ids=lambda value: value[:32].decode().strip() if isinstance(value, bytes) else str(value),
)
def test_answers(sent: bytes | None, status: int) -> None:
    with standing(sent) as port:
        error = fault_of(f"http://127.0.0.1:{port}")
    assert error.exit_status == status, error
    assert f"127.0.0.1:{port}" in str(error)


def test_connections() -> None:
    with standing(None, reset=True) as port:
        error = fault_of(f"http://127.0.0.1:{port}")
        assert type(error) is GatewayUnreachable, error
    # Nothing listens there any more.
    assert type(fault_of(f"http://127.0.0.1:{port}")) is GatewayAway


def test_tls(tmp_path: Path) -> None:
    certificates(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "cert.pem", tmp_path / "key.pem")
    with standing(http("200 OK"), context) as port:
        untrusted = fault_of(f"https://127.0.0.1:{port}")
    assert untrusted.exit_status == 78 and "SSL_CERT_FILE" in str(untrusted)
    with standing(http("400 Bad Request")) as port:
        clear = fault_of(f"https://127.0.0.1:{port}")
    assert clear.exit_status == 78 and "does not speak TLS" in str(clear)
    with standing(None) as port:
        restarting = fault_of(f"https://127.0.0.1:{port}")
    assert isinstance(restarting, GatewayAway), restarting
    # As OpenSSL tells of the same, where it is the first to see it.
    ended = _without_answer(ssl.SSLEOFError(8, "EOF occurred in violation of protocol"), "it")
    assert isinstance(ended, GatewayUnreachable)


@pytest.mark.parametrize(
    ("code", "kind"),
    [(socket.EAI_NONAME, NoGatewayThere), (socket.EAI_AGAIN, GatewayAway)],
)
def test_names(monkeypatch: pytest.MonkeyPatch, code: int, kind: type[DaskClaimError]) -> None:
    def resolve(*_: Any, **__: Any) -> Any:
        raise socket.gaierror(code, "no")

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    assert type(fault_of("http://gateway.example:8000")) is kind


@pytest.mark.parametrize(
    ("answer", "status"),
    [
        ("502 Bad Gateway", 75),
        ("503 Service Unavailable", 75),
        ("504 Gateway Timeout", 75),
        ("429 Too Many Requests", 75),
        ("407 Proxy Authentication Required", 78),
        ("403 Forbidden", 78),
    ],
)
@pytest.mark.filterwarnings("ignore:The 'proxy_auth' parameter")  # the gateway's client gives it
def test_http_proxy(monkeypatch: pytest.MonkeyPatch, answer: str, status: int) -> None:
    """To CONNECT, before the gateway has heard of it: nothing can have been made."""
    with standing(http(answer, "")) as port:
        monkeypatch.setenv("https_proxy", f"http://me:guessed-1234@127.0.0.1:{port}")
        error = fault_of("https://gateway.example")
    assert error.exit_status == status
    assert isinstance(error, GatewayAway) is (status == 75)
    assert f"the HTTP proxy http://127.0.0.1:{port}" in str(error)
    assert "guessed" not in str(error)


def test_http_proxy_that_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    error = fault_of("https://gateway.example")
    assert isinstance(error, GatewayAway) and "HTTP proxy" in str(error)


def test_gateway_of_the_run_itself_is_asked_without_the_http_proxy(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")

    async def ask(url: str) -> list[str]:
        api = GatewayApi(Addresses(url, None, None), login=("me", "its-own-password"))
        try:
            return [report.name for report in await api.clusters()]
        finally:
            await api.close()

    with faulty("none") as server:
        assert asyncio.run(ask(server.url)) == [CLUSTER]


def test_creation_that_something_else_answers_may_have_made_one() -> None:
    """The list of clusters is looked at before the run ends."""

    async def look() -> list[bool]:
        found = []
        for error in (
            GatewayUnreachable(""), GatewayAway(""), NotAGateway(""), LimitReached(""),
        ):  # fmt: skip
            request: asyncio.Future[str] = asyncio.get_running_loop().create_future()
            request.set_exception(error)
            found.append(_is_refusal(request))
        return found

    assert asyncio.run(look()) == [False, True, False, True]


# -- how long


class Asking(Provider):
    """A provider as far as its patience goes."""

    name, description, may_fall_back = "gateway", "the gateway", True

    async def submit(self) -> None: ...

    async def wait_until_running(self) -> None: ...


@pytest.mark.parametrize("fallback", ["fail", "local"])
@pytest.mark.parametrize(
    "kind",
    [GatewayUnreachable, GatewayAway, NoGatewayThere, LimitReached],
    ids=lambda k: k.__name__,
)
@pytest.mark.parametrize("heals", [True, False], ids=["heals", "stays"])
def test_patience(
    monkeypatch: pytest.MonkeyPatch, fallback: str, kind: type[Any], heals: bool
) -> None:
    """What passes is waited for; a name that is not known, or with a fallback, for seconds only."""
    monkeypatch.setattr(patience, "FIRST_PAUSE", 0.01)
    monkeypatch.setattr(patience, "LONGEST_PAUSE", 0.01)
    monkeypatch.setattr(patience, "SOON", 0.3 if not heals else 60.0)
    told: list[str] = []
    monkeypatch.setattr(patience.logger, "warning", told.append)
    claim = Claim.model_validate({"gateway_url": "http://g", "fallback": fallback})
    provider = Asking(Request(claim, claim.plan(), {}), lambda _: None, lambda _: None)
    questions = 0

    async def question() -> int:
        nonlocal questions
        questions += 1
        if questions > 50 and (heals or not ends):
            return questions
        raise kind("in trouble")

    ends = fallback == "local" or kind is NoGatewayThere
    asking = Patience(provider).ask(question)
    if heals or not ends:
        assert asyncio.run(asking) == 51
        assert provider.obstacle is None
    else:
        with pytest.raises(kind):
            asyncio.run(asking)
        assert questions > 3
    assert len(told) == 1 and "in trouble. Trying again for up to" in told[0]


def test_gateway_that_hangs_is_left_where_there_is_a_fallback(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(patience, "SOON", 0.05)
    claim = Claim.model_validate({"gateway_url": "http://g", "fallback": "local"})
    provider = Asking(Request(claim, claim.plan(), {}), lambda _: None, lambda _: None)

    async def hang() -> None:
        await asyncio.sleep(3600)

    with pytest.raises(GatewayUnreachable, match="does not answer within"):
        asyncio.run(Patience(provider).ask(hang))


# -- processes that hold a cluster


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (ModuleNotFoundError("No module named 'nosuch'"), 78),
        (ImportError("libnosuch.so.1: cannot open shared object file"), 78),
        (SyntaxError("invalid syntax"), 78),
        (ValueError("no such setting"), 78),
        (FileNotFoundError(2, "No such file or directory"), 78),
        (OSError(98, "Address already in use"), 75),
        (OSError(28, "No space left on device"), 75),
        (MemoryError(), 75),
        (TimeoutError("Nanny failed to start in 60 seconds"), 75),
        (RuntimeError("whatever"), 75),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_a_held_cluster_fails_of(error: Exception, status: int) -> None:
    """Dask raises errors of its own from the first cause."""
    raised = RuntimeError("Cluster failed to start")
    raised.__cause__ = RuntimeError("Nanny failed to start")
    raised.__cause__.__cause__ = error
    event = failure(raised)
    assert event["lasting"] is (status == 78)
    assert str(error) in str(event["error"])


@pytest.mark.slow
@pytest.mark.parametrize("role", ["SCHEDULER", "WORKER"])
def test_preload_module_that_is_missing(launcher: Launcher, role: str) -> None:
    run = launcher("true", env={f"DASK_DISTRIBUTED__{role}__PRELOAD": "['no_such_module']"})
    assert (run.status, run.receipt["gone"]) == (78, True), run.err
    assert "no_such_module" in run.err.splitlines()[-1]


def test_library_that_cannot_be_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "broken_library.py").write_text("raise ImportError('libnosuch.so.1: no such file')")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ConfigurationError, match=r"broken_library .* libnosuch\.so\.1"):
        import_quietly("broken_library")


@pytest.mark.parametrize(
    ("url", "proxy", "fits"),
    [
        ("http://[::1]:8000", None, False),
        ("https://[2001:db8::1]", "8786", False),
        ("http://gateway", "gateway://[::1]:8786", False),
        ("http://[::1]:8000", "gateway://127.0.0.1:8786", True),
        ("http://localhost:8000", None, True),
    ],
)
def test_schedulers_at_an_ipv6_address(url: str, proxy: str | None, fits: bool) -> None:
    """The gateway's client connects to none: said before anything is asked."""
    claim = Claim.model_validate({"gateway_url": url, "proxy_url": proxy})
    provider = GatewayProvider(Request(claim, claim.plan(), {}), lambda _: None, lambda _: None)
    if fits:
        provider.check()
    else:
        with pytest.raises(ConfigurationError, match="IPv6"):
            asyncio.run(provider.submit())
