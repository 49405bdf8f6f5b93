"""The gateway provider: options of different sites, and gateways that cannot serve."""

from __future__ import annotations

import signal
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from tests.support.gateway import REFERENCE, GatewayServer
from tests.support.launcher import ONE_TASK, PYTHON, Launcher
from tests.support.scenes import SMALL

SITE = "import os; print(os.environ.get('SITE_MEMORY'), os.environ.get('SITE_QUEUE'))"
ON_A_WORKER = (
    "import os\nfrom distributed import Client\n"
    "with Client() as c: print(*c.submit("
    "lambda: [os.environ['SITE_MEMORY'], os.environ['SITE_QUEUE']]).result())"
)


@pytest.mark.parametrize(
    ("memory", "gib"), [("4 G", "4.0"), ("4Gi", "4.0"), ("4294967296", "4.0"), ("2560M", "2.5")]
)
def test_memory_in_the_form_the_gateway_wants(
    launcher: Launcher, other_gateway: GatewayServer, memory: str, gib: str
) -> None:
    claim = {
        "gateway_url": other_gateway.url, "worker_cores": 2, "worker_cores_limit": 3,
        "worker_memory": memory, "options": {"queue": "long"},
    }  # fmt: skip
    run = launcher(PYTHON, "-c", ON_A_WORKER, claim=claim)
    assert (run.status, run.out.decode().split()) == (0, [gib, "long"]), run.err
    assert run.err.count("does not offer worker_cores_limit") == 1
    assert len(run.receipt["warnings"]) == 1
    # Its handler makes one core of two.
    assert "A worker here really has 1 thread (worker_cores 2)" in run.err
    assert run.receipt["workers"]["threads"] == 1
    assert run.receipt["workers"]["memory"] == int(float(gib) * 2**30)


@pytest.mark.parametrize("memory", ["1GB", "1Gi", "1 GiB", "1073741824"])
def test_memory_the_reference_gateway_would_not_understand(
    launcher: Launcher, gateway: GatewayServer, memory: str
) -> None:
    claim = {"gateway_url": gateway.url, "worker_memory": memory}
    run = launcher(PYTHON, "-c", ONE_TASK, claim=claim)
    assert run.status == 0, run.err


@pytest.mark.parametrize(
    ("field", "value", "limits"),
    [
        ("worker_cores", 9, "2 to 8"),
        ("worker_cores", 2.5, "2 to 8"),
        ("worker_memory", "32 G", "2 to 16 GiB"),
        ("options", {"queue": "endless"}, "one of short, long"),
    ],
)
def test_value_outside_the_offer(
    launcher: Launcher, other_gateway: GatewayServer, field: str, value: object, limits: str
) -> None:
    run = launcher("true", claim={"gateway_url": other_gateway.url, field: value})
    assert run.status == 78
    assert limits in run.err
    assert run.receipt["gone"] is None


def test_fixed_size(launcher: Launcher, gateway: GatewayServer) -> None:
    claim = {
        "gateway_url": gateway.url, "min_workers": 2, "max_workers": 2, "worker_memory": "1G",
    }  # fmt: skip
    run = launcher("true", claim=claim, flags=("--start", "workers"))
    assert run.status == 0, run.err
    assert "Scaling cluster: workers=2" in run.err
    assert run.receipt["workers"]["peak"] == 2


def test_wrong_credentials(launcher: Launcher, closed_gateway: GatewayServer) -> None:
    right = {"DASK_GATEWAY__AUTH__KWARGS__PASSWORD": closed_gateway.password}
    wrong = {"DASK_GATEWAY__AUTH__KWARGS__PASSWORD": "guessed-1234"}
    operator = {"DASK_CLAIM_GATEWAY_URL": closed_gateway.url}
    refused = launcher("true", env=wrong | operator)
    assert refused.status == 78
    assert "refused the credentials" in refused.err
    assert "guessed-1234" not in refused.err
    accepted = launcher(PYTHON, "-c", ONE_TASK, env=right | operator)
    assert (accepted.status, accepted.out) == (0, b"42\n"), accepted.err
    assert closed_gateway.password not in accepted.err
    assert closed_gateway.password not in str(accepted.receipt)


def test_unreachable(launcher: Launcher) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and never listens
        claim = {"gateway_url": f"http://127.0.0.1:{taken.getsockname()[1]}"}
        run = launcher("sh", "-c", "echo ran", claim=claim, flags=("--start-timeout", "9"))
        assert (run.status, run.out) == (75, b"")
        assert "cannot be reached" in run.err
        fallen = launcher(PYTHON, "-c", ONE_TASK, claim={**claim, "fallback": "local"})
    assert (fallen.status, fallen.out) == (0, b"42\n"), fallen.err
    assert "Falling back to a local cluster" in fallen.err
    assert fallen.receipt["provider"] == "local"


@pytest.mark.parametrize(("answer", "status"), [(404, 75), (503, 75), (200, 78)])
def test_something_else_answers(launcher: Launcher, answer: int, status: int) -> None:
    """A proxy on the way, while the gateway restarts, may pass; a login page does not."""
    with http_server(answer) as url:
        flags = ("--start-timeout", "9") if status == 75 else ()
        run = launcher("true", claim={"gateway_url": url}, flags=flags)
    assert run.status == status, run.err
    assert url in run.err


