"""The gateway's client: who answered and what it means, and whose credentials go to whom."""

from __future__ import annotations

import asyncio
import base64
import errno
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest
from aiohttp import web
from dask_gateway.auth import GatewayAuth

from dask_claim.claim.model import Claim
from dask_claim.errors import (
    AuthenticationError,
    ClusterGone,
    ConfigurationError,
    DaskClaimError,
    Exhausted,
    GatewayUnreachable,
    NoGatewayThere,
    NotAGateway,
)
from dask_claim.providers.base import import_quietly, in_time
from dask_claim.providers.gateway.api import GatewayApi

NAME = "c" * 32
RUNNING = {
    "name": NAME, "status": "RUNNING", "start_time": 1000, "stop_time": None, "options": {},
    "dashboard_route": None, "tls_cert": "", "tls_key": "",
}  # fmt: skip
UNKNOWN = (404, {"error": f"Cluster {NAME} not found"})


@pytest.fixture(autouse=True)
def tester(monkeypatch: pytest.MonkeyPatch) -> None:
    # Its defaults would go again with the end of a `dask.config.set` in which it is imported first.
    import_quietly("dask_gateway")
    for name in ("LOGNAME", "USER"):
        monkeypatch.setenv(name, "tester")


class Answering:
    """A server that gives fixed answers over HTTP, one after the other; the last one for ever."""

    def __init__(self, answers: dict[str, list[tuple[int, Any]]]) -> None:
        self.answers = answers
        self.seen: list[tuple[str, str | None]] = []

    async def handle(self, request: web.Request) -> web.Response:
        self.seen.append((request.path, request.headers.get("Authorization")))
        ways = [way for way in self.answers if request.path.endswith(way)]
        left = self.answers[max(ways, key=len)]
        status, body = left.pop(0) if len(left) > 1 else left[0]
        if 300 <= status < 400:
            return web.Response(status=status, headers={"Location": body})
        if isinstance(body, str):
            return web.Response(status=status, text=body, content_type="text/html")
        return web.json_response(body, status=status)


@contextmanager
def answering(answers: dict[str, list[tuple[int, Any]]]) -> Iterator[tuple[str, Answering]]:
    started, server = threading.Event(), Answering(answers)
    urls: list[str] = []

    async def serve() -> None:
        nonlocal stop
        loop, over = asyncio.get_running_loop(), asyncio.Event()
        stop = lambda: loop.call_soon_threadsafe(over.set)  # noqa: E731
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", server.handle)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        urls.append(f"http://127.0.0.1:{runner.addresses[0][1]}")
        started.set()
        await over.wait()
        await runner.cleanup()

    stop: Callable[[], Any] = lambda: None  # noqa: E731
    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    assert started.wait(10)
    try:
        yield urls[0], server
    finally:
        stop()
        thread.join()


def ask(
    claim: dict[str, Any], work: Callable[[GatewayApi], Awaitable[Any]], credentials: bool = True
) -> Any:
    async def asked() -> Any:
        api = GatewayApi(Claim.model_validate(claim), credentials=credentials)
        try:
            return await work(api)
        finally:
            await api.close()

    return asyncio.run(asked())


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        ((404, "404 page not found"), NoGatewayThere),
        ((404, "<html>nginx</html>"), NoGatewayThere),
        ((404, {"message": "no Route matched"}), NoGatewayThere),
        ((503, "<html>no endpoints</html>"), GatewayUnreachable),
        ((422, "<html>no</html>"), NotAGateway),
        ((200, "<html>log in</html>"), NotAGateway),
        ((200, {"something": "else"}), NotAGateway),
        ((400, "bad"), NotAGateway),
    ],
)
def test_somebody_else_answers(answer: tuple[int, Any], error: type[DaskClaimError]) -> None:
    """A proxy without a gateway behind it may get one; a page in its place stays."""
    with answering({"": [answer]}) as (url, _):
        for work in (
            lambda api: api.options(),
            lambda api: api.report(NAME),
            lambda api: api.clusters(),
        ):
            with pytest.raises(error) as caught:
                ask({"gateway_url": url}, work)
            assert type(caught.value) is error
            assert url in str(caught.value)


