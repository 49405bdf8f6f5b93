"""What is logged, for programs: each line is an object of the schema, and documented."""

from __future__ import annotations

import json
import logging
import re
import sys
import threading
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

import dask_claim
from dask_claim import stderr
from dask_claim.launch import event_log
from dask_claim.launch.events import Event
from dask_claim.redact import redact_text
from tests.support import here
from tests.support.gateway import GatewayServer
from tests.support.launcher import Launcher, wait_for

DOCUMENT = Path(__file__).parents[1] / "docs/events.md"
JSON = {"DASK_CLAIM_LOG_FORMAT": "json"}
TRACE = "0af7651916cd43dd8448eb211c80319c"

VALIDATOR = jsonschema.Draft202012Validator(
    event_log.schema(), format_checker=jsonschema.FormatChecker()
)
KINDS = {kind.word: kind for kind in event_log.kinds()}


def events_of(log: str) -> list[dict[str, Any]]:
    """The lines of a log, each of which has to be as documented."""
    lines = [json.loads(line) for line in log.splitlines()]
    for line in lines:
        VALIDATOR.validate(line)
        own = event_log.own_types(KINDS[line["event"]])
        assert set(line) <= {*event_log.Line.model_fields, *own}
    return lines


def validate(event: Event) -> None:
    """The line of an event has its schema."""
    common = {"version": 1, "at": "2026-11-30T22:00:00Z", "run": "x", "level": event.level}
    own = {"event": event.word, "message": str(event), **event_log.own_fields(event)}
    VALIDATOR.validate(json.loads(json.dumps({**common, **own})))


def test_the_document_has_every_event() -> None:
    rows = re.findall(r"^\| (`\w+`) \| (.*) \| (.*) \|$", DOCUMENT.read_text(), re.MULTILINE)
    expected = [
        (f"`{word}`", event_log.summary(kind), ", ".join(f"`{n}`" for n in own))
        for word, kind in KINDS.items()
        for own in [event_log.own_types(kind)]
    ]
    assert rows == expected
    described = set(re.findall(r"^\| `(\w+)` \| [^|]* \|$", DOCUMENT.read_text(), re.MULTILINE))
    assert described == {*event_log.Line.model_fields}


def test_a_run(attached: Launcher) -> None:
    """Beside the command's own lines, which stay as they are; masked is what the text masks."""
    secrets = ("--token", "hunter2", "--password=hunter2", "https://me:hunter2@example.org/")
    command = ("sh", "-c", "echo mine >&2; exit 3", *secrets)
    env = JSON | {"DASK_GATEWAY__AUTH__PASSWORD": "correct-horse"}
    run = attached(*command, env=env, flags=("--start", "workers"))
    assert run.status == 3 and "example.org" in run.err and "hunter2" not in run.err
    lines = run.err.splitlines()
    lines.remove("mine")
    events = events_of("\n".join(lines))
    words = [event["event"] for event in events]
    in_order = ["claimed", "submitted", "running", "command_started", "command_ended"]
    in_order += ["released", "summary"]
    assert [word for word in words if word in in_order] == in_order
    assert {event["run"] for event in events} == {run.receipt["run"]}
    assert "No worker is waited for: the claim says no minimum" in run.err
    summary = events[-1]
    assert (summary["exit_status"], summary["level"]) == (3, "INFO")
    assert re.fullmatch(r"Ended after \d+\.\d s: .*status 3.*", summary["message"])
    # The receipt has the same.
    receipt = run.receipt
    stages = {"command_started": "command_start", "command_ended": "command_end"}
    for event in events:
        if event["event"] in in_order[:5]:
            stage = stages.get(event["event"], event["event"])
            assert event["at"] == receipt["timeline"][stage]
    for field in ("reason", "efficiency", "memory_peak"):
        assert summary[field] == receipt[field]
    assert summary["seconds"] == receipt["duration"]


@pytest.mark.slow
def test_a_program_has_the_same(attached_here: None, caplog: pytest.LogCaptureFixture) -> None:
    """In the records of its own logging."""
    with caplog.at_level(logging.DEBUG, "dask_claim"):
        receipt = dask_claim.run(["sh", "-c", "exit 3"]).receipt
    records = [record for record in caplog.records if record.name == "dask_claim"]
    assert {record.run for record in records} == {receipt["run"]}
    (ended,) = (record for record in records if record.event == "command_ended")
    assert (ended.levelname, ended.fields["status"]) == ("INFO", 3)
    assert records[-1].event == "summary" and records[-1].getMessage().startswith("Ended after")


