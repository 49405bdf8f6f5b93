"""The trace around a run: into log and receipt, on to the command, and as spans to a collector."""

from __future__ import annotations

import os
import re
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st
from loguru import logger
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from dask_claim.launch import events
from dask_claim.launch.reports import Summary
from dask_claim.launch.tracing import Spans, Trace, exports
from tests.support.launcher import Launcher
from tests.support.serving import http, in_thread
from tests.test_events import TRACE, events_of

KEY = "a-key-of-mine"
PARENT = "b7ad6b7169203331"
GIVEN = f"00-{TRACE}-{PARENT}-01"
PRINTS = ("sh", "-c", 'echo "$TRACEPARENT $TRACESTATE"; exit 3')


@pytest.mark.parametrize(
    "given",
    ["x", f"00-{TRACE}-{PARENT}", f"{GIVEN}-more", GIVEN.upper(), f"ff-{TRACE}-{PARENT}-01",
     f"00-{'0' * 32}-{PARENT}-01", f"00-{TRACE}-{'0' * 16}-01"],
)  # fmt: skip
def test_what_is_no_trace(given: str) -> None:
    trace = Trace.of({"TRACEPARENT": given})
    assert (trace.received, trace.variables(), trace.invalid) == (None, {}, given)


@given(st.from_regex(r"[0-9a-f]{32}", fullmatch=True), st.from_regex("[0-9a-f]{2}", fullmatch=True))
def test_a_trace_is_handed_on_with_another_span(trace_id: str, flags: str) -> None:
    received = f"00-{trace_id}-{PARENT}-{flags}"
    trace = Trace.of({"TRACEPARENT": received})
    if int(trace_id, 16):
        assert trace.received == received
        (version, handed_on, span, same) = trace.variables()["TRACEPARENT"].split("-")
        assert (version, handed_on, same) == ("00", trace_id, flags) and span != PARENT
    # What a later version may add.
    later = Trace.of({"TRACEPARENT": f"cc-{TRACE}-{PARENT}-{flags}-what.more"})
    assert later.trace_id == TRACE and not later.invalid


def test_when_spans_are_sent() -> None:
    assert exports({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c"})
    assert exports({"OTEL_TRACES_EXPORTER": "otlp"})
    for variables in (
        {}, {"OTEL_TRACES_EXPORTER": "console"},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c", "OTEL_TRACES_EXPORTER": "none"},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c", "OTEL_SDK_DISABLED": "true"},
    ):  # fmt: skip
        assert not exports(variables)


@contextmanager
def collector() -> Iterator[tuple[str, list[ExportTraceServiceRequest]]]:
    """A collector's address, and what it is sent."""
    requests = []

    async def take(request: web.Request) -> web.Response:
        if (request.path, request.headers["x-key"]) != ("/v1/traces", KEY):
            return web.Response(status=401)
        requests.append(ExportTraceServiceRequest.FromString(await request.read()))
        return web.Response()

    with in_thread(http(take)) as address:
        yield address, requests


@pytest.mark.slow
def test_spans_reach_the_collector(attached: Launcher) -> None:
    with collector() as (address, requests):
        env = {
            "TRACEPARENT": GIVEN, "TRACESTATE": "mine=1", "DASK_CLAIM_LOG_FORMAT": "json",
            "OTEL_EXPORTER_OTLP_ENDPOINT": address,
            "OTEL_EXPORTER_OTLP_HEADERS": f"x-key={KEY}",
        }  # fmt: skip
        run = attached(*PRINTS, env=env)
    assert run.status == 3
    handed_on, state = run.out.decode().split()
    assert state == "mine=1" and re.fullmatch(f"00-{TRACE}-[0-9a-f]{{16}}-01", handed_on)
    assert run.receipt["traceparent"] == GIVEN
    assert {event["trace_id"] for event in events_of(run.err)} == {TRACE}
    assert KEY not in run.err
    (request,) = requests
    (of_resource,) = request.resource_spans
    attributes = {each.key: each.value for each in of_resource.resource.attributes}
    assert attributes["service.name"].string_value == "dask-claim"
    spans = {span.name: span for group in of_resource.scope_spans for span in group.spans}
    assert list(spans) == ["claim", "command", "release"]
    for span in spans.values():
        assert (span.trace_id.hex(), span.parent_span_id.hex()) == (TRACE, PARENT)
        assert 0 < span.start_time_unix_nano <= span.end_time_unix_nano
    command = spans["command"]
    assert command.span_id.hex() in handed_on
    attributes = {each.key: each.value for each in command.attributes}
    assert attributes["dask_claim.exit_status"].int_value == 3
    assert attributes["dask_claim.run"].string_value == run.receipt["run"]
    ok, error = 0, 2
    assert (spans["claim"].status.code, command.status.code) == (ok, error)


@pytest.mark.parametrize(
    ("flags", "key", "sent"), [("00", KEY, 0), ("01", KEY, 1), ("01", "another", 0)]
)
def test_what_is_not_recorded_or_not_taken(
    monkeypatch: pytest.MonkeyPatch, flags: str, key: str, sent: int
) -> None:
    """Where the trace began it was decided whether it is recorded."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", f"x-key={key}")
    warnings: list[str] = []
    handler = logger.add(warnings.append, level="WARNING")
    with collector() as (address, requests):
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", address)
        spans = Spans(Trace(parent=PARENT, flags=flags), "run", os.environ)
        spans(events.Claimed("", "local", False))
        spans(Summary(75, "start_timeout", 1.0))
    logger.remove(handler)
    assert len(requests) == sent
    refused = "are not sent: the collector did not take them"
    assert [refused in each for each in warnings] == [True] * (key != KEY)
    if sent:
        (span,) = requests[0].resource_spans[0].scope_spans[0].spans
        assert (span.name, span.status.code) == ("claim", 2)


def test_a_library_that_ends_python(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the place of the exporter's, on the way to it: no run ends otherwise for that."""
    monkeypatch.setattr("dask_claim.launch.tracing.send", lambda *_: sys.exit(3))
    spans = Spans(Trace(parent=PARENT, flags="01"), "run", os.environ)
    spans(Summary(0, None, 1.0))


@pytest.mark.slow
def test_a_collector_that_is_silent(attached: Launcher) -> None:
    """One warning, and no delay without end; a broken trace is the command's as it is."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}"
        env = {"TRACEPARENT": "mine", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": address}
        run = attached(*PRINTS, env=env, timeout=40)
    assert (run.status, run.out) == (3, b"mine \n")
    assert len(re.findall("The spans of this run are not sent: ", run.err)) == 1, run.err
    (warning,) = run.receipt["warnings"]
    assert warning.startswith("TRACEPARENT = 'mine' is not a trace context")