@pytest.mark.parametrize(
    ("to", "shown"),
    [("/hub/gw/other", True), ("/hub/user/x/other", False), ("../../../../user/x/other", False)],
)
def test_redirection(monkeypatch: pytest.MonkeyPatch, to: str, shown: bool) -> None:
    """Credentials follow to what is below the gateway's address, not to its neighbours."""
    monkeypatch.setenv("DASK_GATEWAY__AUTH__KWARGS__PASSWORD", "hunter2")
    answers = {"clusters/": [(401, {}), (307, to)], "other": [(200, {})]}
    with answering(answers) as (url, server):
        ask({"gateway_url": f"{url}/hub/gw"}, lambda api: api.clusters())
        assert len(server.seen) == 3 and server.seen[-1][0].endswith("other")
        assert (server.seen[-1][1] is not None) is shown


@pytest.mark.parametrize(("written", "read"), [("1e5", 100000.0), ("1234", 1234), (None, 1234)])
def test_password_of_digits(
    monkeypatch: pytest.MonkeyPatch, written: str | None, read: object
) -> None:
    """Dask reads a number there, which its client cannot send."""
    dask_config = pytest.importorskip("dask.config")
    if written is not None:
        monkeypatch.setenv("DASK_GATEWAY__AUTH__KWARGS__PASSWORD", written)
    with answering({"clusters/": [(401, {}), (200, {})]}) as (url, server):
        with dask_config.set({"gateway.auth.kwargs": {"username": 7, "password": read}}):
            ask({"gateway_url": url}, lambda api: api.clusters())
        shown = base64.b64decode(str(server.seen[-1][1]).partition(" ")[2]).decode()
        assert shown == f"7:{written or read}"


class Failing(GatewayAuth):
    """What an authentication has wrong itself is no refusal of the gateway's."""

    step, error = "", BaseException()

    def __init__(self, **_: object) -> None:
        self.fail("__init__")

    def prepare(self) -> None:
        self.fail("prepare")

    def pre_request(self, resp: object) -> tuple[dict[str, str], None]:
        self.fail("pre_request")
        return {}, None

    def fail(self, step: str) -> None:
        if step == self.step:
            raise self.error


@pytest.mark.parametrize("step", ["__init__", "prepare", "pre_request"])
@pytest.mark.parametrize(
    ("error", "told"),
    [
        (AttributeError("'int' object"), "AttributeError: 'int' object"),
        (RuntimeError("no session"), "RuntimeError: no session"),
        (SystemExit("log in first"), "SystemExit: log in first"),
        (SystemExit(3), "SystemExit: 3"),
    ],
)
def test_a_class_that_fails(
    monkeypatch: pytest.MonkeyPatch, step: str, error: BaseException, told: str
) -> None:
    dask_config = pytest.importorskip("dask.config")
    monkeypatch.setattr(Failing, "step", step)
    monkeypatch.setattr(Failing, "error", error)
    with (
        answering({"": [(401, {"error": "no"})]}) as (url, _),
        dask_config.set({"gateway.auth.type": f"{__name__}.Failing"}),
        pytest.raises(AuthenticationError, match=rf"gateway\.auth .*cannot be used: {told}"),
    ):
        ask({"gateway_url": url}, lambda api: api.clusters())


def test_no_more_files_is_no_fault_of_the_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    dask_config = pytest.importorskip("dask.config")
    monkeypatch.setattr(Failing, "step", "__init__")
    monkeypatch.setattr(Failing, "error", OSError(errno.EMFILE, "Too many open files"))
    with (
        dask_config.set({"gateway.auth.type": f"{__name__}.Failing"}),
        pytest.raises(Exhausted, match="no more files"),
    ):
        ask({"gateway_url": "http://127.0.0.1:1"}, lambda api: api.clusters())


def test_delete_that_somebody_else_answers() -> None:
    with answering({"": [(404, "not found")]}) as (url, _), pytest.raises(GatewayUnreachable):
        ask({"gateway_url": url}, lambda api: api.delete(NAME))


