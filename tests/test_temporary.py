"""Temporary (status 75) is only what can pass by itself: which faults do, and for how long."""

from __future__ import annotations

import asyncio
import socket
import ssl
from functools import partial
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest

from dask_claim.claim.model import Claim
from dask_claim.errors import (
    AuthenticationError,
    ConfigurationError,
    DaskClaimError,
    GatewayAway,
    GatewayUnreachable,
    LimitReached,
    NoGatewayThere,
    NotAGateway,
)
from dask_claim.imports import import_quietly
from dask_claim.providers.gateway import asking
from dask_claim.providers.gateway.answers import failure as failure_of
from dask_claim.providers.gateway.api import GatewayApi
from dask_claim.providers.gateway.asking import Patience
from dask_claim.providers.gateway.provider import GatewayProvider, _may_have_made_one
from dask_claim.providers.host_process import failure
from dask_claim.providers.values import Request
from tests.support.faulty import CLUSTER, faulty
from tests.support.launcher import Launcher
from tests.support.serving import answering, in_thread, of_an_unknown_authority, raw
from tests.test_gateway_api import NAME, ask

OWN = '{"error": "out of order"}'
ELSE = '{"message": "no Route matched"}'


def http(status: int, body: str = "<html>Log in</html>", more: str = "") -> bytes:
    kind = "application/json" if body[0:1] in ("{", "[") else "text/html"
    head = f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\nContent-Type: {kind}\r\n{more}"
    return f"{head}Content-Length: {len(body)}\r\nConnection: close\r\n\r\n{body}".encode()


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("USER", "tester")
    for name in ("http_proxy", "https_proxy", "no_proxy", "SSL_CERT_FILE"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


def fault_of(url: str, work: Any = GatewayApi.options) -> DaskClaimError:
    with pytest.raises(DaskClaimError) as caught:
        ask(url, work)
    return caught.value


ANSWERS = {
    # What a restart or time cures: of the gateway itself, or of a proxy without one behind it.
    GatewayUnreachable: [
        *map(http, (500, 502, 503, 504, 408, 429)), http(500, OWN),
        http(200, "half")[:-2], b"HTTP/1.1 200 OK\r\n", b"",
    ],
    NoGatewayThere: [http(404), http(404, ELSE)],
    # What does not pass by itself.
    NotAGateway: [*map(http, (200, 400, 405, 422)), http(200, "[]"), http(200, ELSE)],
    AuthenticationError: [http(401), http(403)],
    ConfigurationError: [http(302, more="Location: ?login\r\n"), http(407), b"SSH-2.0-Open\r\n"],
}  # fmt: skip


@pytest.mark.parametrize(
    ("sent", "kind"),
    [(sent, kind) for kind, answers in ANSWERS.items() for sent in answers],
    ids=lambda value: value[:32].decode().strip() if isinstance(value, bytes) else value.__name__,
)
def test_answers(sent: bytes, kind: type[DaskClaimError]) -> None:
    """Whatever is asked for."""
    with in_thread(raw(sent)) as port:
        for work in (GatewayApi.options, GatewayApi.clusters, lambda api: api.report(NAME)):
            error = fault_of(f"http://127.0.0.1:{port}", work)
            assert type(error) is kind and f"127.0.0.1:{port}" in str(error)
            assert error.exit_status == (75 if issubclass(kind, GatewayUnreachable) else 78)
            assert "out of order" in str(error) or OWN.encode() not in sent


def test_retry_after() -> None:
    for after, seconds in (("7", 7.0), ("Wed, 21 Oct 2026 07:28:00 GMT", 0.0)):
        with in_thread(raw(http(429, more=f"Retry-After: {after}\r\n"))) as port:
            error = fault_of(f"http://127.0.0.1:{port}")
        assert isinstance(error, GatewayUnreachable) and error.retry_after == seconds


def test_connections() -> None:
    authority = of_an_unknown_authority()
    for scheme, serving, kind, words in (
        ("http", raw(end="reset"), GatewayUnreachable, ""),
        ("https", raw(http(200), tls=authority), ConfigurationError, "SSL_CERT_FILE"),
        ("https", raw(http(400)), ConfigurationError, "does not speak TLS"),
        ("https", raw(), GatewayAway, ""),
    ):
        with in_thread(serving) as port:
            error = fault_of(f"{scheme}://127.0.0.1:{port}")
        assert type(error) is kind and words in str(error)
    # Nothing listens there any more.
    assert type(fault_of(f"http://127.0.0.1:{port}")) is GatewayAway
    # As OpenSSL tells of the same, where it is the first to see it.
    ended = failure_of(ssl.SSLEOFError(8, "EOF occurred in violation of protocol"), "it")
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
    ("answer", "status"), [(502, 75), (503, 75), (429, 75), (407, 78), (403, 78)]
)
@pytest.mark.filterwarnings("ignore:The 'proxy_auth' parameter")  # the gateway's client gives it
def test_http_proxy(monkeypatch: pytest.MonkeyPatch, answer: int, status: int) -> None:
    """To CONNECT, before the gateway has heard of it: nothing can have been made."""
    with in_thread(raw(http(answer, ""))) as port:
        monkeypatch.setenv("https_proxy", f"http://me:guessed-1234@127.0.0.1:{port}")
        error = fault_of("https://gateway.example")
    assert error.exit_status == status
    assert isinstance(error, GatewayAway) is (status == 75)
    assert f"the HTTP proxy http://127.0.0.1:{port}" in str(error)
    assert "guessed" not in str(error)
    error = fault_of("https://gateway.example")  # from a proxy that is away
    assert isinstance(error, GatewayAway) and "HTTP proxy" in str(error)


