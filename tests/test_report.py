"""`--report`: a page of what happened, which needs nothing else and trusts nothing in it."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import web
from markupsafe import escape

from dask_claim.providers import dask_report
from dask_claim.providers.dask_report import IN_HASTE, OTHERS, DaskReport
from dask_claim.receipts.report import html
from tests.support.gateway import GatewayServer
from tests.support.launcher import ONE_TASK, PYTHON, Launcher
from tests.support.missing import CHROMIUM, need
from tests.support.serving import http, in_thread
from tests.test_receipts import KILLED, NOTHING, receipt

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

HISTORY = [[second, min(second, 8), second * 2] for second in range(3, 98)]
UNREACHED: dict[str, Any] = dict.fromkeys(receipt()["timeline"])


@contextmanager
def browser() -> Iterator[Browser]:
    """Its loop runs in this thread: nothing else may run one meanwhile."""
    from playwright.sync_api import sync_playwright

    need("Chromium")
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        try:
            yield started
        finally:
            started.close()


@pytest.fixture
def hits() -> Iterator[tuple[str, list[str]]]:
    """An address, and the paths that are requested there."""
    seen: list[str] = []

    async def note(request: web.Request) -> web.Response:
        seen.append(request.path)
        return web.Response(status=204)

    with in_thread(http(note)) as address:
        yield address, seen


def opened(browser: Browser, path: Path, width: int = 1100, scheme: Any = "light") -> Page:
    page = browser.new_page(viewport={"width": width, "height": 800}, color_scheme=scheme)
    page.set_default_timeout(20_000)
    page.goto(path.as_uri())
    return page


def overflow(page: Page) -> int:
    """Pixels by which the page is wider than its window."""
    return int(page.evaluate("document.documentElement.scrollWidth - innerWidth"))


SHOWN = (
    "bai.py", "status 1 · worker_memory", "claim worker_memory: 8 G", "4 lost", "80 %", "2.5 GiB",
    "command start", "There is no Bokeh.",
)  # fmt: skip


@pytest.mark.slow
def test_the_timeline_is_drawn(tmp_path: Path) -> None:
    written = receipt(
        history=HISTORY,
        exit_status=1,
        reason="worker_memory",
        explanation=["4 workers died at their 4.0 GiB", "claim worker_memory: 8 G"],
        workers={"lost": [KILLED]},
        warnings=["a warning " * 30],
    )
    (tmp_path / "r.html").write_text(html(written, None, "There is no Bokeh."))
    with browser() as started:
        for width, scheme in ((1100, "light"), (380, "dark")):
            page = opened(started, tmp_path / "r.html", width, scheme)
            text = page.inner_text("body")
            for word in SHOWN:
                assert word in text
            boxes = [bar.bounding_box() for bar in page.locator("#timeline .bar").all()]
            assert len(boxes) == 4 and all(box and box["width"] >= 2 for box in boxes)
            track = page.locator("#timeline .track").first.bounding_box()
            assert track and boxes[2]
            assert boxes[2]["width"] == pytest.approx(0.96 * track["width"], abs=3)
            for curve in page.locator("#timeline polyline.line").all():
                box = curve.bounding_box()
                assert box and box["height"] > 50 and box["width"] > 0.9 * track["width"]
            assert overflow(page) <= 0


@pytest.mark.parametrize(
    "changed",
    [
        {"timeline": UNREACHED, "exit_status": 78, "reason": "claim_invalid", **NOTHING},
        {"timeline": {**UNREACHED, "claimed": receipt()["timeline"]["claimed"]}, **NOTHING},
        {"state": "running", "exit_status": None, "timeline": {"command_end": None, "gone": None}},
        {"history": [[0, 0, 0]], "command": []},
        {"timeline": {"command_start": receipt()["timeline"]["claimed"]}, "gone": "kept"},
    ],
)
def test_a_run_that_did_not_come_far(changed: dict[str, Any]) -> None:
    page = html(receipt(**changed), None, "There is none.")
    assert "There is none." in page
    assert ('id="timeline"' in page) == (changed.get("timeline") != UNREACHED)


HOSTILE = "</script><script>document.title = 'taken'</script><img src='{0}/img'>\" onload='x'"
HOSTILE_REPORT = """<html><body onload="fetch('{0}/fetch')"><img src="{0}/img">
<link rel="stylesheet" href="{0}/style"><script src="{0}/script"></script>
<iframe src="{0}/frame"></iframe><form action="{0}/form"><input></form>
<p id="here">"shown" &amp; escaped</p>
<script>
document.getElementById("here").textContent += " with scripts";
for (const attempt of [
  () => {{ parent.document.title = "taken"; }},
  () => {{ top.location = "{0}/top"; }},
  () => {{ window.open("{0}/window"); }},
  () => {{ document.forms[0].submit(); }},
  () => {{ navigator.sendBeacon("{0}/beacon"); }},
  () => {{ new WebSocket("{0}/socket".replace("http", "ws")); }},
]) {{ try {{ attempt(); }} catch (error) {{ console.log(error); }} }}
{1}
</script>"""


@pytest.mark.slow
def test_nothing_in_it_is_trusted(tmp_path: Path, hits: tuple[str, list[str]]) -> None:
    address, seen = hits
    text = HOSTILE.format(address)
    written = receipt(
        command=["./" + text], error=text, explanation=[text], warnings=[text], reason=text,
        provider=text, cluster_name=text, claim={text: text}, sources={text: text},
        workers={"lost": [{"reason": text, "count": 1, "text": text}]}, history=HISTORY,
    )  # fmt: skip
    with browser() as started:
        for then in ("", f'location = "{address}/itself";'):
            (tmp_path / "r.html").write_text(html(written, HOSTILE_REPORT.format(address, then)))
            page = opened(started, tmp_path / "r.html")
            page.wait_for_timeout(500)
            assert page.title() == f"{text.split('/')[-1]}: status 0"
            assert page.url.startswith("file://") and len(page.context.pages) == 1
            if not then:
                frame = page.frame_locator("#dask").locator("#here")
                assert frame.inner_text() == '"shown" & escaped with scripts'
    assert seen == []


BLOCK = """
import dask_claim
with dask_claim.connect() as client:
    assert client.submit(sum, [20, 22]).result() == 42