def test_gateway_itself_refuses() -> None:
    with answering({"": [(422, {"error": "image is not allowed"})]}) as (url, _):
        with pytest.raises(ConfigurationError, match="image is not allowed") as caught:
            ask({"gateway_url": url}, lambda api: api.clusters())
        assert caught.value.exit_status == 78


@pytest.mark.parametrize(
    ("words", "status"),
    [
        # Sites that count clusters.
        ("User alice has reached the limit of 1 clusters", 75),
        ("You already have 2 active clusters, the maximum is 2", 75),
        ("Too many active Dask clusters for this user", 75),
        ("Maximum number of clusters (3) exceeded", 75),
        ("cluster limit reached", 75),
        ("The cluster quota of this site is exhausted, try again later", 75),
        ("at most 2 clusters per user", 75),
        ("only one cluster per user is allowed", 75),
        ("Users may not run more than 4 concurrent clusters", 75),
        ("quota exceeded: 90 of 100 cores in use", 75),
        # What the server itself says of one cluster's size, and of its options.
        ("Scheduler memory request of 4.00 GiB exceeds cluster memory limit of 2.00 GiB", 78),
        ("Scheduler cores request of 4 exceeds cluster cores limit of 2", 78),
        ("worker_cores must be <= 8.000000, got 16.000000", 78),
        ("'large' is not a valid choice for field 'profile'", 78),
        ("Unknown fields ['limit']", 78),
        ("The 'worker_memory' trait of a ClusterConfig instance expected a valid spec", 78),
        # Sites' handlers that bound a cluster.
        ("worker_memory exceeds the limit of 16 G", 78),
        ("You cannot exceed 64 cores per cluster", 78),
        ("Too many workers: at most 10 per cluster", 78),
        ("a cluster may have at most 16 cores", 78),
        ("GPU quota of this profile is 0", 78),
        ("idle_timeout_minutes exceeds the maximum of 120", 78),
        ("When specifying an image you must also provide a tag", 78),
        ("image is limited to registry.example.org", 78),
    ],
)
def test_limit_is_temporary_only_where_another_cluster_ends(words: str, status: int) -> None:
    offers = (200, {"cluster_options": []})

    async def create(api: GatewayApi) -> None:
        await api.create(await api.options())

    answers = {"/options": [offers], "clusters/": [(422, {"error": words})]}
    with answering(answers) as (url, _), pytest.raises(DaskClaimError) as caught:
        ask({"gateway_url": url}, create)
    assert caught.value.exit_status == status
    assert words in str(caught.value)


def test_scope_that_a_refusal_names() -> None:
    said = "Forbidden, needs access:services or access:services!service=dask"
    answers = {"": [(403, {"error": said})]}
    with answering(answers) as (url, _), pytest.raises(AuthenticationError) as caught:
        ask({"gateway_url": url}, lambda api: api.clusters())
    assert "lacks the scope access:services!service=dask: " in str(caught.value)


@pytest.mark.parametrize(
    ("reports", "listed", "found"),
    [
        ([UNKNOWN], {}, False),
        ([UNKNOWN, (200, RUNNING)], {}, True),
        ([UNKNOWN, (404, "404 page not found")], {}, None),
        ([UNKNOWN], {NAME: RUNNING}, None),
        ([(404, {"error": "Not Found"})], {}, None),
    ],
)
def test_gone_is_believed_only_when_it_is_sure(
    reports: list[tuple[int, Any]], listed: dict[str, Any], found: bool | None
) -> None:
    with answering({NAME: list(reports), "clusters/": [(200, listed)]}) as (url, _):
        began = time.monotonic()
        try:
            report = ask({"gateway_url": url}, lambda api: api.report(NAME))
        except GatewayUnreachable:
            assert found is None
        else:
            assert found is (report is not None)
            assert time.monotonic() - began >= 1