def test_cluster_that_does_not_start_in_time(
    launcher: Launcher, stuck_gateway: GatewayServer
) -> None:
    claim = {"gateway_url": stuck_gateway.url}
    run = launcher("true", claim=claim, flags=("--start-timeout", "15"))
    assert run.status == 75
    assert "--start-timeout" in run.err, stuck_gateway.log.read_text()[-4000:]
    assert run.receipt["gone"] is True
    waiting = launcher(
        "sleep", "60", claim=claim, flags=("--start-timeout", "5", "--start", "eager")
    )
    assert waiting.status == 75, waiting.err
    fallen = launcher(
        PYTHON, "-c", ONE_TASK, claim={**claim, "fallback": "local"},
        flags=("--start-timeout", "30"),
    )  # fmt: skip
    assert (fallen.status, fallen.out) == (0, b"42\n"), fallen.err
    assert fallen.receipt["provider"] == "local"


def test_cluster_that_fails(launcher: Launcher, failing_gateway: GatewayServer) -> None:
    run = launcher("true", claim={"gateway_url": failing_gateway.url})
    assert run.status == 75
    assert run.cluster in run.err.splitlines()[-1]
    assert 'c.ClusterConfig.scheduler_cmd = ["dask", "scheduler"]' in run.err.splitlines()[-1]


def test_user_limit_reached(launcher: Launcher, limited_gateway: GatewayServer) -> None:
    claim = {"gateway_url": limited_gateway.url, "min_workers": 0}
    first = launcher.start("sh", "-c", "echo ready; read line", claim=claim, stdin=subprocess.PIPE)
    assert first.process.stdout.readline() == b"ready\n"
    refused = launcher("true", claim=claim, flags=("--start-timeout", "25"))
    assert refused.status == 75
    assert "limit of 1 clusters" in refused.err.splitlines()[-1], refused.err
    assert refused.receipt["gone"] is None
    patient = launcher.start("sh", "-c", "echo mine", claim=claim)
    patient.until("limit of 1 clusters. Trying again for up to 600 s")
    first.process.communicate(b"\n")
    ended = patient.finish()
    assert (ended.status, ended.out) == (0, b"mine\n"), ended.err


def test_fewer_workers_than_claimed(launcher: Launcher) -> None:
    """What the gateway answers to a resize counts at once, whatever the command waits for."""
    server = GatewayServer(options=REFERENCE + "c.ClusterConfig.cluster_max_workers = 1\n")
    try:
        claim = {"gateway_url": server.url, "min_workers": 2}
        refused = launcher("true", claim=claim, flags=("--start", "workers"))
        assert (refused.status, refused.receipt["gone"]) == (78, True), refused.err
        assert "resource limit of 1 workers" in refused.err.splitlines()[-1]
        for less in ({"strict": False, "min_workers": 2}, {"min_workers": 1, "max_workers": 3}):
            run = launcher(
                "sh", "-c", "exit 3",
                claim={"gateway_url": server.url, **less}, flags=("--start", "workers"),
            )  # fmt: skip
            assert run.status == 3, run.err
            [warning] = run.receipt["warnings"]
            assert "resource limit of 1 workers" in warning
            assert "GatewayWarning" not in run.err
    finally:
        server.stop()


def test_command_that_fails_at_once(launcher: Launcher, gateway: GatewayServer) -> None:
    run = launcher("false", claim={"gateway_url": gateway.url, **SMALL})
    assert run.status == 1
    assert run.receipt["gone"] is True


def test_command_that_is_not_found_costs_no_cluster(
    launcher: Launcher, gateway: GatewayServer
) -> None:
    run = launcher("no-such-command", claim={"gateway_url": gateway.url})
    assert run.status == 127
    assert run.cluster is None


def test_gateway_that_dies_while_the_command_runs(launcher: Launcher) -> None:
    server = GatewayServer()
    try:
        run = launcher.start(
            "sh", "-c", "echo ready; read line; exit 6",
            claim={"gateway_url": server.url, **SMALL}, flags=("--stop-timeout", "2"),
            stdin=subprocess.PIPE,
        )  # fmt: skip
        assert run.process.stdout.readline() == b"ready\n"
        server.kill()
        run.process.stdin.write(b"\n")
        ended = run.finish()
    finally:
        server.stop()
    assert ended.status == 6
    assert "NOT confirmed gone" in ended.err
    assert ended.cluster in ended.err.split("NOT confirmed gone")[0].splitlines()[-1]
    assert ended.receipt["gone"] is False


def test_program_that_shuts_its_cluster_down(launcher: Launcher, gateway: GatewayServer) -> None:
    program = "from distributed import Client; Client().shutdown()"
    run = launcher(PYTHON, "-c", program, claim={"gateway_url": gateway.url, **SMALL})
    assert run.status == 0, run.err
    assert run.receipt["gone"] is True


def test_twenty_at_once(launcher: Launcher, gateway: GatewayServer) -> None:
    claim = {"gateway_url": gateway.url, "worker_memory": "1 G", "min_workers": 0}
    runs = [
        launcher.start("sh", "-c", f"exit {n}", claim=claim, flags=("--stop-timeout", "90"))
        for n in range(20)
    ]
    for n, run in enumerate(runs):
        ended = run.finish(180)
        assert ended.status == n, ended.err
        assert ended.receipt["gone"] is True


def test_terminated_while_the_request_is_on_its_way(
    launcher: Launcher, gateway: GatewayServer
) -> None:
    """SIGTERM at 20 moments around the creation of the cluster: none survives."""
    claim = {"gateway_url": gateway.url, **SMALL}
    for moment in range(20):
        run = launcher.start("true", claim=claim)
        run.until("Claiming")
        threading.Event().wait(moment * 0.03)
        run.process.send_signal(signal.SIGTERM)
        ended = run.finish()
        assert ended.status in (0, 143), ended.err
        assert ended.receipt["gone"] in (None, True)
        assert gateway.clusters() == []


@contextmanager
def http_server(answer: int) -> Iterator[str]:
    """A server that is no Dask Gateway and gives every request the same answer."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = b"<html>Welcome</html>"
            self.send_response(answer)
            self.send_header("Content-Type", "text/html")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
