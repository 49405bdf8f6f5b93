"""The HTTP interface."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Annotated
from uuid import UUID, uuid4

from fastapi import FastAPI, HTTPException, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, JSONResponse, StreamingResponse
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge
from prometheus_client import generate_latest as prometheus_text
from sqlalchemy.exc import SQLAlchemyError
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.routing import Match

from dask_claim import Claim, DaskClaimError
from job_service.models import Job, JobDetails, JobRequest, Problem, State
from job_service.runner import Runner, claim_of, locked, read_json
from job_service.settings import Settings
from job_service.store import JobRow, Store

PAGE = Path(__file__).with_name("index.html")
TAIL = 4000  # bytes

NO_JOB = {404: {"model": Problem, "description": "No such job, or file of it"}}
NOT_KEPT = {
    400: {"model": Problem, "description": "No JSON"},
    507: {"model": Problem, "description": "No room left for the job"},
}
NOT_READY = {503: {"model": Problem, "description": "Not ready, and why"}}


def create_app(settings: Settings) -> FastAPI:
    """The service; it holds `data`, and no second one may.

    Raises
    ------
    RuntimeError
        Another service holds the folder.
    DaskClaimError
        The configured claim is wrong.
    """
    Claim.model_validate(settings.claim).plan()
    (settings.data / "jobs").mkdir(parents=True, exist_ok=True)
    own_lock = locked(settings.data / "service.lock")
    if own_lock is None:
        raise RuntimeError(f"another service works in {settings.data}")
    store = Store(settings.database_url)
    registry = CollectorRegistry()
    states = Gauge("jobs", "Jobs by state", ["state"], registry=registry)
    ended = Counter("jobs_ended", "Jobs that have ended", ["state"], registry=registry)

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        runner = Runner(settings, store, lambda state: ended.labels(state.value).inc())
        app.state.runner, app.state.task = runner, asyncio.create_task(runner.run())
        await asyncio.sleep(0)
        yield
        runner.stop()
        await app.state.task
        own_lock.close()

    app = FastAPI(title="Jobs", version="1", lifespan=lifespan, docs_url=None, redoc_url=None)
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=settings.hosts)

    @app.exception_handler(RequestValidationError)
    def unsound(_: Request, error: RequestValidationError) -> JSONResponse:
        # Without the input: it may hold what JSON cannot (NaN), and is known to who sent it.
        faults = [{k: fault[k] for k in ("type", "loc", "msg")} for fault in error.errors()]
        return JSONResponse({"detail": faults}, 422)

    @app.exception_handler(SQLAlchemyError)
    def no_database(_: Request, error: SQLAlchemyError) -> JSONResponse:
        full = "full" in str(error)
        return JSONResponse(
            {"detail": "no room left" if full else "no database"}, 507 if full else 503
        )

    @app.exception_handler(405)
    def not_allowed(request: Request, error: HTTPException) -> JSONResponse:
        """Starlette itself names the methods of one function of a path, not of all."""
        routes = [route for route in app.routes if route.matches(request.scope)[0] != Match.NONE]
        methods = sorted({method for route in routes for method in route.methods})
        return JSONResponse({"detail": error.detail}, 405, {"Allow": ", ".join(methods)})

    def known(job_id: UUID) -> JobRow:
        row = store.get(job_id.hex)
        if row is None:
            raise HTTPException(404, "no such job")
        return row

    @app.post("/jobs", status_code=201, responses=NOT_KEPT)
    def create(request: JobRequest, response: Response) -> Job:
        """Queue a job."""
        check_claim(settings, request)
        job_id, content = uuid4().hex, request.model_dump(mode="json")
        folder = settings.folder(job_id)
        try:
            folder.mkdir()
            (folder / "request.json").write_text(json.dumps(content))
            row = store.add(job_id, content)
        except (OSError, SQLAlchemyError) as error:
            shutil.rmtree(folder, ignore_errors=True)
            if isinstance(error, SQLAlchemyError):
                raise
            raise HTTPException(507, f"the job cannot be kept: {error.strerror}") from None
        app.state.runner.wake()
        response.headers["Location"] = f"/jobs/{UUID(job_id)}"
        return summary(settings, row)

    @app.get("/jobs")
    def jobs(
        limit: Annotated[int, Query(ge=1, le=500)] = 100,
        offset: Annotated[int, Query(ge=0, le=10**9)] = 0,
    ) -> list[Job]:
        """The jobs, the newest first."""
        return [summary(settings, row) for row in store.latest(limit, offset)]

    @app.get("/jobs/{job_id}", responses=NO_JOB)
    def job(job_id: UUID) -> JobDetails:
        row = known(job_id)
        folder = settings.folder(row.id)
        status = read_json(folder / "status.json") or {}
        return JobDetails(
            **summary(settings, row).model_dump(),
            request=JobRequest.model_validate(row.request),
            scenes=status.get("scenes", {}),
            log_tail=tail(folder / "log.txt"),
            receipt=read_json(folder / "receipt.json"),
        )

    @app.delete("/jobs/{job_id}", status_code=202, responses=NO_JOB)
    def cancel(job_id: UUID) -> Job:
        """Cancel a job; one that has ended stays so. When it ends its cluster is gone."""
        row = store.cancel(known(job_id).id)
        assert row is not None
        app.state.runner.wake()
        return summary(settings, row)

    text = {200: {"content": {"text/plain": {"schema": {"type": "string"}}}}}

    @app.get("/jobs/{job_id}/log", response_class=StreamingResponse, responses={**NO_JOB, **text})
    def read_log(job_id: UUID, follow: bool = False) -> StreamingResponse:
        """The log, as it is; with `follow` until the job has ended."""
        row = known(job_id)
        lines = stream(settings.folder(row.id) / "log.txt", store, row.id, follow)
        return StreamingResponse(lines, media_type="text/plain; charset=utf-8")

    tif = {200: {"content": {"image/tiff": {}}}}

    @app.get("/jobs/{job_id}/out/{name}", response_class=FileResponse, responses={**NO_JOB, **tif})
    def output(job_id: UUID, name: str) -> FileResponse:
        """The raster of the scene `name`."""
        row = known(job_id)
        path = settings.folder(row.id) / "out" / f"{name}.tif"
        # Only what the request itself names, whose names are checked.
        if not any(scene["name"] == name for scene in row.request["scenes"]) or not path.is_file():
            raise HTTPException(404, "no such output")
        return FileResponse(path, media_type="image/tiff", filename=path.name)

    @app.get("/healthz")
    def healthy() -> dict[str, str]:
        return {"status": "alive"}

    @app.get("/readyz", responses=NOT_READY)
    def ready() -> dict[str, str]:
        store.counts()
        if app.state.task.done():
            raise HTTPException(503, "the runner has ended")
        for folder, how in ((settings.inputs, os.R_OK), (settings.data, os.W_OK)):
            if not os.access(folder, how):
                raise HTTPException(503, f"{folder} is not to be had")
        return {"status": "ready"}

    @app.get("/metrics", response_class=Response, responses=text)
    def metrics() -> Response:
        counts = store.counts()
        for state in State:
            states.labels(state.value).set(counts.get(state, 0))
        return Response(prometheus_text(registry), media_type=CONTENT_TYPE_LATEST)

    @app.get("/", include_in_schema=False)
    def page() -> FileResponse:
        policy = "default-src 'none'; connect-src 'self'; script-src 'unsafe-inline'; "
        policy += "style-src 'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'"
        return FileResponse(PAGE, headers={"Content-Security-Policy": policy})

    return app


def check_claim(settings: Settings, request: JobRequest) -> None:
    """422 with the claim's faults, before anything is queued."""
    resources = request.resources
    most = max(resources.min_workers or 1, resources.max_workers or 1)
    try:
        if most > settings.workers:
            raise ValueError(f"{most} workers; a job may have {settings.workers}")
        Claim.model_validate(claim_of(settings, request.model_dump())).plan()
    except (DaskClaimError, ValueError) as error:
        fault = {"type": "claim", "loc": ["body", "resources"], "msg": str(error)}
        raise HTTPException(422, [fault]) from None


def summary(settings: Settings, row: JobRow) -> Job:
    status = read_json(settings.folder(row.id) / "status.json") or {}
    job = Job.model_validate(row)
    # A cluster's dashboard goes with the cluster.
    dashboard = status.get("dashboard") if row.state is State.running else None
    return job.model_copy(
        update={"progress": status.get("progress", 0.0), "dashboard": dashboard or None}
    )


def tail(path: Path) -> str:
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - TAIL))
            return file.read().decode(errors="replace")
    except OSError:
        return ""


async def stream(path: Path, store: Store, job_id: str, follow: bool) -> AsyncIterator[bytes]:
    """The log's bytes, in pieces, up to now or to the end of the job."""
    position = 0
    while True:
        row = await asyncio.to_thread(store.get, job_id)
        over = not follow or row is None or row.state not in (State.queued, State.running)
        # Whether it is over was asked before: nothing written until then is missed.
        with contextlib.suppress(FileNotFoundError), path.open("rb") as file:
            file.seek(position)
            while piece := await asyncio.to_thread(file.read, 1 << 16):
                position += len(piece)
                yield piece
        if over:
            return
        await asyncio.sleep(0.5)