@pytest.mark.parametrize(
    ("answer", "report", "error"),
    [
        ((503, "no"), (200, RUNNING), GatewayUnreachable),
        ((409, {"error": "is not running"}), (200, RUNNING), GatewayUnreachable),
        ((409, {"error": "is not running"}), (200, {**RUNNING, "status": "FAILED"}), ClusterGone),
        (UNKNOWN, UNKNOWN, ClusterGone),
    ],
)
def test_resize_that_fails(
    answer: tuple[int, Any], report: tuple[int, Any], error: type[DaskClaimError]
) -> None:
    plan = Claim.model_validate({"max_workers": 2}).plan()
    with answering(
        {"/adapt": [answer], NAME: [report], "clusters/": [(200, {})]}
    ) as (url, _):  # fmt: skip
        with pytest.raises(error) as caught:
            ask({"gateway_url": url}, lambda api: api.resize(NAME, plan))
        assert type(caught.value) is error
        assert caught.value.exit_status == 75


SCALED = (
    "Scale request of 4 workers would exceed resource limit of 1 workers. Scaling to 1 instead."
)
ADAPTED = (
    "Adapt with `maximum=4, minimum=2` workers would exceed resource limit of 3 workers. Using "
    "`maximum=3, minimum=2` instead."
)


@pytest.mark.parametrize(
    ("minimum", "answer", "granted"),
    [
        (4, {"ok": True, "msg": None}, (4, None)),
        (4, {"ok": False, "msg": SCALED}, (1, SCALED)),
        (2, {"ok": False, "msg": ADAPTED}, (3, ADAPTED)),
        (2, {"ok": False, "msg": "fewer, sorry"}, (4, "fewer, sorry")),
        (2, {"ok": False}, (4, None)),
        (2, {}, (4, None)),
        (2, "", (4, None)),
    ],
)
def test_what_a_resize_grants(
    minimum: int, answer: Any, granted: tuple[int, str | None], recwarn: pytest.WarningsRecorder
) -> None:
    plan = Claim.model_validate({"min_workers": minimum, "max_workers": 4}).plan()
    with answering({"": [(200, answer)]}) as (url, server):
        found = ask({"gateway_url": url}, lambda api: api.resize(NAME, plan))
    assert found == granted
    assert server.seen[-1][0].endswith("/scale" if minimum == 4 else "/adapt")
    assert not recwarn.list


def test_credentials_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    import dask.config
    from dask_gateway.auth import BasicAuth

    monkeypatch.setenv("JUPYTERHUB_API_TOKEN", "token-1234")
    configured = {
        "gateway.auth.type": "jupyterhub",
        "gateway.cluster.options": {"image": "{JUPYTERHUB_API_TOKEN}"},
    }
    with dask.config.set(configured), answering({"": [(401, {"error": "who?"})]}) as (url, server):
        with pytest.raises(AuthenticationError, match="DASK_CLAIM_GATEWAY_URL"):
            ask({"gateway_url": url}, lambda api: api.clusters(), credentials=False)
        # A user's name is no secret, and gateways without passwords ask for it.
        assert {sent for _, sent in server.seen} == {
            None,
            BasicAuth().pre_request(None)[0]["Authorization"],
        }
        with pytest.raises(AuthenticationError, match=r"gateway\.auth"):
            ask({"gateway_url": url}, lambda api: api.clusters())
        assert "jupyterhub token-1234" in {sent for _, sent in server.seen}


def test_own_defaults_are_kept() -> None:
    import dask.config

    offer = {"field": "image", "label": "", "default": "", "spec": {"type": "string"}}
    offered = [(200, {"cluster_options": [offer]})]
    with (
        dask.config.set({"gateway.cluster.options": {"image": "own"}}),
        answering({"": offered}) as (url, _),
    ):
        foreign = ask({"gateway_url": url}, lambda api: api.options(), credentials=False)
        own = ask({"gateway_url": url}, lambda api: api.options())
    assert (foreign["image"], own["image"]) == ("", "own")


OFFERED = [
    {"field": "image", "label": "", "default": "a", "spec": {"type": "string"}},
    {"field": "CPU", "label": "", "default": 1, "spec": {"type": "int", "min": 1, "step": 1}},
    {"field": "volume", "label": "", "default": {"new": 1}, "spec": {"type": "volume", "of": 2}},
]


