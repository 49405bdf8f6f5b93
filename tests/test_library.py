"""The library (contract §7): cheap to import, `connect()` and `run()` as a program uses them."""

from __future__ import annotations

import asyncio
import base64
import copy
import errno
import json
import logging
import os
import pickle
import resource
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dask.config
import pytest
from markupsafe import escape

import dask_claim
from dask_claim.launch import launcher_process
from dask_claim.launch.caller import Caller
from dask_claim.providers.dask_report import IN_HASTE
from tests.support import here
from tests.support.gateway import GatewayServer
from tests.support.launcher import PYTHON, Launcher, wait_for
from tests.support.scenes import children, command_line

# As a user writes it: no `if __name__ == "__main__"`, no arguments.
PROGRAM = """
import dask_claim
with dask_claim.connect() as client:
    print(client.submit(sum, [20, 22]).result(), flush=True)
    {more}
print("after", flush=True)
"""


def test_import_costs_and_does_nothing() -> None:
    code = (
        "import sys, signal, threading; before = set(sys.modules)\n"
        "import dask_claim; dir(dask_claim)\n"
        "new = {name.partition('.')[0] for name in set(sys.modules) - before}\n"
        "print(sorted(new & {'dask', 'distributed', 'dask_gateway', 'pydantic', 'loguru',"
        " 'pydantic_settings', 'asyncio', 'click', 'yaml', 'logging'}), threading.active_count())"
    )
    out = subprocess.check_output([PYTHON, "-c", code], text=True)
    assert out == "[] 1\n"


