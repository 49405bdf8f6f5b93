"""The gateway's client: who answered and what it means, and whose credentials go to whom."""

from __future__ import annotations

import ast
import asyncio
import base64
import copy
import errno
import getpass
import inspect
import os
import re
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import dask.config
import pytest
from dask_gateway import Gateway, scheduler_preload
from dask_gateway.auth import BasicAuth, GatewayAuth
from dask_gateway.client import GatewaySecurity
from dask_gateway.options import Field

from dask_claim.claim.addresses import GatewayAddress
from dask_claim.claim.model import Claim
from dask_claim.doctor.gateway import check_options
from dask_claim.errors import (
    AuthenticationError,
    ClusterGone,
    ConfigurationError,
    Exhausted,
    GatewayUnreachable,
)
from dask_claim.imports import import_quietly
from dask_claim.providers.gateway import api, connection
from dask_claim.providers.gateway.api import GatewayApi
from dask_claim.providers.gateway.connection import PRIVATE
from dask_claim.providers.gateway.filling import Filling
from dask_claim.threads import in_time
from tests.support.serving import answering

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
    monkeypatch.setattr(api, "ASK_AGAIN_AFTER", 0.2)
    for name in ("LOGNAME", "USER"):
        monkeypatch.setenv(name, "tester")


def ask(url: str, work: Callable[[GatewayApi], Awaitable[Any]], **more: Any) -> Any:
    async def asked() -> Any:
        api = GatewayApi(GatewayAddress(url, **{"trusted": True, **more}))
        try:
            return await work(api)
        finally:
            await api.close()

    return asyncio.run(asked())


def ask_of(answers: dict[str, list[tuple[int, Any]]], work: Any, **more: Any) -> Any:
    """Ask a server that gives these answers."""
    with answering(answers) as (url, _):
        return ask(url, work, **more)


@pytest.mark.parametrize(
    ("to", "shown"),
    [("/hub/gw/other", True), ("/hub/user/x/other", False), ("../../../../user/x/other", False)],
)
def test_redirection(monkeypatch: pytest.MonkeyPatch, to: str, shown: bool) -> None:
    """Credentials follow to what is below the gateway's address, not to its neighbours."""
    monkeypatch.setenv("DASK_GATEWAY__AUTH__KWARGS__PASSWORD", "hunter2")
    answers = {"clusters/": [(401, {}), (307, to)], "other": [(200, {})]}
    with answering(answers) as (url, server):
        ask(f"{url}/hub/gw", GatewayApi.clusters)
        assert len(server.seen) == 3 and server.seen[-1][0].endswith("other")
        assert (server.seen[-1][1] is not None) is shown


@pytest.mark.parametrize(("written", "read"), [("1e5", 100000.0), ("1234", 1234), (None, 1234)])
def test_password_of_digits(
    monkeypatch: pytest.MonkeyPatch, written: str | None, read: object
) -> None:
    """Dask reads a number there, which its client cannot send."""
    if written is not None:
        monkeypatch.setenv("DASK_GATEWAY__AUTH__KWARGS__PASSWORD", written)
    with answering({"clusters/": [(401, {}), (200, {})]}) as (url, server):
        with dask.config.set({"gateway.auth.kwargs": {"username": 7, "password": read}}):
            ask(url, GatewayApi.clusters)
        shown = base64.b64decode(str(server.seen[-1][1]).partition(" ")[2]).decode()
        assert shown == f"7:{written or read}"


class Whole(GatewayAuth):
    def __init__(self, **_: object) -> None: ...

    def prepare(self) -> None: ...

    def pre_request(self, resp: object) -> tuple[dict[str, str], None]:
        return {}, None


@pytest.mark.parametrize(
    ("step", "error", "told"),
    [
        ("__init__", AttributeError("'int' object"), "AttributeError: 'int' object"),
        ("__init__", SystemExit("log in first"), "SystemExit: log in first"),
        ("prepare", RuntimeError("no session"), "RuntimeError: no session"),
        ("prepare", SystemExit(3), "SystemExit: 3"),
        ("pre_request", AttributeError("'int' object"), "AttributeError: 'int' object"),
        ("pre_request", SystemExit(3), "SystemExit: 3"),
        ("__init__", OSError(errno.EMFILE, "Too many open files"), ""),
    ],
)
def test_a_class_that_fails(
    monkeypatch: pytest.MonkeyPatch, step: str, error: BaseException, told: str
) -> None:
    """What it has wrong itself is no refusal of the gateway's; no more files are neither."""
    monkeypatch.setattr(Whole, step, Mock(side_effect=error))
    kind, words = AuthenticationError, rf"gateway\.auth .*cannot be used: {told}"
    if isinstance(error, OSError):
        kind, words = Exhausted, "no more files"
    with (
        dask.config.set({"gateway.auth.type": f"{__name__}.Whole"}),
        pytest.raises(kind, match=words),
    ):
        ask_of({"": [(401, {"error": "no"})]}, GatewayApi.clusters)


