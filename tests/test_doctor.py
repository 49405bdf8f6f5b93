"""`dask-claim doctor`: each planted fault is found and its hint named, and nothing else fails."""

from __future__ import annotations

import gc
import importlib.util
import json
import os
import re
import signal
import ssl
import subprocess
import tempfile
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from dask_claim import run
from dask_claim.doctor.examine import examine, exit_status
from dask_claim.doctor.finding import Examined, Finding, fail, warn
from dask_claim.errors import DaskClaimError
from tests.support.faulty import SECURITY
from tests.support.gateway import GatewayServer, clean_environment, free_port
from tests.support.here import Answer, dask_claim, environment
from tests.support.launcher import DASK_CLAIM, wait_for
from tests.support.missing import need
from tests.support.proxy import GIVING_BACK, Proxy
from tests.support.scenes import NAMESPACE, children
from tests.support.serving import in_thread, raw
from tests.test_clusters import by_hand
from tests.test_versions import other_version

SECRET = "hunter2-9753"
Findings = list[dict[str, str]]


def doctor(*flags: str, before: Sequence[str] = (), **variables: str) -> tuple[int, Findings]:
    """Exit status and findings; with `before` those of the installed command behind it."""
    words = ("doctor", "--json", *flags)
    if before:
        env = clean_environment(**variables)
        done = subprocess.run(
            [*before, DASK_CLAIM, *words], env=env, capture_output=True, text=True, timeout=120
        )
        answer = Answer(done.returncode, done.stdout, done.stderr)
    else:
        answer = dask_claim(*words, **variables)
    assert SECRET not in answer.out + answer.err
    assert answer.out, answer.err
    findings: Findings = json.loads(answer.out)
    told_once(findings)
    return answer.status, findings


def told_once(findings: Findings) -> None:
    """Nothing is printed twice: no message, and no part of a hint that its message has, too."""
    for number, each in enumerate(findings):
        message, hint = each["message"], each["hint"]
        others = [other["message"] for other in findings[:number] + findings[number + 1 :]]
        assert not [other for other in others if message in other], findings
        assert message, each
        parts = re.split(r"[.:;?] |\n", f"{hint}\n")
        twice = [part for part in parts if len(part) > 15 and part in message]
        assert not twice, each


NOT_FOUND = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """What the faults below name; both servers are no gateways, one has a foreign CA."""
    site = tmp_path_factory.mktemp("doctor") / "claim.yaml"
    site.write_text("policy: {max_workers: 2, worker_cores: 2}\n")
    context = SECURITY.get_listen_args("scheduler")["ssl_context"]
    context.verify_mode = ssl.CERT_NONE
    with in_thread(raw(NOT_FOUND)) as web, in_thread(raw(NOT_FOUND, tls=context)) as tls:
        there = {"dead": free_port(), "web": web, "tls": tls}
        yield {
            "site": str(site),
            **{name: f"127.0.0.1:{port}" for name, port in there.items()},
        }


class Case(NamedTuple):
    """A planted fault, and the finding that is to come of it."""

    name: str
    check: str
    state: str
    hint: str
    status: int = 0
    gateway: str | None = None
    """The fixture whose gateway is claimed."""

    claim: Mapping[str, Any] = {}
    env: Mapping[str, str] = {}
    """May name `places`, and the gateway's `url`, as the claim may."""

    before: tuple[str, ...] = ()
    start: tuple[str, ...] = ()
    hidden: str = ""
    """A package that seems not to be installed."""

    message: str = ""


NOBODY = 'unset USER LOGNAME; exec unshare --map-user=54321 --map-group=54321 -- "$@"'
FOREIGN = "http://203.0.113.1:8000"  # RFC 5737: nobody's; it is never asked
PASSWORD = {
    "DASK_GATEWAY__AUTH__KWARGS__PASSWORD": SECRET,
    "DASK_GATEWAY__AUTH__TYPE": "basic",
}