def test_gateway_of_the_run_itself_is_asked_without_the_http_proxy(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    with faulty("refused") as server:
        reports = ask(server.url, GatewayApi.clusters, password="own")
        assert [report.name for report in reports] == [CLUSTER]


async def test_creation_that_something_else_answers_may_have_made_one() -> None:
    """The list of clusters is looked at before the run ends."""
    for kind in (GatewayUnreachable, GatewayAway, NotAGateway, LimitReached):
        request: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        request.set_exception(kind(""))
        assert _may_have_made_one(request) is (kind in (GatewayUnreachable, NotAGateway))


# What passes, and what does not.
LIMITS = (
    # Sites that count clusters.
    "User alice has reached the limit of 1 clusters",
    "You already have 2 active clusters, the maximum is 2",
    "Too many active Dask clusters for this user",
    "Maximum number of clusters (3) exceeded",
    "cluster limit reached",
    "The cluster quota of this site is exhausted, try again later",
    "at most 2 clusters per user",
    "only one cluster per user is allowed",
    "Users may not run more than 4 concurrent clusters",
    "quota exceeded: 90 of 100 cores in use",
)
SIZES = (
    # What the server itself says of one cluster's size, and of its options.
    "Scheduler memory request of 4.00 GiB exceeds cluster memory limit of 2.00 GiB",
    "Scheduler cores request of 4 exceeds cluster cores limit of 2",
    "worker_cores must be <= 8.000000, got 16.000000",
    "'large' is not a valid choice for field 'profile'",
    "Unknown fields ['limit']",
    "The 'worker_memory' trait of a ClusterConfig instance expected a valid spec",
    # Sites' handlers that bound a cluster.
    "worker_memory exceeds the limit of 16 G",
    "You cannot exceed 64 cores per cluster",
    "Too many workers: at most 10 per cluster",
    "a cluster may have at most 16 cores",
    "GPU quota of this profile is 0",
    "idle_timeout_minutes exceeds the maximum of 120",
    "When specifying an image you must also provide a tag",
    "image is limited to registry.example.org",
)


def test_limit_is_temporary_only_where_another_cluster_ends() -> None:
    """One gateway refuses one request after the other."""

    async def request_all(api: GatewayApi) -> None:
        options = await api.options()
        for words in (*LIMITS, *SIZES):
            with pytest.raises(DaskClaimError) as caught:
                await api.create(options)
            assert caught.value.exit_status == (75 if words in LIMITS else 78), words
            assert words in str(caught.value)

    refused = [(422, {"error": words}) for words in (*LIMITS, *SIZES)]
    answers = {"/options": [(200, {"cluster_options": []})], "clusters/": refused}
    with answering(answers) as (url, _):
        ask(url, request_all)


# -- how long


def provider_for(**claimed: Any) -> GatewayProvider:
    claim = Claim.model_validate(claimed)
    return GatewayProvider(Request(claim, claim.plan(), {}), lambda _: None, lambda _: None)


@pytest.mark.parametrize("fallback", ["fail", "local"])
@pytest.mark.parametrize("kind", [GatewayUnreachable, GatewayAway, NoGatewayThere, LimitReached])
@pytest.mark.parametrize("heals", [True, False], ids=["heals", "stays"])
async def test_patience(
    monkeypatch: pytest.MonkeyPatch, fallback: str, kind: type[Any], heals: bool
) -> None:
    """What passes is waited for; a name that is not known, or with a fallback, for seconds only."""
    monkeypatch.setattr(asking, "FIRST_PAUSE", 0.01)
    monkeypatch.setattr(asking, "LONGEST_PAUSE", 0.01)
    monkeypatch.setattr(asking, "SOON", 60.0 if heals else 0.3)
    told: list[str] = []
    monkeypatch.setattr(asking.logger, "warning", told.append)
    questions = 0

    async def question() -> int:
        nonlocal questions
        questions += 1
        if questions > 50 and (heals or not ends):
            return questions
        raise kind("in trouble")

    ends = fallback == "local" or kind is NoGatewayThere
    provider = provider_for(gateway_url="http://g", fallback=fallback)
    answer = Patience(provider).ask(question)
    if heals or not ends:
        assert await answer == 51
        assert provider.obstacle is None
    else:
        with pytest.raises(kind):
            await answer
        assert questions > 3
    assert len(told) == 1 and "in trouble. Trying again for up to" in told[0]


async def test_gateway_that_hangs_is_left_where_there_is_a_fallback(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(asking, "SOON", 0.05)
    provider = provider_for(gateway_url="http://g", fallback="local")
    with pytest.raises(GatewayUnreachable, match="does not answer within"):
        await Patience(provider).ask(partial(asyncio.sleep, 3600))


async def test_list_of_clusters_that_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is asked for before a cluster is requested: nothing is made that could be lost."""
    monkeypatch.setattr(asking, "SOON", 0.05)
    with faulty("refused") as server:
        server.faults = {"list": "502"}
        provider = provider_for(**server.claim(), fallback="local")
        with pytest.raises(GatewayUnreachable):
            await provider.submit()
        await provider.close()
        assert server.requested is None


# -- processes that hold a cluster


LASTING = (
    ModuleNotFoundError("No module named 'nosuch'"), SyntaxError("invalid syntax"),
    ImportError("libnosuch.so.1: cannot open shared object file"), ValueError("no such setting"),
    FileNotFoundError(2, "No such file or directory"),
)  # fmt: skip
PASSING = (
    OSError(98, "Address already in use"), OSError(28, "No space left on device"), MemoryError(),
    TimeoutError("Nanny failed to start in 60 seconds"), RuntimeError("whatever"),
)  # fmt: skip


def test_what_a_held_cluster_fails_of() -> None:
    """Dask raises errors of its own from the first cause."""
    for error in (*LASTING, *PASSING):
        raised = RuntimeError("Cluster failed to start")
        raised.__cause__ = RuntimeError("Nanny failed to start")
        raised.__cause__.__cause__ = error
        event = failure(raised)
        assert event["lasting"] is (error in LASTING), error
        assert str(error) in str(event["error"])


@pytest.mark.slow
@pytest.mark.parametrize("role", ["SCHEDULER", pytest.param("WORKER", marks=pytest.mark.deep)])
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
async def test_schedulers_at_an_ipv6_address(url: str, proxy: str | None, fits: bool) -> None:
    """The gateway's client connects to none: said before anything is asked."""
    provider = provider_for(gateway_url=url, proxy_url=proxy)
    if fits:
        provider.check()
    else:
        with pytest.raises(ConfigurationError, match="IPv6"):
            await provider.submit()