def test_refusals() -> None:
    """What a gateway itself says is told; a DELETE that somebody else answers is no refusal."""
    scopes = "Forbidden, needs access:services or access:services!service=dask"
    with pytest.raises(AuthenticationError, match="lacks the scope access:services!service=dask: "):
        ask_of({"": [(403, {"error": scopes})]}, GatewayApi.clusters)
    with pytest.raises(ConfigurationError, match="image is not allowed"):
        ask_of({"": [(422, {"error": "image is not allowed"})]}, GatewayApi.clusters)
    with pytest.raises(GatewayUnreachable):
        ask_of({"": [(404, "not found")]}, lambda api: api.delete(NAME))


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
    answers = {NAME: list(reports), "clusters/": [(200, listed)]}
    began = time.monotonic()
    try:
        report = ask_of(answers, lambda api: api.report(NAME))
    except GatewayUnreachable:
        assert found is None
    else:
        assert found is (report is not None)
        assert time.monotonic() - began >= 0.2


SCALED = (
    "Scale request of 4 workers would exceed resource limit of 1 workers. Scaling to 1 instead."
)
ADAPTED = (
    "Adapt with `maximum=4, minimum=2` workers would exceed resource limit of 3 workers. Using "
    "`maximum=3, minimum=2` instead."
)
NOT_RUNNING = (409, {"error": "is not running"})


@pytest.mark.parametrize(
    ("minimum", "answer", "report", "granted"),
    [
        (4, (200, {"ok": True, "msg": None}), RUNNING, (4, None)),
        (4, (200, {"ok": False, "msg": SCALED}), RUNNING, (1, SCALED)),
        (2, (200, {"ok": False, "msg": ADAPTED}), RUNNING, (3, ADAPTED)),
        (2, (200, {"ok": False, "msg": "fewer, sorry"}), RUNNING, (4, "fewer, sorry")),
        (2, (200, {"ok": False}), RUNNING, (4, None)),
        (2, (200, ""), RUNNING, (4, None)),
        (2, (503, "no"), RUNNING, GatewayUnreachable),
        (2, NOT_RUNNING, RUNNING, GatewayUnreachable),
        (2, NOT_RUNNING, {**RUNNING, "status": "FAILED"}, ClusterGone),
        (2, UNKNOWN, None, ClusterGone),
    ],
)
def test_resize(
    minimum: int, answer: Any, report: Any, granted: Any, recwarn: pytest.WarningsRecorder
) -> None:
    plan = Claim.model_validate({"min_workers": minimum, "max_workers": 4}).plan()
    way = "/scale" if minimum == 4 else "/adapt"
    told = (200, report) if report else UNKNOWN
    answers = {way: [answer], NAME: [told], "clusters/": [(200, {})]}
    if isinstance(granted, tuple):
        assert ask_of(answers, lambda api: api.resize(NAME, plan)) == granted
    else:
        with pytest.raises(granted) as caught:
            ask_of(answers, lambda api: api.resize(NAME, plan))
        assert (type(caught.value), caught.value.exit_status) == (granted, 75)
    assert not recwarn.list


def test_credentials_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JUPYTERHUB_API_TOKEN", "token-1234")
    monkeypatch.setenv("DASK_GATEWAY__AUTH__TYPE", "jupyterhub")
    configured = {
        "gateway.auth.type": "jupyterhub",
        "gateway.cluster.options": {"image": "{JUPYTERHUB_API_TOKEN}"},
    }
    with dask.config.set(configured), answering({"": [(401, {"error": "who?"})]}) as (url, server):
        with pytest.raises(AuthenticationError, match="DASK_CLAIM_GATEWAY_URL"):
            ask(url, GatewayApi.clusters, trusted=False)
        # A user's name is no secret, and gateways without passwords ask for it.
        name = BasicAuth().pre_request(None)[0]["Authorization"]
        assert {sent for _, sent in server.seen} == {None, name}
        with pytest.raises(AuthenticationError, match=r"gateway\.auth"):
            ask(url, GatewayApi.clusters)
        assert "jupyterhub token-1234" in {sent for _, sent in server.seen}


OFFERED = {"options": [(200, {"cluster_options": [
    {"field": "image", "label": "", "default": "a", "spec": {"type": "string"}},
    {"field": "CPU", "label": "", "default": 1, "spec": {"type": "int", "min": 1, "step": 1}},
    {"field": "volume", "label": "", "default": {"new": 1}, "spec": {"type": "volume", "of": 2}},
]})]}  # fmt: skip