CASES = [
    Case("unknown field", "claim", "fail", "worker_cores", 78, claim={"worker_core": 1}),
    Case("variable that breaks Dask", "claim", "fail", "DASK_GATEWAY", 78,
         claim={"gateway_url": FOREIGN}, env={"DASK_GATEWAY": "x"}),
    Case("policy", "claim", "fail", "2", 78, claim={"max_workers": 3},
         env={"DASK_CLAIM_SITE": "{site}"}),
    Case("name without address", "name resolution", "fail", "spelt right", 75,
         claim={"gateway_url": "http://gateway.invalid:8000"}),
    Case("dead port", "gateway", "fail", "the port and path", 75,
         claim={"gateway_url": "http://{dead}"}),
    Case("no gateway", "gateway", "fail", "/api/version", 75,
         claim={"gateway_url": "http://{web}/api"}),
    Case("foreign CA", "gateway", "fail", "SSL_CERT_FILE", 78,
         claim={"gateway_url": "https://{tls}"}),
    Case("wrong password", "credentials", "fail", "AUTH__KWARGS__PASSWORD", 78, "closed_gateway",
         env={**PASSWORD, "DASK_CLAIM_GATEWAY_URL": "{url}"}),
    Case("credentials kept back", "credentials", "warn", "DASK_CLAIM_GATEWAY_URL", 0, "gateway",
         env=PASSWORD),
    Case("unknown authentication", "credentials", "fail", "AUTH__TYPE", 78, "gateway",
         env={"DASK_GATEWAY__AUTH__TYPE": "no_package.Auth", "DASK_CLAIM_GATEWAY_URL": "{url}"}),
    Case("option out of range", "options", "fail", "within what is offered", 78, "gateway",
         {"worker_cores": 99}),
    # It offers no cores to set, and no file tells how many its workers have.
    Case("workers may exceed the policy", "options", "fail", "within what is offered", 78,
         "stuck_gateway", {"max_workers": 1}, {"DASK_CLAIM_SITE": "{site}"},
         message="policy.worker_cores"),
    Case("option not offered", "options", "warn", "own options", 0, "gateway",
         {"options": {"queue": "long"}}),
    Case("no proxy of schedulers", "scheduler path", "fail", "proxy_url", 75, "gateway",
         {"proxy_url": "gateway://{dead}"}),
    Case("web server as proxy", "scheduler path", "fail", "passes through", 75, "gateway",
         {"proxy_url": "gateway://{web}"}),
    Case("ingress that ends TLS", "scheduler path", "fail", "passthrough", 75, "gateway",
         {"proxy_url": "gateway://{tls}"}),
    Case("no network", "network", "fail", "NetworkAccess", 75, claim={"gateway_url": FOREIGN},
         before=("unshare", "--net", "--")),
    Case("uid without a name", "user", "warn", "USER", before=("sh", "-c", NOBODY, "sh")),
    Case("TMPDIR", "temporary files", "warn", "TMPDIR", env={"TMPDIR": "/proc"}),
    Case("extra missing", "provider", "fail", "dask-claim[hpc]", 78, claim={"provider": "slurm"},
         hidden="dask_jobqueue"),
    Case("no gateway of the run", "provider", "warn", "dask-claim[local-gateway]",
         claim={"env": {"gateway_url": "DASK_GATEWAY_URL"}}, hidden="dask_gateway_server"),
    Case("login node", "provider", "warn", "docs/batch.md", env={"SLURM_JOB_ID": "7"},
         claim={"max_workers": 1}, start=("--start",)),
    Case("no batch system", "provider", "fail", "node from which jobs are submitted", 78,
         claim={"provider": "oar"}),
    Case("dead scheduler", "scheduler", "fail", "correct the variable", 75,
         env={"DASK_SCHEDULER_ADDRESS": "tcp://{dead}"}, before=("env",)),
    Case("scheduler of an unknown kind", "scheduler", "fail", "correct the variable", 78,
         env={"DASK_SCHEDULER_ADDRESS": "nothing://127.0.0.1:1"}, before=("env",)),
    Case("runner's cluster is gone", "scheduler", "fail", "correct the variable", 75, "gateway",
         env={"DASK_CLUSTER": "0123456789abcdef"}),
    Case("no scheduler to attach to", "provider", "fail", "--provider", 78,
         claim={"provider": "attach"}),
    Case("shell as first process", "first process", "warn", "exec dask-claim",
         before=("unshare", "--pid", "--fork", "--mount-proc", "--kill-child",
                 "sh", "-c", '"$@"; exit $?', "sh")),
    Case("cluster does not start", "start", "fail", "operator", 75, "stuck_gateway",
         start=("--start", "--start-timeout", "4")),
    Case("cluster fails at once", "start", "fail", "scheduler_cmd", 75, "failing_gateway",
         start=("--start",)),
    Case("no lease", "lease", "warn", "plugins", 0, "strict_gateway", start=("--start",)),
]  # fmt: skip