def test_details_on_a_gateway(launcher: Launcher, gateway: GatewayServer) -> None:
    """Why it was chosen, each ticket and each request; at last what the guard does."""
    password = "correct-horse-battery"
    env = JSON | {
        "DASK_CLAIM_GATEWAY_URL": gateway.url, "DASK_CLAIM_VERBOSE": "true",
        "DASK_GATEWAY__AUTH__TYPE": "basic", "DASK_GATEWAY__AUTH__KWARGS__PASSWORD": password,
        "TRACEPARENT": f"00-{TRACE}-b7ad6b7169203331-01",
    }  # fmt: skip
    run = launcher.start("sleep", "60", env=env)
    run.until("command_started")
    run.process.kill()
    run.process.wait()
    wait_for(lambda: "is gone" in run.err, "end of the cluster")
    events = events_of(run.err)
    assert password not in run.err
    assert {"submitted", "leased", "scaled"} <= {event["event"] for event in events}
    details = [event["message"] for event in events if event["event"] == "log"]
    assert any(re.fullmatch(f"POST {gateway.url}/api/v1/clusters/: 201", text) for text in details)
    assert "gateway_url is set" in "\n".join(details)
    tickets = [event["tickets"] for event in events if event["event"] == "tickets"]
    assert tickets[0][0]["provider"] == "gateway"
    *_, vanished, gone = events
    assert "the launcher has vanished" in vanished["message"]
    # Its guard writes as the launcher.
    assert vanished["run"] == gone["run"] == run.receipt()["run"]
    assert {event["trace_id"] for event in events} == {TRACE}


@pytest.mark.parametrize(
    ("words", "variables", "reason", "status"),
    [
        (["--log-format", "json", "--nonsense", "--", "true"], {}, "usage", 64),
        (["--nonsense", "--log-format=json"], {}, "usage", 64),
        ([], JSON, "usage", 64),
        (["show"], JSON | {"DASK_CLAIM": '{"worker_core": 1}'}, "claim_invalid", 78),
        (["--", "true"], JSON | {"DASK_CLAIM_GRACE": "x"}, "configuration_invalid", 78),
    ],
)
def test_errors(words: list[str], variables: dict[str, str], reason: str, status: int) -> None:
    answer = here.dask_claim(*words, **variables)
    assert answer.status == status
    *_, error = events_of(answer.err)
    assert (error["event"], error["reason"], error["exit_status"]) == ("error", reason, status)


def test_error_of_a_run(attached: Launcher) -> None:
    """In a process of its own: a launcher's leaves signals ignored when its work is done."""
    run = attached("no-such-command", env=JSON)
    *_, error = events_of(run.err)
    assert (run.status, error["event"]) == (127, "error")
    assert (error["reason"], error["exit_status"]) == ("command_not_found", 127)
    # The command has options of its own.
    text = attached(
        "sh", "-c", "exit 5", "--log-format=json",
        flags=("--log-format", "json", "--log-format", "text", "--receipt", "/nowhere/receipt"),
    )  # fmt: skip
    assert text.status == 5 and " | dask-claim - " in text.err
    # Nor does a receipt that cannot be written change anything.
    assert "/nowhere/receipt" in text.err


def test_what_others_write_in_this_process(capfd: pytest.CaptureFixture[str]) -> None:
    """A library's warning or a thread's traceback; the line feed makes a line."""
    with stderr.written_by(stderr.State(as_json=True, run="abc")):
        print("password=hunter2", file=sys.stderr)
        thread = threading.Thread(target=lambda: print("one", 2, file=sys.stderr))
        thread.start()
        thread.join()
    print("as ever", file=sys.stderr)
    *lines, last = capfd.readouterr().err.splitlines()
    events = events_of("\n".join(lines))
    assert [(event["run"], event["message"]) for event in events] == [
        ("abc", "password=***"), ("abc", "one 2"),
    ]  # fmt: skip
    assert last == "as ever"


@given(st.text(), st.recursive(st.none() | st.floats() | st.text(), st.lists, max_leaves=3))
def test_whatever_it_says_an_event_is_one_line(text: str, value: object) -> None:
    """Scheduler and tasks choose texts and figures."""
    written = stderr.json_line("note", "INFO", text, value=value)
    assert written.count("\n") == 1 and written.isascii() and written.endswith("\n")
    line = json.loads(written, parse_constant=pytest.fail)
    assert line["message"] == redact_text(text)


def test_the_schema_is_printed() -> None:
    assert json.loads(here.dask_claim("schema", "--events").out) == event_log.schema()
    for broken in ({}, {"event": "none"}, {"event": "log", "version": 2}):
        assert not VALIDATOR.is_valid(broken)
