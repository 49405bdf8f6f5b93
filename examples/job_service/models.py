"""What a request says and what an answer tells. All rules that a schema can hold are in it."""

from __future__ import annotations

from datetime import datetime, timezone
from enum import Enum
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StrictBool,
    StringConstraints,
    model_validator,
)

MOST_PIXELS = 20_000**2

# A name becomes a file's name. Neither starts with a dot or slash, so neither leaves its folder.
Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")]
ScenePath = Annotated[
    str,
    StringConstraints(
        pattern=r"^[A-Za-z0-9_][A-Za-z0-9 ._-]*(/[A-Za-z0-9_][A-Za-z0-9 ._-]*)*$", max_length=500
    ),
]

# A JSON number: no text that looks like one.
Number = Annotated[float, Field(strict=True, allow_inf_nan=False)]

# SQLite keeps no time zone; all that is in the database is UTC.
Moment = Annotated[datetime, AfterValidator(lambda moment: moment.replace(tzinfo=timezone.utc))]


class State(str, Enum):
    queued = "queued"
    running = "running"
    done = "done"
    failed = "failed"
    cancelled = "cancelled"
    interrupted = "interrupted"


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class Scene(_Strict):
    name: Name
    """Of its output, `<name>.tif`."""

    path: ScenePath
    """Of a GeoTIFF, in the folder `inputs`."""


class Grid(_Strict):
    """The grid that all outputs share."""

    crs: Annotated[str, StringConstraints(pattern=r"^EPSG:[0-9]{4,6}$")]
    bounds: tuple[Number, Number, Number, Number]
    """Left, bottom, right and top, in units of the CRS."""

    resolution: Number = Field(gt=0)
    """Side of a pixel, in units of the CRS."""

    @model_validator(mode="after")
    def _possible(self) -> Grid:
        from pyproj import CRS
        from pyproj.exceptions import CRSError

        try:
            CRS.from_user_input(self.crs)
        except CRSError:
            raise ValueError(f"{self.crs} is not known") from None
        left, bottom, right, top = self.bounds
        if left >= right or bottom >= top:
            raise ValueError("bounds are left, bottom, right, top, in this order")
        pixels = ((right - left) / self.resolution) * ((top - bottom) / self.resolution)
        if not 1 <= pixels <= MOST_PIXELS:
            raise ValueError(
                f"the grid has {pixels:.3g} pixels; 1 to {MOST_PIXELS:.3g} are allowed"
            )
        return self


class Resources(_Strict):
    """The part of the claim that is the requester's."""

    min_workers: int | None = Field(None, ge=1, strict=True)
    max_workers: int | None = Field(None, ge=1, strict=True)
    worker_cores: Number | None = Field(None, gt=0)
    worker_memory: str | None = Field(None, examples=["2 G"], max_length=20)


EXAMPLE = {
    "scenes": [{"name": "before", "path": "pre_B12.tif"}],
    "grid": {
        "crs": "EPSG:32629",
        "bounds": [560000, 4419760, 570240, 4430000],
        "resolution": 40,
    },
}


class JobRequest(_Strict):
    model_config = ConfigDict(json_schema_extra={"examples": [EXAMPLE]})

    scenes: list[Scene] = Field(min_length=1, max_length=1000)
    grid: Grid
    resampling: Literal["nearest", "bilinear", "cubic", "average", "mode"] = "nearest"
    keep_intermediate: StrictBool = False
    resources: Resources = Resources()

    @model_validator(mode="after")
    def _names_differ(self) -> JobRequest:
        names = [scene.name for scene in self.scenes]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"several scenes are called {', '.join(twice)}")
        return self


class Job(BaseModel):
    """As the database knows it."""

    model_config = ConfigDict(from_attributes=True)

    id: UUID
    state: State
    created: Moment
    started: Moment | None
    ended: Moment | None
    exit_status: int | None
    """Of dask-claim: the processor's own, or 75, 78, 128 + signal …"""

    detail: str | None
    """Why it did not come to its end."""

    progress: float = 0.0
    """Share of the scenes that are dealt with, 0 to 1."""

    dashboard: str | None = None


class JobDetails(Job):
    """With what its folder tells."""

    request: JobRequest
    scenes: dict[str, dict[str, Any]]
    """name → `state` (waiting, done, missing, failed), `detail`"""

    log_tail: str
    receipt: dict[str, Any] | None
    """dask-claim's; None until the run has ended."""


class Problem(BaseModel):
    detail: str