def test_options_of_a_newer_server() -> None:
    """Types and limits that the client does not know are the server's own matter."""
    from dask_claim.providers.gateway.options import fill

    with answering({"options": [(200, {"cluster_options": OFFERED})]}) as (url, _):
        options = ask({"gateway_url": url}, lambda api: api.options())
    assert dict(options) == {"image": "a", "CPU": 1, "volume": {"new": 1}}
    fill(options, Claim(worker_cores=2, options={"volume": ["own"]}))
    assert dict(options) == {"image": "a", "CPU": 2, "volume": ["own"]}


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ({"image": "{NOT_SET_ANYWHERE}"}, ["image", "NOT_SET_ANYWHERE is not set"]),
        ({"image": "{"}, ["image", "cannot be filled in"]),
        (
            {"profile": "large"},
            ["profile", "unknown option; the Dask Gateway", "image, CPU, volume"],
        ),
        ({"image": 1, "cpu": "x"}, ["image", "must be a string", "cpu", "must be an integer"]),
        ({"cpu": 0}, ["cpu", "must be >= 1"]),
        ("large", ["gateway.cluster.options in Dask's configuration: must be a mapping"]),
    ],
)
def test_defaults_that_do_not_fit(said: Any, told: list[str]) -> None:
    """They are Dask's configuration's fault, each one is named, and trying again is no use."""
    import dask.config

    from dask_claim.doctor.gateway import check_options

    seen: Any = SimpleNamespace(request=None)
    with (
        dask.config.set({"gateway.cluster.options": said}),
        answering({"options": [(200, {"cluster_options": OFFERED})]}) as (url, _),
    ):
        finding = ask({"gateway_url": url}, lambda api: check_options(api, seen))
        with pytest.raises(ConfigurationError) as caught:
            ask({"gateway_url": url}, lambda api: api.options())
    assert caught.value.exit_status == 78
    assert str(caught.value) in finding.message and "Dask is configured" in str(finding.hint)
    for one in [
        *told,
        *(
            f"gateway.cluster.options.{name} in Dask's con"
            for name in said
            if isinstance(said, dict)
        ),
    ]:
        assert one in str(caught.value)


def test_configuration_and_environment_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    import copy
    import getpass
    import os

    import dask.config

    def nobody() -> str:
        raise KeyError("uid 4711")

    monkeypatch.setattr(getpass, "getuser", nobody)
    claim = {"gateway_url": "http://127.0.0.1:1/", "proxy_url": "8786", "public_url": "http://b/"}
    with dask.config.set({"gateway.proxy-address": "gateway://other:1"}):
        before, environ = copy.deepcopy(dask.config.config), dict(os.environ)

        async def look(api: GatewayApi) -> tuple[str, str, str | None]:
            api.renew_credentials()
            return api.proxy_address, api.public_address, api.user

        found = ask(claim, look)
        plain = ask({"gateway_url": "http://127.0.0.1:1/prefix"}, look)
        assert (dask.config.config, dict(os.environ)) == (before, environ)
    user = f"uid-{os.getuid()}" if dask.config.get("gateway.auth.type") == "basic" else None
    assert found == ("gateway://127.0.0.1:8786", "http://b", user)
    assert plain == ("gateway://127.0.0.1:1", "http://127.0.0.1:1/prefix", user)


def test_end_of_a_wait_is_never_swallowed() -> None:
    """A loop of requests, each answered at the very moment when it is told to end, does end."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        answers: list[asyncio.Future[int]] = []

        async def ask() -> None:
            while True:
                answers.append(loop.create_future())
                await in_time(answers[-1], 5)

        asking = asyncio.ensure_future(ask())
        while not answers:
            await asyncio.sleep(0)
        for _ in range(3):
            await asyncio.sleep(0)
        answers[-1].set_result(1)
        # The step has ended; the loop has not yet gone on.
        asking.cancel()
        done, _ = await asyncio.wait({asking}, timeout=5)
        assert done and asking.cancelled()
        with pytest.raises(asyncio.TimeoutError):
            await in_time(loop.create_future(), 0.01)

    asyncio.run(main())