def test_options_of_a_newer_server() -> None:
    """Types and limits that the client does not know are the server's own matter."""
    with dask.config.set({"gateway.cluster.options": {"image": "own"}}):
        foreign = ask_of(OFFERED, GatewayApi.options, trusted=False)
        options = ask_of(OFFERED, GatewayApi.options)
    assert dict(foreign) == {"image": "a", "CPU": 1, "volume": {"new": 1}}
    assert dict(options) == {**foreign, "image": "own"}
    Filling(options, Claim(worker_cores=2, options={"volume": ["own"]})).fill()
    assert dict(options) == {"image": "own", "CPU": 2, "volume": ["own"]}


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
    seen: Any = SimpleNamespace(request=None)
    with dask.config.set({"gateway.cluster.options": said}):
        finding = ask_of(OFFERED, lambda api: check_options(api, seen))
        with pytest.raises(ConfigurationError) as caught:
            ask_of(OFFERED, GatewayApi.options)
    words = str(caught.value)
    assert words.partition(" at ")[0] in finding.message and "configured" in str(finding.hint)
    names = said if isinstance(said, dict) else ()
    for one in (*told, *(f"gateway.cluster.options.{name} in Dask's con" for name in names)):
        assert one in words


def test_configuration_and_environment_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody() -> str:
        raise KeyError("uid 4711")

    monkeypatch.setattr(getpass, "getuser", nobody)
    with dask.config.set({"gateway.proxy-address": "gateway://other:1"}):
        before, environ = copy.deepcopy(dask.config.config), dict(os.environ)

        async def look(api: GatewayApi) -> tuple[str, str, str | None]:
            api.renew_credentials()
            return api.proxy_address, api.public_address, getattr(api.login.auth, "username", None)

        found = ask("http://127.0.0.1:1", look, proxy_url="8786", public_url="http://b/")
        plain = ask("http://127.0.0.1:1/prefix", look)
        assert (dask.config.config, dict(os.environ)) == (before, environ)
    user = f"uid-{os.getuid()}" if dask.config.get("gateway.auth.type") == "basic" else None
    assert found == ("gateway://127.0.0.1:8786", "http://b", user)
    assert plain == ("gateway://127.0.0.1:1", "http://127.0.0.1:1/prefix", user)


async def test_end_of_a_wait_is_never_swallowed() -> None:
    """A loop of requests, each answered at the very moment when it is told to end, does end."""
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


def test_private_names_of_the_client(monkeypatch: pytest.MonkeyPatch) -> None:
    """They are all in one table; a version that lacks one is refused by its name."""
    folder = Path(connection.__file__).parent
    used = {
        node.attr
        for path in folder.glob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute) and re.match("_[^_]", node.attr)
        if not (isinstance(node.value, ast.Name) and node.value.id in ("self", "cls"))
    }
    assert used == {name for names in PRIVATE.values() for name in names}

    monkeypatch.delattr(Field, "_field_types")
    monkeypatch.delattr(Gateway, "_request")
    with pytest.raises(ConfigurationError, match=r"has no Gateway\._request, Field\._field_types"):
        ask("http://127.0.0.1:1", GatewayApi.clusters)


def test_names_that_the_lease_and_a_gateway_of_the_run_use() -> None:
    """No version of dask-gateway promises these; a method that is gone would not be overridden."""
    # These import a database's library, which no other test of this process needs.
    from dask_gateway_server.app import DaskGateway
    from dask_gateway_server.backends.local import UnsafeLocalBackend

    from dask_claim.providers.local.gateway_host import Backend, Server

    names = ("tls_key", "tls_cert")
    assert tuple(inspect.signature(GatewaySecurity).parameters) == names
    assert inspect.iscoroutinefunction(scheduler_preload.GatewayClient.shutdown)
    assert callable(scheduler_preload.make_gateway_client)
    for ours, theirs in ((Server, DaskGateway), (Backend, UnsafeLocalBackend)):
        names = tuple(name for name in vars(ours) if inspect.isfunction(vars(ours)[name]))
        assert names and [name for name in names if not hasattr(theirs, name)] == []


def test_own_processes_import_dask_without_numpy() -> None:
    """Whoever imports NumPy later has it, also Dask when an array comes."""
    code = (
        "import sys; from dask_claim.imports import import_dask; import_dask('dask_gateway')\n"
        "assert 'numpy' not in sys.modules; import numpy\n"
        "from distributed.protocol import deserialize, serialize\n"
        "print(deserialize(*serialize(numpy.arange(3))).sum())"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "3\n"