def filled(values: Mapping[str, Any], places: Mapping[str, str]) -> dict[str, Any]:
    return {k: v.format(**places) if isinstance(v, str) else v for k, v in values.items()}


# With these a run ends with the same status; in test-deep with whatever else a run meets, too.
RUN_TOO = (
    "policy", "name without address", "no gateway", "foreign CA", "wrong password",
    "no proxy of schedulers", "runner's cluster is gone",
)  # fmt: skip


# A connection on which TLS never comes is dropped with its loop.
@pytest.mark.filterwarnings(
    "ignore:Exception ignored in. <(socket|function _Selector):"
    "pytest.PytestUnraisableExceptionWarning"
)
@pytest.mark.slow
@pytest.mark.parametrize(
    ("case", "place"), [(case, case.gateway) for case in CASES], ids=[case.name for case in CASES]
)
def test_planted_fault(
    case: Case,
    place: str | None,
    places: dict[str, str],
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if case.before not in ((), ("env",)):
        need("root")
    claim = case.claim
    if place is not None:
        places = {**places, "url": request.getfixturevalue(place).url}
        claim = {"gateway_url": "{url}", **claim}
    env = filled({"DASK_CLAIM": "", **case.env}, places)
    env["DASK_CLAIM"] = json.dumps(filled(claim, places))
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == case.hidden else find(name)
    )
    monkeypatch.setattr(tempfile, "tempdir", None)
    status, findings = doctor(*case.start, before=case.before, **env)
    bad = [found for found in findings if found["state"] != "ok"]
    found = [each for each in bad if each["name"] == case.check]
    assert found and found[0]["state"] == case.state, findings
    assert case.hint in found[0]["hint"] + found[0]["message"], found
    assert case.message in found[0]["message"], found
    assert status == case.status
    # One fault is told as one: whatever follows from it is not told beside it.
    failing = {each["name"] for each in bad if each["state"] == "fail"}
    assert failing <= {case.check}
    deep = request.config.getoption("--hypothesis-profile") == "deep"
    met = status and not (case.before or case.start or case.hidden)
    if case.name in RUN_TOO or (deep and met):
        # What is temporary is tried until then; what is wrong ends it.
        with environment(env), pytest.raises(DaskClaimError) as ended:
            run(["true"], start_timeout=1 if status == 75 else 60)
        assert ended.value.exit_status == status
    gc.collect()  # what is left shows here, not in another test


def named(findings: Findings, name: str) -> dict[str, str]:
    [found] = [each for each in findings if each["name"] == name]
    return found


def test_clock_of_the_gateway(gateway: GatewayServer) -> None:
    with Proxy(gateway, ahead=3600) as proxy:
        status, findings = doctor(DASK_CLAIM=json.dumps(proxy.claim()))
    clock = named(findings, "clock")
    assert (status, clock["state"]) == (0, "warn")
    assert "ahead of" in clock["message"] and "NTP" in clock["hint"]


@pytest.mark.parametrize("other", [False, True], ids=["all is well", "other versions"])
def test_started_cluster(gateway: GatewayServer, tmp_path: Path, other: bool) -> None:
    there = {"DASK_CLAIM_GATEWAY_URL": gateway.url}
    # Dask remembers the versions of its process: the others are those of another one.
    more = {"PYTHONPATH": other_version(tmp_path)} if other else {}
    status, findings = doctor("--start", before=["env"] if other else (), **there, **more)
    bad = [(each["name"], each["state"]) for each in findings if each["state"] != "ok"]
    assert (status, bad) == (0, [("versions", "warn")] if other else []), [*findings]
    assert not other or "same versions on both sides" in named(findings, "versions")["hint"]
    order = ["claim", "network", "name resolution", "gateway", "clock", "credentials", "options"]
    order += ["scheduler path", "start", "task", "versions", "lease", "release"]
    assert [each["name"] for each in findings if each["name"] in order] == order


