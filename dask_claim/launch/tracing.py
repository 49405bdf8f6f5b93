"""The trace that a run belongs to (W3C's Trace Context), and the spans of the run.

Spans are made of the events, and sent at the run's end by OpenTelemetry, to the collector that the
environment names. The library is the extra `otel`.
"""

from __future__ import annotations

import logging
import re
import secrets
from collections.abc import Mapping, Sequence
from concurrent.futures import TimeoutError as TimeoutExpired
from dataclasses import dataclass, field
from typing import Any

from loguru import logger

from dask_claim.launch import events
from dask_claim.launch.reports import Summary
from dask_claim.redact import register_secret
from dask_claim.threads import DaemonThreads

TRACEPARENT = "TRACEPARENT"

_FORM = re.compile(
    r"(?!ff)([0-9a-f]{2})-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})(-.*)?"
)

COLLECTOR = "OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"
HEADERS = "OTEL_EXPORTER_OTLP_HEADERS", "OTEL_EXPORTER_OTLP_TRACES_HEADERS"
EXPORTER = "OTEL_TRACES_EXPORTER"

EXPORT_WITHIN = 3.0
"""Seconds by which a collector may delay the end of a run."""


def new_id(size: int) -> str:
    """Return the id of a trace (16 bytes) or span (8)."""
    return secrets.randbits(8 * size).to_bytes(size, "big").hex()


@dataclass(frozen=True)
class Trace:
    """A trace, and the spans of it that are around the run and around its command."""

    trace_id: str = field(default_factory=lambda: new_id(16))
    parent: str | None = None
    """The span around the run; None: the trace begins with the run."""

    flags: str = "01"
    command: str = field(default_factory=lambda: new_id(8))
    """The command's span."""

    invalid: str | None = None
    """What the environment has in the place of a trace."""

    @classmethod
    def of(cls, environ: Mapping[str, str]) -> Trace:
        """Return the trace that the environment names, else another one."""
        given = environ.get(TRACEPARENT, "").strip()
        form = _FORM.fullmatch(given)
        # What later versions add follows a dash.
        if form is None or (form[1] == "00" and form[5]):
            return cls(invalid=given or None)
        return cls(form[2], form[3], form[4])

    @property
    def received(self) -> str | None:
        """The launcher's `TRACEPARENT`; None where it has none."""
        return self.parent and f"00-{self.trace_id}-{self.parent}-{self.flags}"

    def variables(self) -> dict[str, str]:
        """Return the command's `TRACEPARENT`; nothing where the launcher has none."""
        if self.parent is None:
            return {}
        return {TRACEPARENT: f"00-{self.trace_id}-{self.command}-{self.flags}"}


def exports(environ: Mapping[str, str]) -> bool:
    """Whether this environment wants spans to be sent."""
    if environ.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return False
    exporter = environ.get(EXPORTER, "")
    named = any(environ.get(name) for name in COLLECTOR)
    return "otlp" in exporter.split(",") or (named and not exporter)


@dataclass
class Span:
    """A part of the run; begin and end in seconds since the epoch."""

    name: str
    begin: float
    end: float = 0.0
    failed: bool = False
    attributes: dict[str, Any] = field(default_factory=dict)


class Spans:
    """A listener that makes spans of the events, and sends them with the last one."""

    def __init__(self, trace: Trace, run: str, environ: Mapping[str, str]) -> None:
        self._trace, self._run = trace, run
        self._spans: dict[str, Span] = {}
        for name in HEADERS:
            for pair in environ.get(name, "").split(","):
                register_secret(pair.partition("=")[2].strip())

    def __call__(self, event: events.Event) -> None:
        """Note an event."""
        if isinstance(event, events.Claimed):
            self._begin("claim", event.at, provider=event.provider)
        elif isinstance(event, events.Running):
            self._end("claim", event.at, cluster=event.cluster.cluster_name)
        elif isinstance(event, events.CommandStarted):
            self._begin("command", event.at)
        elif isinstance(event, events.CommandEnded):
            self._end("command", event.at, event.status != 0, exit_status=event.status)
        elif isinstance(event, events.Released):
            self._end("claim", event.at - event.seconds, failed=True)
            gone = event.outcome.value
            self._begin("release", event.at - event.seconds, provider=event.provider)
            cluster = event.cluster.cluster_name
            self._end("release", event.at, gone is False, cluster=cluster, gone=str(gone))
        elif isinstance(event, Summary):
            self._finish(event)

    def _begin(self, name: str, at: float, **attributes: Any) -> None:
        self._spans.setdefault(name, Span(name, at, attributes=attributes))

    def _end(self, name: str, at: float, failed: bool = False, **attributes: Any) -> None:
        if (span := self._spans.get(name)) and not span.end:
            span.end, span.failed = at, failed
            span.attributes |= attributes

    def _finish(self, summary: Summary) -> None:
        if not int(self._trace.flags, 16) & 1:  # where the trace began it is not recorded
            return
        ended = {"exit_status": summary.exit_status, "reason": summary.reason}
        for name in list(self._spans):
            self._end(name, summary.at, failed=True, **ended)
        if self._trace.parent is None:
            begin = summary.at - summary.seconds
            failed = summary.exit_status != 0
            self._spans["run"] = Span("run", begin, summary.at, failed, ended)
        made = [*self._spans.values()]
        try:
            # A thread: a collector that hangs must not hold the run up.
            sending = DaemonThreads().submit(send, made, self._trace, self._run)
            if sending.result(EXPORT_WITHIN):
                return
            problem = "the collector did not take them"
        except ImportError:
            # The variables may be there for others.
            logger.debug("The spans of this run are not sent: that needs dask-claim[otel]")
            return
        except TimeoutExpired:
            problem = "it takes too long"
        except Exception as error:
            problem = f"{type(error).__name__}: {error}"
        logger.warning(f"The spans of this run are not sent: {problem}")


def send(spans: Sequence[Span], trace: Trace, run: str) -> bool:
    """Send spans to the collector that the environment names; return whether it has taken them."""
    # Of what goes wrong there is a line of our own.
    library = logging.getLogger("opentelemetry")
    library.handlers, library.propagate = [logging.NullHandler()], False
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import OTELResourceDetector, Resource
    from opentelemetry.sdk.trace import ReadableSpan
    from opentelemetry.sdk.trace.export import SpanExportResult
    from opentelemetry.trace import SpanContext, Status, StatusCode, TraceFlags

    def context(span_id: str, is_remote: bool = False) -> SpanContext:
        flags = TraceFlags(int(trace.flags, 16))
        return SpanContext(int(trace.trace_id, 16), int(span_id, 16), is_remote, flags)

    ids = {span.name: new_id(8) for span in spans} | {"command": trace.command}
    around = context(trace.parent, is_remote=True) if trace.parent else context(ids["run"])
    resource = Resource({"service.name": "dask-claim"}).merge(OTELResourceDetector().detect())
    made = []
    for span in spans:
        given = {"run": run, **span.attributes}
        own = {f"dask_claim.{name}": value for name, value in given.items() if value is not None}
        made.append(
            ReadableSpan(
                span.name,
                context(ids[span.name]),
                None if span.name == "run" else around,
                resource,
                own,
                status=Status(StatusCode.ERROR if span.failed else StatusCode.UNSET),
                start_time=int(span.begin * 1e9),
                end_time=int(span.end * 1e9),
            )
        )
    result = OTLPSpanExporter(timeout=EXPORT_WITHIN).export(made)
    return bool(result is SpanExportResult.SUCCESS)
