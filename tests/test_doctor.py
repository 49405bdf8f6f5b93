"""`dask-claim doctor`: each planted fault is found and its hint named, and nothing else fails."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import re
import signal
import ssl
import subprocess
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from dask_claim.claim.model import Claim
from dask_claim.claim.site_sections import Policy
from dask_claim.doctor.examine import examine, exit_status
from dask_claim.doctor.finding import Examined, Finding, fail, warn
from dask_claim.doctor.gateway import check_options, token_expiry
from dask_claim.doctor.here import has_route
from dask_claim.providers.gateway.api import GatewayApi
from dask_claim.providers.values import Request
from tests.support.faulty import faulty
from tests.support.gateway import REFERENCE, GatewayServer, clean_environment, free_port
from tests.support.launcher import DASK_CLAIM, wait_for
from tests.support.proxy import GIVING_BACK, Proxy
from tests.support.scenes import NAMESPACE, children
from tests.test_credentials import CHECKING
from tests.test_versions import other_version

pytestmark = pytest.mark.slow

SECRET = "hunter2-9753"


def doctor(
    *flags: str,
    claim: Mapping[str, Any] | None = None,
    env: Mapping[str, str] | None = None,
    unset: Sequence[str] = (),
    before: Sequence[str] = (),
) -> tuple[int, list[dict[str, str]]]:
    """Exit status and findings of the installed command."""
    environment = clean_environment(DASK_CLAIM=json.dumps(claim or {}), **(env or {}))
    for name in unset:
        environment.pop(name, None)
    run = subprocess.run(
        [*before, DASK_CLAIM, "doctor", "--json", *flags],
        env=environment, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert SECRET not in run.stdout + run.stderr
    assert run.stdout, run.stderr
    findings = json.loads(run.stdout)
    told_once(findings)
    return run.returncode, findings


def told_once(findings: Sequence[Mapping[str, str]]) -> None:
    """Nothing is printed twice: no message, and no part of a hint that its message has, too."""
    for number, each in enumerate(findings):
        message, hint = each["message"], each["hint"]
        others = [other["message"] for other in findings[:number] + findings[number + 1 :]]
        assert not [other for other in others if message in other], findings
        assert (message and hint) or each["state"] == "ok", each
        parts = re.split(r"[.:;?] |\n", f"{hint}\n")
        twice = [part for part in parts if len(part) > 15 and part in message]
        assert not twice, each


def run_status(case: Case) -> int:
    """The status of a run in the same place."""
    environment = clean_environment(DASK_CLAIM=json.dumps(case.claim), **case.env)
    # What is temporary is tried until then; what is wrong ends a run at once.
    timeout = "3" if case.status == 75 else "60"
    command = [*case.before, DASK_CLAIM, "--start-timeout", timeout, *case.flags, "--", "true"]
    run = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    return run.returncode


@contextmanager
def web_server(folder: Path, secure: bool = False) -> Iterator[int]:
    """A server that is no gateway: 404 to all; `secure` with a certificate of a foreign CA."""

    class NotFound(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_error(404)

        def log_message(self, *_: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), NotFound)
    if secure:
        from distributed.security import Security

        made, pair = Security.temporary(), folder / "pair.pem"
        pair.write_text(f"{made.tls_scheduler_key}\n{made.tls_scheduler_cert}")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(pair)
        server.socket = context.wrap_socket(
            server.socket, server_side=True, do_handshake_on_connect=False
        )
        server.handle_error = lambda *_: None  # type: ignore[method-assign]
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()


@dataclass
class Case:
    """A planted fault, and the finding that is to come of it."""

    name: str
    check: str
    state: str
    told: str
    """Part of the hint."""

    status: int = 0
    gateway: str | None = None
    """The fixture whose gateway is claimed."""

    claim: dict[str, Any] = field(default_factory=dict)
    env: dict[str, str] = field(default_factory=dict)
    unset: tuple[str, ...] = ()
    before: tuple[str, ...] = ()
    flags: tuple[str, ...] = ()
    plant: Callable[[Case, Path], Any] | None = None
    """Makes the fault where it is more than a value; may yield, and change the case."""


def dead(case: Case, _: Path) -> None:
    case.claim["gateway_url"] = f"http://127.0.0.1:{free_port()}"


def dead_scheduler(case: Case, _: Path) -> None:
    case.env["DASK_SCHEDULER_ADDRESS"] = f"tcp://127.0.0.1:{free_port()}"


def no_proxy(case: Case, _: Path) -> None:
    case.claim["proxy_url"] = f"gateway://127.0.0.1:{free_port()}"


def no_gateway(case: Case, folder: Path) -> Iterator[None]:
    with web_server(folder) as port:
        case.claim["gateway_url"] = f"http://127.0.0.1:{port}/api"
        yield


def foreign_ca(case: Case, folder: Path) -> Iterator[None]:
    with web_server(folder, secure=True) as port:
        case.claim["gateway_url"] = f"https://127.0.0.1:{port}"
        yield


def http_ingress(case: Case, folder: Path) -> Iterator[None]:
    with web_server(folder) as port:
        case.claim["proxy_url"] = f"gateway://127.0.0.1:{port}"
        yield


def tls_ingress(case: Case, folder: Path) -> Iterator[None]:
    with web_server(folder, secure=True) as port:
        case.claim["proxy_url"] = f"gateway://127.0.0.1:{port}"
        yield


def without(package: str) -> Callable[[Case, Path], None]:
    """As where it is not installed."""

    def plant(case: Case, folder: Path) -> None:
        (folder / "sitecustomize.py").write_text(
            "from importlib.machinery import PathFinder\n"
            "find = PathFinder.find_spec\n"
            "def without(name, *more):\n"
            f"    return None if name == {package!r} else find(name, *more)\n"
            "PathFinder.find_spec = without\n"
        )
        case.env["PYTHONPATH"] = str(folder)

    return plant


def other_cloudpickle(case: Case, folder: Path) -> None:
    case.env["PYTHONPATH"] = other_version(folder / "other")


def policy(case: Case, folder: Path) -> None:
    site = folder / "claim.yaml"
    site.write_text("policy: {max_workers: 2}\n")
    case.env["DASK_CLAIM_SITE"] = str(site)


TINY_SHM = 'mount -t tmpfs -o size=1m tmpfs /dev/shm && exec "$@"'
FOREIGN = "http://203.0.113.1:8000"  # RFC 5737: nobody's; it is never asked

CASES = [
    Case("unknown field", "claim", "fail", "worker_cores", 78, claim={"worker_core": 1}),
    Case("variable that breaks Dask", "claim", "fail", "DASK_GATEWAY", 78,
         claim={"gateway_url": FOREIGN}, env={"DASK_GATEWAY": "x"}),
    Case("bounds", "claim", "fail", "max_workers", 78, claim={"min_workers": 5, "max_workers": 2}),
    Case("policy", "claim", "fail", "2", 78, claim={"max_workers": 3}, plant=policy),
    Case(
        "name without address", "name resolution", "fail", "spelt right", 75,
        claim={"gateway_url": "http://gateway.invalid:8000"},
    ),
    Case("dead port", "gateway", "fail", "nothing listens", 75, plant=dead),
    Case("no gateway", "gateway", "fail", "/api/version", 75, plant=no_gateway),
    Case("foreign CA", "gateway", "fail", "SSL_CERT_FILE", 78, plant=foreign_ca),
    Case(
        "wrong password", "credentials", "fail", "AUTH__KWARGS__PASSWORD", 78, "closed_gateway",
        env={"DASK_GATEWAY__AUTH__KWARGS__PASSWORD": SECRET, "DASK_GATEWAY__AUTH__TYPE": "basic"},
    ),
    Case(
        "credentials kept back", "credentials", "warn", "DASK_CLAIM_GATEWAY_URL", 0, "gateway",
        env={"DASK_GATEWAY__AUTH__KWARGS__PASSWORD": SECRET, "DASK_GATEWAY__AUTH__TYPE": "basic"},
    ),
    Case(
        "unknown authentication", "credentials", "fail", "AUTH__TYPE", 78, "gateway",
        env={"DASK_GATEWAY__AUTH__TYPE": "missing_package.Auth"},
        flags=("--gateway-url", "{url}"),
    ),
    Case(
        "option out of range", "options", "fail", "within what is offered", 78, "gateway",
        {"worker_cores": 99},
    ),
    Case("option not offered", "options", "warn", "own options", 0, "gateway",
         {"options": {"queue": "long"}}),
    Case("no proxy of schedulers", "scheduler path", "fail", "proxy_url", 75, "gateway",
         plant=no_proxy),
    Case("web server as proxy", "scheduler path", "fail", "passes through", 75, "gateway",
         plant=http_ingress),
    Case("ingress that ends TLS", "scheduler path", "fail", "passthrough", 75, "gateway",
         plant=tls_ingress),
    Case("no network", "network", "fail", "NetworkAccess", 75, claim={"gateway_url": FOREIGN},
         before=("unshare", "--net", "--")),
    Case("uid without a name", "user", "warn", "USER", 0, unset=("USER", "LOGNAME"),
         before=("unshare", "--map-user=54321", "--map-group=54321", "--")),
    Case("HOME", "HOME", "warn", "HOME=/tmp", env={"HOME": "/proc"}),
    Case("TMPDIR", "temporary files", "warn", "TMPDIR", env={"TMPDIR": "/proc"}),
    Case("tiny /dev/shm", "/dev/shm", "warn", "--shm-size",
         before=("unshare", "--mount", "sh", "-c", TINY_SHM, "sh")),
    Case("extra missing", "provider", "fail", "dask-claim[hpc]", 78, claim={"provider": "slurm"},
         plant=without("dask_jobqueue")),
    Case("no keys", "provider", "fail", "pip install cryptography", 78,
         plant=without("cryptography")),
    Case("no gateway of the run", "provider", "warn", "dask-claim[local-gateway]",
         claim={"env": {"gateway_url": "DASK_GATEWAY_URL"}},
         plant=without("dask_gateway_server")),
    Case("login node", "provider", "warn", "docs/sites.md", env={"SLURM_JOB_ID": "7"},
         flags=("--start",)),
    Case("no batch system", "provider", "fail", "node from which jobs are submitted", 78,
         claim={"provider": "oar"}),
    Case("dead scheduler", "scheduler", "fail", "correct the variable", 75, plant=dead_scheduler),
    Case("scheduler of an unknown kind", "scheduler", "fail", "correct the variable", 78,
         env={"DASK_SCHEDULER_ADDRESS": "nothing://127.0.0.1:1"}),
    Case("runner's cluster is gone", "scheduler", "fail", "correct the variable", 75, "gateway",
         env={"DASK_CLUSTER": "0123456789abcdef"}),
    Case("no scheduler to attach to", "provider", "fail", "--provider", 78,
         claim={"provider": "attach"}),
    Case(
        "shell as first process", "first process", "warn", "exec dask-claim",
        before=("unshare", "--pid", "--fork", "--mount-proc", "--kill-child",
                "sh", "-c", '"$@"; exit $?', "sh"),
    ),
    Case("cluster does not start", "start", "fail", "operator", 75, "stuck_gateway",
         flags=("--start", "--start-timeout", "12")),
    Case("cluster fails at once", "start", "fail", "scheduler_cmd", 75, "failing_gateway",
         flags=("--start",)),
    Case("no lease", "lease", "warn", "plugins", 0, "strict_gateway", flags=("--start",)),
    Case("other versions", "versions", "warn", "same ones on both sides", 0, "gateway",
         flags=("--start",), plant=other_cloudpickle),
]  # fmt: skip


@pytest.mark.parametrize(
    ("case", "place"), [(case, case.gateway) for case in CASES], ids=[case.name for case in CASES]
)
def test_planted_fault(
    case: Case, place: str | None, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    if place is not None:
        url = request.getfixturevalue(place).url
        case.claim.setdefault("gateway_url", url)
        case.flags = tuple(flag.format(url=url) for flag in case.flags)
        if place == "closed_gateway":
            case.env["DASK_CLAIM_GATEWAY_URL"] = url
    planted = case.plant(case, tmp_path) if case.plant else None
    if planted is not None:
        next(planted)
    try:
        status, findings = doctor(
            *case.flags, claim=case.claim, env=case.env, unset=case.unset, before=case.before
        )
        in_a_run = run_status(case) if case.status and "--start" not in case.flags else None
    finally:
        if planted is not None:
            planted.close()
    bad = [found for found in findings if found["state"] != "ok"]
    found = [each for each in bad if each["name"] == case.check]
    assert found and found[0]["state"] == case.state, findings
    assert case.told in found[0]["hint"], found
    assert status == case.status
    assert in_a_run in (None, status)
    # One fault is told as one: whatever follows from it is not told beside it.
    failing = {each["name"] for each in bad if each["state"] == "fail"}
    assert failing <= {case.check}


def test_clock_of_the_gateway(gateway: GatewayServer) -> None:
    with Proxy(gateway, ahead=3600) as proxy:
        status, findings = doctor(claim=proxy.claim())
    clock = next(each for each in findings if each["name"] == "clock")
    assert (status, clock["state"]) == (0, "warn")
    assert "ahead of" in clock["message"] and "NTP" in clock["hint"]


def test_all_is_well_with_a_started_cluster(gateway: GatewayServer) -> None:
    status, findings = doctor("--start", claim={"gateway_url": gateway.url})
    assert [each for each in findings if each["state"] != "ok"] == []
    assert status == 0
    names = [each["name"] for each in findings]
    order = ["claim", "network", "name resolution", "gateway", "clock", "credentials", "options"]
    order += ["scheduler path", "start", "task", "bandwidth", "versions", "lease", "release"]
    assert [name for name in names if name in order] == order
    assert gateway.clusters() == []


def test_failure_of_a_start_is_told_although_a_check_says_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def findings(start: bool) -> list[Finding]:
        return [found async for found in examine({"provider": "local"}, start=start)]

    before = asyncio.run(findings(start=False))

    async def check_start(seen: Examined) -> AsyncIterator[Finding]:
        for make in (warn, fail):
            yield make("start", f"{before[-1].message}: that is so", "mend it")

    monkeypatch.setattr("dask_claim.doctor.start.check_start", check_start)
    (told,) = asyncio.run(findings(start=True))[len(before) :]
    assert (told.state, exit_status([told])) == ("fail", 78)


def test_gateway_whose_workers_may_exceed_the_policy() -> None:
    """A run is refused: it offers no cores to set, and no file tells how many it gives."""
    with faulty("none") as server:
        claim = Claim.model_validate({"gateway_url": server.url})
        policy = Policy.model_validate({"worker_cores": 2})
        request = Request(claim, claim.plan({}), {}, policy=policy, site_file="site.yaml")
        resolved: Any = None

        async def look() -> Finding:
            api = GatewayApi(claim)
            try:
                return await check_options(api, Examined({}, resolved, request.plan, request))
            finally:
                await api.close()

        found = asyncio.run(look())
    assert (found.state, found.status) == ("fail", 78)
    assert "policy.worker_cores" in found.message


def test_this_machine_as_text() -> None:
    run = subprocess.run(
        [DASK_CLAIM, "doctor", "--start"],
        env=clean_environment(), capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert run.returncode == 0, run.stdout + run.stderr
    assert "ok    task: one task" in run.stdout and "ok    release: " in run.stdout
    assert "name resolution" not in run.stdout


@pytest.mark.parametrize(
    ("name", "first"), [("SIGTERM", False), ("SIGINT", False), ("SIGHUP", False), ("SIGTERM", True)]
)
def test_signal_gives_the_started_cluster_back(
    gateway: GatewayServer, name: str, first: bool
) -> None:
    """Also where doctor is a container's first process."""
    signum = signal.Signals[name]
    process = subprocess.Popen(
        [*(NAMESPACE if first else ()), DASK_CLAIM, "doctor", "--start"],
        env=clean_environment(DASK_CLAIM_GATEWAY_URL=gateway.url, DASK_CLAIM_LEASE_TIMEOUT="0"),
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    wait_for(lambda: gateway.clusters() or process.poll() is not None, "cluster of doctor", 40)
    [pid] = children(process.pid) if first else [process.pid]
    os.kill(pid, signum)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 128 + signum, out
    assert signum.name in out and "is gone after" in out
    assert gateway.clusters() == []


def test_signal_and_a_gateway_that_gives_nothing_back(gateway: GatewayServer) -> None:
    """What was not confirmed is not told as stopped; its guard goes on."""
    with Proxy(gateway) as proxy:
        proxy.fault("502", GIVING_BACK)
        process = subprocess.Popen(
            [DASK_CLAIM, "doctor", "--start", "--stop-timeout", "4", "--json"],
            env=clean_environment(DASK_CLAIM=json.dumps(proxy.claim(lease_timeout=0))),
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        wait_for(lambda: gateway.clusters() or process.poll() is not None, "cluster of doctor", 40)
        process.terminate()
        out, _ = process.communicate(timeout=60)
        proxy.heal()
        assert process.returncode == 128 + signal.SIGTERM, out
        assert "is not confirmed gone" in out and "stopped" not in out
        wait_for(lambda: not gateway.clusters(), "end of the cluster, by the guard", 40)


def token(end: float) -> str:
    """As an OpenID provider makes them; nobody here checks its signature."""
    middle = base64.urlsafe_b64encode(json.dumps({"exp": end}).encode()).decode().rstrip("=")
    return f"e30.{middle}.{SECRET}"


@pytest.mark.parametrize(("life", "state"), [(90, "warn"), (7200, "ok")])
def test_end_of_a_token(site: GatewayServer, life: float, state: str) -> None:
    mine = token(time.time() + life)
    (site.folder / "token").write_text(mine)
    env = {
        "DASK_CLAIM_GATEWAY_URL": site.url,
        "DASK_GATEWAY__AUTH__TYPE": "dask_claim.providers.gateway.auth.BearerAuth",
        "DASK_GATEWAY__AUTH__KWARGS__TOKEN": mine,
    }
    status, findings = doctor(env=env)
    found = next(each for each in findings if each["name"] == "credentials")
    assert (status, found["state"]) == (0, state)
    assert ("get a new one" in found["hint"]) is (state == "warn")
    assert ("119 minutes" in found["message"] or "120 minutes" in found["message"]) is (
        state == "ok"
    )


@pytest.fixture(scope="module")
def site() -> Iterator[GatewayServer]:
    """A gateway that checks a bearer token."""
    server = GatewayServer(REFERENCE + CHECKING, password="operator-1234")
    yield server
    server.stop()


def test_expiry_of_a_token() -> None:
    end = time.time() + 90
    middle = token(end).split(".")[1]
    assert token_expiry(token(end)) == pytest.approx(end)
    for other in (None, "", "opaque", "a.b.c", f"e30.{middle[:-3]}.x", "e30.e30.x", "e30.W10.x"):
        assert token_expiry(other) is None


def test_routes(tmp_path: Path) -> None:
    (tmp_path / "route").write_text("Iface\tDestination\n")
    (tmp_path / "ipv6_route").write_text(
        f"{'0' * 32} 00 {'0' * 32} 00 {'0' * 32} 0 0 0 0       lo\n"
    )
    assert not has_route(tmp_path)
    (tmp_path / "route").write_text("Iface\tDestination\neth0\t00000000\n")
    assert has_route(tmp_path)