@pytest.mark.slow
def test_adopted_cluster_that_is_pending(stuck_gateway: GatewayServer) -> None:
    """A run waits for it."""
    name = by_hand(stuck_gateway)
    try:
        status, findings = doctor(DASK_CLUSTER=name, DASK_CLAIM_GATEWAY_URL=stuck_gateway.url)
    finally:
        dask_claim("clusters", "stop", name, DASK_CLAIM_GATEWAY_URL=stuck_gateway.url)
    scheduler = named(findings, "scheduler")
    assert (status, scheduler["state"]) == (0, "warn"), findings
    assert "still pending" in scheduler["message"] and "--start-timeout" in scheduler["hint"]


async def test_failure_of_a_start_is_reported_although_a_check_reports_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def findings(start: bool) -> list[Finding]:
        return [found async for found in examine({"provider": "local"}, start=start)]

    before = await findings(start=False)

    async def check(seen: Examined) -> AsyncIterator[Finding]:
        for make in (warn, fail):
            yield make("start", f"{before[-1].message}: that is so", "mend it")

    monkeypatch.setattr("dask_claim.doctor.cluster.check_start", check)
    (told,) = (await findings(start=True))[len(before) :]
    assert (told.state, exit_status([told])) == ("fail", 78)


@pytest.mark.slow
def test_this_machine_as_text() -> None:
    done = subprocess.run(
        [DASK_CLAIM, "doctor", "--start"],
        env=clean_environment(DASK_CLAIM_MAX_WORKERS="1"),
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "ok    task: one task" in done.stdout and "ok    release: " in done.stdout
    assert "name resolution" not in done.stdout


@contextmanager
def starting(
    gateway: GatewayServer, *flags: str, before: Sequence[str] = (), **variables: str
) -> Iterator[subprocess.Popen[str]]:
    """The command, while its cluster starts."""
    with subprocess.Popen(
        [*before, DASK_CLAIM, "doctor", "--start", *flags],
        env=clean_environment(**variables),
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    ) as process:  # fmt: skip
        try:
            wait_for(lambda: gateway.clusters() or process.poll() is not None, "cluster")
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize(
    ("signum", "first"),
    [
        (signal.SIGTERM, True),
        (signal.SIGINT, False),
        pytest.param(signal.SIGHUP, False, marks=pytest.mark.deep),
    ],
)
def test_signal_gives_the_started_cluster_back(
    stuck_gateway: GatewayServer, signum: signal.Signals, first: bool
) -> None:
    """Also where doctor is a container's first process."""
    if first:
        need("root")
    env = {"DASK_CLAIM_GATEWAY_URL": stuck_gateway.url, "DASK_CLAIM_LEASE_TIMEOUT": "0"}
    with starting(stuck_gateway, before=NAMESPACE if first else (), **env) as process:
        [pid] = children(process.pid) if first else [process.pid]
        os.kill(pid, signum)
        out, _ = process.communicate(timeout=120)
    assert process.returncode == 128 + signum, out
    assert signum.name in out and "is gone after" in out
    assert stuck_gateway.clusters() == []


def test_signal_and_a_gateway_that_gives_nothing_back(stuck_gateway: GatewayServer) -> None:
    """What was not confirmed is not told as stopped; its guard goes on."""
    with Proxy(stuck_gateway) as proxy:
        proxy.fault("502", GIVING_BACK)
        claim = json.dumps(proxy.claim(lease_timeout=0))
        flags = ("--stop-timeout", "2", "--json")
        with starting(stuck_gateway, *flags, DASK_CLAIM=claim) as process:
            process.terminate()
            out, _ = process.communicate(timeout=120)
        proxy.heal()
        assert process.returncode == 128 + signal.SIGTERM, out
        assert "is not confirmed gone" in out and "stopped" not in out
        wait_for(lambda: not stuck_gateway.clusters(), "end of the cluster, by the guard")
