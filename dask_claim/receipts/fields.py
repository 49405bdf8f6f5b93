"""The receipt's fields: their JSON Schema, the documents' table and the reader are made of them."""

from __future__ import annotations

import json
from datetime import datetime, timezone
from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from dask_claim.errors import Reason

Count = Annotated[int, Field(ge=0, lt=2**63)]
Amount = Annotated[float, Field(ge=0, le=1e15)]
Text = str
Moment = Annotated[
    AwareDatetime,
    Field(
        ge=datetime(1970, 1, 2, tzinfo=timezone.utc), lt=datetime(9999, 1, 1, tzinfo=timezone.utc)
    ),
]


class Part(BaseModel):
    """Fields that a newer dask-claim writes besides are passed over."""

    model_config = ConfigDict(extra="ignore", allow_inf_nan=False, frozen=True)


class Timeline(Part):
    """When each stage was reached; null where it was not."""

    claimed: Moment | None = None
    submitted: Moment | None = None
    running: Moment | None = None
    first_worker: Moment | None = None
    command_start: Moment | None = None
    command_end: Moment | None = None
    gone: Moment | None = None


class Lost(Part):
    """Workers that were lost for one reason."""

    reason: Text = Field(
        description="`memory_limit`, `killed`, `exited`, `silent`, `closed` or `connection_lost`"
    )
    count: Count = Field(description="how many")
    text: Text = Field("", description="description of the first")


class Workers(Part):
    """The workers that a run had."""

    peak: Count = Field(description="largest number at one time")
    worker_seconds: Amount = Field(description="sum over all workers")
    core_hours: Amount = Field(description="threads × hours, sum over all workers")
    threads: Count | None = Field(None, description="threads of one worker, as measured")
    memory: Count | None = Field(None, description="bytes of one worker, as measured")
    memory_peak: Count | None = Field(None, description="peak bytes of the fullest worker")
    lost: list[Lost] = Field([], description="workers that were lost, by reason")


class Tasks(Part):
    """The tasks of a run."""

    done: Count = Field(description="that have a result")
    failed: Count = Field(description="that raised, or that no worker could run")


class Shared(Part):
    """What a run had of a cluster that several used."""

    key: Text = Field(description="the claim's `share`")
    runs: Count | None = Field(None, description="largest number at one time")
    joined: bool | None = Field(None, description="whether another run had requested it")
    others: Count | None = Field(None, description="runs that still used the cluster at the end")
    keep: Amount | None = Field(None, description="seconds for which it stays after its last run")
    lost_by_others: Count | None = Field(
        None, description="workers that were lost with tasks of another run"
    )
    core_seconds: Amount | None = Field(None, description="of this run's own tasks")
    tasks: Count | None = Field(None, description="of this run's own")


class ReceiptFields(Part):
    """A receipt, as `--receipt FILE` writes it."""

    version: Count = Field(description="version of this format: 1")
    dask_claim: Text = Field(description="version of dask-claim")
    run: Text | None = Field(None, description="the run's id")
    state: Literal["claiming", "running", "releasing", "ended"] = Field(
        "ended", description="the run's phase when this was written"
    )
    claim: dict[str, Any] | None = Field(
        None, description="the effective claim; null if it is wrong"
    )
    plan: dict[str, Any] | None = Field(
        None, description="the plan, as `dask-claim show --json` prints it"
    )
    sources: dict[str, Any] | None = Field(None, description="the source of each field")
    provider: Text | None = Field(None, description="where the cluster came from")
    adopted: bool = Field(False, description="whether the cluster existed before the run")
    attached: Text | None = Field(None, description="id of the run whose cluster was used")
    shared: Shared | None = Field(None, description="of a shared cluster: key, runs, own part")
    cluster_name: Text | None = Field(None, description="the gateway's name for the cluster")
    scheduler_address: Text | None = Field(None, description="as the command gets it")
    dashboard_url: Text | None = Field(None, description="as a browser reaches it")
    timeline: Timeline = Field(description="when each stage was reached, ISO 8601 in UTC")
    duration: Amount | None = Field(None, description="seconds, wall time of the run")
    command: list[Text] = Field(description="program and arguments; empty for `connect()`")
    exit_status: int | None = Field(None, description="null while the run lasts")
    reason: Text | None = Field(
        None,
        description="why the run ended with this status; null if it ended well",
        json_schema_extra={"enum": [*(reason.value for reason in Reason), None]},
    )
    error: Text | None = Field(
        None, description="the error that ended the run, if the command did not"
    )
    explanation: list[Text] | None = Field(None, description="what went wrong, in a few lines")
    traceparent: Text | None = Field(None, description="the trace that the run belongs to")
    workers: Workers | None = Field(None, description="null if there are no figures of the cluster")
    tasks: Tasks | None = Field(None, description="null if there are no figures of the cluster")
    memory_peak: Count | None = Field(None, description="peak bytes of all workers together")
    spilled: Count | None = Field(None, description="peak bytes on the workers' disks")
    efficiency: Amount | None = Field(
        None, description="busy ÷ claimed core-seconds, 0 to 1: tasks are busy while they run"
    )
    history: list[tuple[Amount, Count, Count]] = Field(
        [], description="points of a line: seconds since `claimed`, workers, tasks done"
    )
    leased: bool = Field(
        False, description="whether the scheduler would end it if the launcher vanished"
    )
    warnings: list[Text] = Field([], description="warnings that did not end the run")
    gone: bool | Literal["kept"] | None = Field(
        None,
        description="whether the cluster is confirmed gone; `kept`: a shared one, for other runs",
    )
    launcher: Text | None = Field(
        None, description="its process: boot of the machine, namespace, id, start"
    )
    tickets: list[dict[str, Any]] = Field([], description="what remains to be reclaimed")


def schema_text() -> str:
    """Return the JSON Schema of a receipt."""
    schema = ReceiptFields.model_json_schema()
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"