def test_every_public_name_is_there() -> None:
    for name in dask_claim.__all__:
        assert getattr(dask_claim, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = dask_claim.nonsense


def test_connect_under_the_launcher(attached: Launcher, tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(PROGRAM.format(more="pass"))
    run = attached(PYTHON, str(tmp_path / "program.py"))
    assert (run.status, run.out) == (0, b"42\nafter\n"), run.err
    assert run.err.count("Using the running scheduler") == 1


def test_connect_gives_back_when_the_block_raises(
    launcher: Launcher, gateway: GatewayServer, tmp_path: Path
) -> None:
    code = PROGRAM.format(more="raise KeyError('mine')")
    env = {"DASK_CLAIM_RECEIPT": str(tmp_path / "receipt")}
    run = launcher.program(code, claim={"GatewayUrl": gateway.url}, env=env).finish()
    assert (run.status, run.out) == (1, b"42\n"), run.err
    assert "KeyError: 'mine'" in run.err and "stopped after" in run.err
    receipt = json.loads((tmp_path / "receipt").read_text())
    assert (receipt["exit_status"], receipt["reason"]) == (1, "command_failed")
    assert gateway.clusters() == []


def test_connect_to_a_scheduler_that_is_named_after_dask_was_imported(
    scheduler: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Dask reads the variable at its import; `connect` must not end up on a cluster of its own."""
    import distributed  # noqa: F401

    [(name, address)] = scheduler.items()
    monkeypatch.setenv(name, address)
    with dask_claim.connect() as client:
        assert client.scheduler.address == address


def of_this_process() -> dict[str, Any]:
    """What a guest may not change."""
    numbers = os.listdir("/proc/self/fd")
    signums = signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}
    return {
        "descriptors": {number for number in numbers if os.path.exists(f"/proc/self/fd/{number}")},
        "threads": {thread for thread in threading.enumerate() if "claim" in thread.name},
        "children": set(children(os.getpid())),
        "handlers": {signum: signal.getsignal(signum) for signum in signums},
        "blocked": signal.pthread_sigmask(signal.SIG_BLOCK, ()),
        "variables": dict(os.environ),
        "configuration": copy.deepcopy(dask.config.config),
        "folder": os.getcwd(),
    }


def leaves_all_as_it_was(guest: Callable[[], object]) -> None:
    guest()  # what is imported and made once
    before = of_this_process()
    guest()

    def changed() -> dict[str, object]:
        now = of_this_process()
        # What other tests have left may end meanwhile.
        for name in ("descriptors", "threads", "children"):
            now[name] |= before[name]
        return {name: (now[name], before[name]) for name in now if now[name] != before[name]}

    wait_for(lambda: not changed(), "the state before", 5, lambda: str(changed()))


def test_run_leaves_this_process_as_it_was(
    attached_here: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Good, failed and impossible starts leave no descriptor, thread, child or handler."""

    def starts() -> None:
        dask_claim.run(["true"])
        for command, name, value, status in (
            ("no-such-command", "DASK_CLAIM", "{}", 127),
            ("true", "DASK_CLAIM", '{"min_cores": "many"}', 78),
            ("true", "DASK_SCHEDULER_ADDRESS", "tcp://127.0.0.1:1", 75),
        ):
            with (
                monkeypatch.context() as changed,
                pytest.raises(dask_claim.DaskClaimError) as error,
            ):
                changed.setenv(name, value)
                dask_claim.run([command], start_timeout=0.5 if status == 75 else None)
            assert error.value.exit_status == status
            assert status != 75 or value in str(error.value)

    leaves_all_as_it_was(starts)


def test_connect_leaves_this_process_as_it_was(attached_here: None) -> None:
    def blocks() -> None:
        with dask_claim.connect(dask_claim.Claim(provider="attach")) as client:
            client.submit(sum, [20, 22]).result()
        with pytest.raises(dask_claim.ConfigurationError):
            dask_claim.connect({"provider": "gateway"}).__enter__()

    leaves_all_as_it_was(blocks)


def test_launcher_that_is_killed(attached_here: None) -> None:
    with pytest.raises(dask_claim.DaskClaimError, match="ended without an answer"):
        dask_claim.run(["sh", "-c", "kill -KILL $PPID; sleep 60"])


@pytest.mark.parametrize(
    "written", [b'{"log": ["INFO", "half', b'{"log": ["INFO", "whole", {}]}\n']
)
def test_launcher_that_is_killed_while_it_writes(
    monkeypatch: pytest.MonkeyPatch, written: bytes
) -> None:
    """Whatever becomes of the log, also in a handler of the program's, nothing waits for ever."""
    writes = "import os, sys; number = int(sys.argv[sys.argv.index('--caller') + 1]); "
    writes += f"os.read(number, 4096); os.write(number, {written!r}); os._exit(9)"
    monkeypatch.setattr(launcher_process, "_MAIN", writes)
    logger, handler = logging.getLogger("dask_claim"), logging.Handler()
    monkeypatch.setattr(handler, "emit", lambda record: sys.exit(3))
    monkeypatch.setattr(logger, "handlers", [handler])
    monkeypatch.setattr(logger, "level", logging.INFO)
    with pytest.raises(dask_claim.DaskClaimError, match="ended without an answer"):
        dask_claim.run(["true"])


def test_limits_of_files_and_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the program, and of the launcher outside its run."""
    run = dask_claim.run  # imported now
    fails = pytest.raises(dask_claim.TemporaryError, match="no more files")
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    before = of_this_process()["descriptors"]
    free = [number for number in range(3, 1000) if str(number) not in before]
    for limit in (free[0], free[2]):  # for none, and for two more
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limits[1]))
        try:
            with fails:
                run(["true"])
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        assert of_this_process()["descriptors"] == before

    program, theirs = socket.socketpair()
    program.sendall(b"{}\n")
    caller = Caller(theirs.detach())

    def work() -> int:
        raise OSError(errno.EMFILE, "Too many open files")

    assert caller.answer(work) == 75
    with fails:
        raise pickle.loads(base64.b64decode(json.loads(program.recv(4096))["error"]))
    program.close()
    caller._socket.close()

    def start(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", start)
    with pytest.raises(dask_claim.TemporaryError, match="no more processes or threads"):
        run(["true"])


async def test_program_that_is_killed_with_a_line_unread() -> None:
    """Its socket is reset, not closed."""
    program, theirs = socket.socketpair()
    program.sendall(json.dumps({"pid": os.getppid()}).encode() + b"\n")
    caller, came = Caller(theirs.detach()), []
    caller.watch(came.append)
    caller.log("INFO", "unread", {})
    program.close()
    await asyncio.sleep(0.1)
    caller._socket.close()
    assert came == [None]


def test_caller_that_ignores_its_children(attached: Launcher) -> None:
    """The kernel keeps no status of theirs, and none is needed."""
    code = """
import dask_claim, signal
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
with dask_claim.connect() as client:
    print(client.submit(sum, [20, 22]).result(), flush=True)
print(dask_claim.run(["sh", "-c", "exit 3"]).exit_status)
"""
    assert attached.program(code).finish().out == b"42\n3\n"


AT_ONCE = """
import dask_claim, logging, sys, threading
logging.getLogger("dask_claim").setLevel(logging.ERROR)
results = []
def block():
    with dask_claim.connect() as client:
        results.append(client.submit(sum, [1, 2]).result())
def command():
    results.append(dask_claim.run(["sh", "-c", "exit 3"]).exit_status)
threads = [threading.Thread(target=each) for each in (block, command, block, command)]
for step in threading.Thread.start, threading.Thread.join:
    for thread in threads:
        step(thread)
print(results)
"""


def test_four_at_once(attached: Launcher) -> None:
    """In threads; of what the launcher says only what the program's logging wants is seen."""
    run = attached.program(AT_ONCE).finish()
    assert (run.status, run.out, run.err) == (0, b"[3, 3, 3, 3]\n", "")


FORKS = """
import dask_claim, multiprocessing, time
fork = multiprocessing.get_context("fork").Process
forked = [fork(target=time.sleep, args=(300,)) for _ in range(2)]
with dask_claim.connect():
    forked[0].start()
print("after", forked[0].is_alive(), flush=True)
input()
with dask_claim.connect():
    forked[1].start()
    print("ready", flush=True)
    input()
"""


def test_forked_process_that_outlives_the_block(launcher: Launcher, gateway: GatewayServer) -> None:
    """It holds a copy of all that the program has open, also when the program is killed."""
    claim = {"gateway_url": gateway.url, "max_workers": 1}
    program = launcher.program(FORKS, claim=claim, stdin=subprocess.PIPE)
    assert program.process.stdout.readline() == b"after True\n", program.err
    assert gateway.clusters() == []
    program.process.stdin.write(b"\n")
    program.process.stdin.flush()
    assert program.process.stdout.readline() == b"ready\n", program.err
    own = command_line(program.process.pid)
    forked = [pid for pid in children(program.process.pid) if command_line(pid) == own]
    assert len(forked) == 2
    program.process.kill()
    wait_for(lambda: not gateway.clusters(), "end of the cluster", 40, lambda: program.err)
    for pid in forked:
        os.kill(pid, signal.SIGKILL)


OWN_HANDLERS = """
import asyncio, dask_claim, os, signal
came = []
for signum in signal.SIGTERM, signal.SIGINT:
    signal.signal(signum, lambda signum, frame: came.append(signum))
async def cell():
    with dask_claim.connect() as client:
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGINT)
        print(client.submit(sum, [20, 22]).result(), came, flush=True)
    tell = f"kill -TERM {os.getpid()}; sleep 0.5; exit 3"
    print(dask_claim.run(["sh", "-c", tell]).exit_status, came)
asyncio.run(cell())
"""


def test_own_handlers_in_a_running_loop(attached: Launcher) -> None:
    """Signals are the program's own business as long as its handlers return."""
    run = attached.program(OWN_HANDLERS.replace("connect()", "connect(dask_claim.Claim())"))
    assert run.finish().out == b"42 [15, 2]\n3 [15, 2, 15]\n", run.err


OPENS_IN_A_LOOP = """
import asyncio, dask_claim
async def cell():
    with dask_claim.connect():
        print("never")
asyncio.run(cell())
"""


def test_control_c_while_a_block_opens_in_a_loop(
    launcher: Launcher, stuck_gateway: GatewayServer
) -> None:
    program = launcher.program(OPENS_IN_A_LOOP, claim={"gateway_url": stuck_gateway.url})
    program.until("is requested")
    program.process.send_signal(signal.SIGINT)
    ended = program.finish()
    assert (ended.status, ended.out) == (-signal.SIGINT, b"")
    assert "KeyboardInterrupt" in ended.err and "Assertion" not in ended.err


BLOCKS = """
import dask_claim, os, signal, sys
for end in ("sys.exit()", "sys.exit(9)", "raise KeyboardInterrupt",
            "os.kill(os.getpid(), signal.SIGKILL)"):
    os.environ["DASK_CLAIM_RECEIPT"] = os.path.join(sys.argv[1], end)
    try:
        with dask_claim.connect(dask_claim.Claim()):
            exec(end)
    except BaseException:
        pass
"""


def test_receipt_tells_how_a_block_ended(attached: Launcher, tmp_path: Path) -> None:
    program = attached.program(BLOCKS, str(tmp_path))
    assert program.finish().status == -signal.SIGKILL

    expected = {
        "sys.exit()": (0, None),
        "sys.exit(9)": (9, "command_failed"),
        "raise KeyboardInterrupt": (130, "interrupted"),
        "os.kill(os.getpid(), signal.SIGKILL)": (1, "command_killed"),
    }

    def read(name: str) -> Any:
        return json.loads((tmp_path / name).read_text())

    wait_for(lambda: read(list(expected)[-1])["state"] == "ended", "end of the last")
    receipts = {name: read(name) for name in expected}
    assert expected == {
        name: (each["exit_status"], each["reason"]) for name, each in receipts.items()
    }


def test_receipt_of_a_block_whose_claim_is_wrong(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("DASK_CLAIM_RECEIPT", str(tmp_path / "receipt"))
    monkeypatch.setenv("DASK_CLAIM", '{"max_workers": "many"}')
    monkeypatch.delenv("DASK_SCHEDULER_ADDRESS", raising=False)
    with pytest.raises(dask_claim.ClaimError), dask_claim.connect():
        pass
    for guest in (
        lambda: dask_claim.run(["true"], {"x": 1}),
        dask_claim.connect({"x": 1}).__enter__,
    ):
        with pytest.raises(dask_claim.ClaimError, match="not a field of the claim"):
            guest()
    receipt = json.loads((tmp_path / "receipt").read_text())
    assert (receipt["exit_status"], receipt["reason"]) == (78, "claim_invalid")


def test_lifetime_ends_the_cluster_of_a_block(launcher: Launcher, tmp_path: Path) -> None:
    """Not the program, whose tasks fail."""
    code = """
import dask_claim, time
with dask_claim.connect() as client:
    print("begun", flush=True)
    try:
        client.submit(time.sleep, 90).result()
    except BaseException as error:
        print(type(error).__name__)
"""
    for lifetime in (10, 60):  # on a loaded machine the start alone may take longer
        claim = {"max_lifetime": lifetime, "max_workers": 1}
        env = {f"DASK_CLAIM_{name.upper()}": str(tmp_path / name) for name in ("receipt", "report")}
        ended = launcher.program(code, claim=claim, env=env).finish()
        if b"begun" in ended.out:
            break
    assert (ended.status, b"Cancelled" in ended.out) == (0, True), ended.err
    assert f"max_lifetime of {lifetime} s is reached; ending the block" in ended.err
    receipt = json.loads((tmp_path / "receipt").read_text())
    assert (receipt["exit_status"], receipt["reason"]) == (124, "lifetime")
    assert "ending the block" in receipt["error"]
    assert escape(IN_HASTE.missing) in (tmp_path / "report").read_text()


def test_claim_of_an_environment_keeps_its_sources(
    attached_here: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DASK_CLAIM", '{"worker_cores": 1, "options": {"tag": 1.10}}')
    monkeypatch.setenv("DASK_CLAIM_WORKER_MEMORY", "4 G")
    monkeypatch.setenv("DASK_CLAIM_GATEWAY_URL", "http://operator")
    monkeypatch.setenv("DASK_CLAIM_PROVIDER", "attach")
    claim = dask_claim.Claim.from_env()
    # What the program sets is the developer's layer, which the operator overrules.
    claim = claim.model_copy(update={"max_workers": 3, "gateway_url": "http://developer"})
    receipt = dask_claim.run(["true"], claim).receipt
    names = ("worker_cores", "options.tag", "worker_memory", "max_workers", "gateway_url")
    assert [receipt["sources"][name] for name in names] == [
        "DASK_CLAIM", "DASK_CLAIM", "DASK_CLAIM_WORKER_MEMORY", "claim", "DASK_CLAIM_GATEWAY_URL",
    ]  # fmt: skip
    assert receipt["claim"]["options"] == {"tag": "1.10"}
    assert receipt["claim"]["gateway_url"] == "http://operator"


def test_show_agrees_with_the_library() -> None:
    claim = {"worker_cores": 0.5, "max_cores": 10, "min_cores": 4, "worker_cores_limit": 1}
    environ = {"DASK_CLAIM": json.dumps(claim), "DASK_CLAIM_WORKER_MEMORY": "4 G"}
    shown = json.loads(here.dask_claim("show", "--json", **environ).out)
    plan = dask_claim.Claim.from_env(environ).plan(environ)
    assert shown["plan"] == plan.to_dict()
    assert (plan.min_workers, plan.max_workers, plan.scaling) == (8, 10, "adapt")