"""


def test_the_report_of_a_local_cluster(launcher: Launcher, tmp_path: Path) -> None:
    need("Bokeh")
    env = {"DASK_CLAIM_REPORT": str(tmp_path / "r.html"), "DASK_CLAIM_MAX_WORKERS": "1"}
    done = launcher.program(BLOCK, env=env).finish()
    assert done.status == 0, done.err
    with browser() as started:
        page = opened(started, tmp_path / "r.html")
        frame = page.frame_locator("#dask")
        frame.get_by_text("number of tasks: 1").wait_for()
        frame.get_by_text("Task Stream").click()
        assert "connect()" in page.inner_text("h1")


def test_the_report_of_a_run_on_a_gateway(
    gateway: GatewayServer, launcher: Launcher, tmp_path: Path
) -> None:
    """And that of a run that is ended, which waits for none of Dask's."""
    need("Bokeh")
    claim = {"gateway_url": gateway.url}
    reports = [tmp_path / "r.html", tmp_path / "ended.html"]
    done, ended = [
        launcher.start(PYTHON, "-c", code, flags=("--report", str(report)), claim=claim)
        for code, report in zip((ONE_TASK, "import time; time.sleep(60)"), reports, strict=True)
    ]
    assert done.finish().status == 0, done.err
    page = reports[0].read_text()
    assert "number of tasks: 1" in page
    assert re.search(r"Duration: [\d.]+ m?s\b", page)
    ended.until("Running ")
    ended.process.terminate()
    assert ended.finish().status == 143
    assert escape(IN_HASTE.missing) in reports[1].read_text()


def test_reports_of_runs_without_a_cluster_of_their_own(attached: Launcher, tmp_path: Path) -> None:
    """One that fails at its claim, and one on a cluster of others."""
    folder = tmp_path / "reports"
    flags = ("--report", f"{folder}/")
    failed = attached.start("true", flags=flags, claim={"worker_cores": -1})
    done = attached("true", flags=flags)
    wrong = failed.finish()
    pages = [
        (folder / f"dask-claim-{run.receipt['run']}.html").read_text() for run in (wrong, done)
    ]
    assert wrong.status == 78 and "status 78" in pages[0] and "worker_cores" in pages[0]
    assert done.status == 0 and OTHERS.missing in pages[1]


@pytest.mark.parametrize(
    ("given", "missing"),
    [
        (None, "within 0.1 s"),
        (ModuleNotFoundError("No module named 'bokeh'"), "has no Bokeh"),
        (OSError("connection lost"), "connection lost"),
        ("x" * 2000, "too large"),
        ({"status": "error"}, "too large"),
    ],
)
async def test_a_scheduler_that_gives_no_report(
    given: object, missing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dask_report, "PATIENCE", 0.1)
    monkeypatch.setattr(dask_report, "LARGEST", 1000)

    async def ask(**_: object) -> object:
        if given is None:
            await asyncio.sleep(60)
        if isinstance(given, Exception):
            raise given
        return given

    report = await DaskReport.made_by(ask, 0.0)
    assert report.html is None
    assert missing in report.missing
