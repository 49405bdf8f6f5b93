"""The HTTP interface: OGC API - Processes, Part 1 (core), and a page for people."""

from __future__ import annotations

import asyncio
import contextlib
import mimetypes
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Depends, FastAPI, HTTPException, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, JSONResponse, PlainTextResponse, StreamingResponse
from starlette.exceptions import HTTPException as StarletteHTTPException
from starlette.middleware.trustedhost import TrustedHostMiddleware

from dask_claim import Claim
from job_service.jobs import OVER, Job, Jobs, locked
from job_service.models import OGC, Execute, Settings, description

PAGE = Path(__file__).with_name("index.html")
PROCESS = "processes/burned-area"
EXCEPTION = "http://www.opengis.net/def/exceptions/ogcapi-processes-1/1.0"
REL = "http://www.opengis.net/def/rel/ogc/1.0"


def find(request: Request, job_id: str) -> Job:
    job = Job(request.app.state.jobs.folder / job_id)
    if not re.fullmatch(r"[0-9a-f-]{36}", job_id) or not job.status:
        raise refusal(f"there is no job {job_id}", "no-such-job")
    return job


Found = Annotated[Job, Depends(find)]
router = APIRouter(responses={422: {"description": "Refused, with the reasons"}})


@router.get("/")
def landing(request: Request) -> Response:
    if "text/html" in request.headers.get("accept", ""):
        return FileResponse(PAGE)
    links = [link(request, path, rel) for path, rel in OGC["links"].items()]
    return JSONResponse({"title": request.app.title, "links": links})


@router.get("/conformance")
def conformance() -> dict[str, Any]:
    return {"conformsTo": OGC["conformsTo"]}


@router.get("/processes")
def processes(request: Request) -> dict[str, Any]:
    summary = {k: v for k, v in process(request).items() if k not in ("inputs", "outputs")}
    return {"processes": [summary], "links": [link(request, "processes", "self")]}


@router.get(f"/{PROCESS}")
def process(request: Request) -> dict[str, Any]:
    run = link(request, f"{PROCESS}/execution", f"{REL}/execute")
    return {**description(), "links": [link(request, PROCESS, "self"), run]}


@router.post(f"/{PROCESS}/execution", status_code=201)
async def execute(request: Request, body: Execute, answer: Response) -> dict[str, Any]:
    """Accept a job, which runs in the background, whatever the client prefers."""
    # Else a page elsewhere could start jobs, with a form of text/plain or of no type.
    if request.headers.get("content-type", "").partition(";")[0] != "application/json":
        raise HTTPException(415, "send the request as application/json")
    jobs, inputs = request.app.state.jobs, body.inputs
    root = jobs.settings.inputs.resolve()
    items = [(root / item).resolve() for item in inputs.pre_event + inputs.post_event]
    if wrong := [p.name for p in items if not (p.is_relative_to(root) and p.exists())]:
        raise HTTPException(422, f"no such items: {', '.join(wrong)}")
    try:
        job = jobs.add(inputs)
    except OSError as error:
        raise HTTPException(507, f"the job cannot be kept: {error.strerror}") from None
    answer.headers["Location"] = f"{request.base_url}jobs/{job.folder.name}"
    return status_info(request, job)


@router.get("/jobs")
def list_jobs(request: Request, limit: Annotated[int, Query(ge=1)] = 100) -> dict[str, Any]:
    shown = [status_info(request, job) for job in request.app.state.jobs.all()[:limit]]
    return {"jobs": shown, "links": [link(request, "jobs", "self")]}


@router.get("/jobs/{job_id}")
def one_job(request: Request, job: Found) -> dict[str, Any]:
    files = {name: job.read(f"{name}.json") for name in ("request", "receipt")}
    return {**status_info(request, job), **files}


@router.delete("/jobs/{job_id}")
async def dismiss(request: Request, job: Found) -> dict[str, Any]:
    """Cancel a job; when it is `dismissed`, its cluster is gone."""
    request.app.state.jobs.dismiss(job)
    return status_info(request, job)


@router.get("/jobs/{job_id}/log", response_class=PlainTextResponse)
def read_log(request: Request, job: Found, follow: bool = False) -> StreamingResponse:
    lines = stream(job, follow, request.app.state.jobs.stopping)
    return StreamingResponse(lines, media_type="text/plain; charset=utf-8")


@router.get("/jobs/{job_id}/results")
def results(request: Request, job: Found) -> dict[str, Any]:
    if (state := job.status["status"]) != "successful":
        kind = "job-results-failed" if state in OVER else "result-not-ready"
        raise refusal(f"the job is {state}", kind)
    at = f"jobs/{job.folder.name}/results"
    files = {name: link(request, f"{at}/{name}") for name in job.results}
    return {"map": files["catalog.json"], **files}


@router.get("/jobs/{job_id}/results/{name}", response_class=FileResponse)
def result(job: Found, name: str) -> FileResponse:
    # A name that is in the folder has no slash, and so leads nowhere else.
    if name not in job.results:
        raise HTTPException(404, f"the job has no file {name}")
    return FileResponse(job.folder / "out" / name)


@router.get("/healthz")
def healthy() -> dict[str, str]:
    return {"status": "ok"}


def exception(_: Request, error: Any) -> JSONResponse:
    """An exception of OGC API - Processes; where inputs are wrong, a reason for each of them."""
    if isinstance(error, RequestValidationError):
        faults = [f"{'.'.join(map(str, one['loc'][1:]))}: {one['msg']}" for one in error.errors()]
        error = HTTPException(422, "; ".join(faults))
    detail = error.detail
    known = detail if isinstance(detail, dict) else {"type": "about:blank", "detail": detail}
    return JSONResponse({**known, "status": error.status_code}, error.status_code, error.headers)


def create_app(settings: Settings) -> FastAPI:
    """Return the service; RuntimeError where another one works in its folder."""
    Claim.model_validate(settings.claim).plan()
    (settings.data / "jobs").mkdir(parents=True, exist_ok=True)
    if (own_lock := locked(settings.data / "service.lock")) is None:
        raise RuntimeError(f"another service works in {settings.data}")

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        app.state.jobs = Jobs(settings)
        yield
        await app.state.jobs.stop()
        own_lock.close()

    app = FastAPI(title="Burned-area maps", version="1", docs_url="/docs.html", lifespan=lifespan)
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=settings.hosts)
    for kind in (RequestValidationError, StarletteHTTPException):
        app.add_exception_handler(kind, exception)
    app.include_router(router)
    return app


def status_info(request: Request, job: Job) -> dict[str, Any]:
    """A job as OGC API - Processes describes it."""
    status, at = job.status, f"jobs/{job.folder.name}"
    over, blocks = status["status"] in OVER, job.read("progress.json")
    links = [link(request, at, "self"), link(request, f"{at}/log", "log", "text/plain")]
    if status["status"] == "successful":
        links.append(link(request, f"{at}/results", f"{REL}/results"))
    if not over and (url := job.read("receipt.json").get("dashboard_url")):
        links.append({"href": url, "rel": "dashboard", "type": "text/html"})
    done = 100 * blocks["done"] // blocks["total"] if blocks else 0
    shown = {"jobID": job.folder.name, "processID": "burned-area", "type": "process"}
    status.pop("dismiss", None)
    return {**shown, "links": links, **status, "progress": 100 if over else done}


def refusal(detail: str, kind: str) -> HTTPException:
    return HTTPException(404, {"type": f"{EXCEPTION}/{kind}", "detail": detail})


def link(request: Request, path: str, rel: str = "item", kind: str = "") -> dict[str, str]:
    kind = kind or mimetypes.guess_type(path)[0] or "application/json"
    return {"href": f"{request.base_url}{path}", "rel": rel, "type": kind}


async def stream(job: Job, follow: bool, stopping: asyncio.Event) -> AsyncIterator[bytes]:
    position = 0
    while True:
        over = not follow or stopping.is_set() or job.status.get("status") in OVER
        # Whether it is over was looked up before: nothing written until then is missed.
        with contextlib.suppress(FileNotFoundError), (job.folder / "log.txt").open("rb") as file:
            file.seek(position)
            yield file.read()
            position = file.tell()
        if over:
            return
        await asyncio.sleep(0.5)
