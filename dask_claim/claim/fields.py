"""The fields of a claim: the type, default and meaning of each, checked by itself.

Flags, `DASK_CLAIM_<FIELD>`, the site file, the schemas and `dask-claim show` all use this table.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from dask_claim.claim import units
from dask_claim.claim.memory import Memory
from dask_claim.claim.units import FrozenDict
from dask_claim.registry import available, is_provider

RESULTS = (
    "cluster_name",
    "scheduler_address",
    "dashboard_url",
    "scheduler_file",
    "cluster_name_file",
)
"""What exists only in a run: a program can have it in a variable, and no source can set it."""

MAPPINGS = ("options", "env", "environment", "hpc")
"""Fields with entries of their own, which several sources may give one by one."""

RUN_OPTIONS = (
    "start", "start_timeout", "stop_timeout", "grace", "receipt", "report", "log_format",
    "quiet", "verbose",
)  # fmt: skip
"""How a run is conducted, see `launch.run_options`: `DASK_CLAIM_<NAME>` sets these, too."""

Text = Annotated[str, BeforeValidator(units.text)]
Number = Annotated[int | float, BeforeValidator(units.number)]
Cores = Annotated[Number, Field(gt=0)]
Bound = Annotated[Number, Field(ge=0)]
Count = Annotated[int, BeforeValidator(units.number), Field(ge=0)]
Seconds = Annotated[Number, Field(ge=0)]
Lifetime = Annotated[Number, Field(gt=0)]
Url = Annotated[str, BeforeValidator(units.web_address)]
Switch = Annotated[bool, BeforeValidator(units.boolean)]
Entries = Annotated[
    Mapping[str, Annotated[Any, BeforeValidator(units.json_copy)]], BeforeValidator(units.mapping)
]


def _registered(name: str) -> str:
    if name != "auto" and not is_provider(name):
        names = [repr(each) for each in ("auto", *available())]
        raise units.Invalid(f"should be {', '.join(names[:-1])} or {names[-1]}")
    return name


Provider = Annotated[str, BeforeValidator(units.word), AfterValidator(_registered)]


class ClaimFields(BaseModel):
    """The fields, each checked by itself. A field that is None is absent."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: Annotated[Literal[1], BeforeValidator(units.number)] = Field(
        1, description="Version of the claim's form."
    )
    gateway_url: Url | None = Field(None, description="Address of the Dask Gateway, http or https.")
    proxy_url: Annotated[str, BeforeValidator(units.proxy_address)] | None = Field(
        None,
        description="Scheduler proxy, gateway://host:port or a port, if not at gateway_url.",
    )
    public_url: Annotated[str, BeforeValidator(units.public_address)] | None = Field(
        None, description="Address of the gateway in a browser, if not gateway_url."
    )
    image: Text | None = Field(None, description="Container image of the scheduler and workers.")
    worker_cores: Cores | None = Field(None, description="Cores per worker; may be fractional.")
    worker_cores_limit: Cores | None = Field(
        None, description="Most cores that a worker may use; at least worker_cores."
    )
    worker_memory: Memory | None = Field(
        None, description="Memory per worker, such as '4 G'; a bare number is bytes."
    )
    min_cores: Bound | None = Field(None, description="Minimum total cores of the workers.")
    max_cores: Bound | None = Field(None, description="Maximum total cores of the workers.")
    max_memory: Memory | None = Field(None, description="Maximum total memory of the workers.")
    min_workers: Count | None = Field(None, description="Minimum number of workers.")
    max_workers: Count | None = Field(None, description="Maximum number of workers.")
    options: Entries = Field(
        default_factory=FrozenDict,
        description="Other options of the gateway, by their own names; passed unchanged.",
    )
    env: Annotated[Mapping[str, Text], BeforeValidator(units.mapping)] = Field(
        default_factory=FrozenDict,
        description="Pass fields to the program in these variables.",
        json_schema_extra=lambda schema: schema.update(propertyNames={"enum": [*FIELDS, *RESULTS]}),
    )
    provider: Provider = Field(
        "auto", description="Where the cluster comes from: auto, gateway, local, …"
    )
    fallback: Annotated[Literal["fail", "local"], BeforeValidator(units.word)] = Field(
        "fail",
        description="What to do if the gateway cannot serve: fail, or use a local cluster (local).",
    )
    create: Switch = Field(
        True,
        description="Create the cluster before the command starts; false: the program creates it.",
    )
    lease_timeout: Seconds = Field(
        60,
        description="End the cluster this long after its launcher falls silent; 0: no lease.",
    )
    reconnect_timeout: Seconds = Field(
        10, description="End the cluster this long after its launcher's connection closes."
    )
    max_lifetime: Lifetime | None = Field(None, description="End the run after this time.")
    no_workers_timeout: Lifetime | None = Field(
        None, description="Fail tasks that no worker can run for this long (default: wait)."
    )
    share: Text | None = Field(
        None,
        description="Use one cluster for all runs with the same key, user and request. Only an "
        "operator's source may set it.",
    )
    keep: Seconds = Field(60, description="Keep a shared cluster this long after its last run.")
    local_cores: Cores | None = Field(
        None, description="Cores granted to this container or job; limits a local cluster."
    )
    local_memory: Memory | None = Field(
        None, description="Memory granted to this container or job; limits a local cluster."
    )
    gpus: Count | None = Field(
        None, description="GPUs per worker, where the gateway or batch system has them."
    )
    environment: Annotated[
        Mapping[Annotated[str, BeforeValidator(units.variable_name)], Text],
        BeforeValidator(units.mapping),
    ] = Field(
        default_factory=FrozenDict,
        description="Environment variables of the scheduler and workers.",
    )
    profile: Text | None = Field(None, description="Use this profile of the site file.")
    strict: Switch = Field(
        True, description="Treat an unavailable request as an error (78); false: as a warning."
    )
    versions: Annotated[Literal["warn", "strict", "ignore"], BeforeValidator(units.word)] = Field(
        "warn",
        description="What to do about package versions that differ between here and the workers: "
        "warn, strict (error) or ignore.",
    )
    hpc: Entries = Field(
        default_factory=FrozenDict,
        description="For batch systems: queue, account, walltime, interface, disk, directives.",
    )

    def leaves_workers_open(self) -> bool:
        """Whether number and cores of the workers are left open."""
        names = ("min_workers", "max_workers", "min_cores", "max_cores", "max_memory")
        return all(
            getattr(self, name) is None for name in (*names, "worker_cores", "worker_cores_limit")
        )


FIELDS: tuple[str, ...] = tuple(ClaimFields.model_fields)
"""The canonical names, in the order of the documented table."""

Path = tuple[str, ...]
"""A field, `("image",)`, or an entry of one that has entries, `("options", "queue")`."""


def leaves(values: Mapping[str, Any]) -> dict[Path, Any]:
    """Return every value under its path, those of mappings entry by entry."""
    flat: dict[Path, Any] = {}
    for name, value in values.items():
        if name in MAPPINGS and isinstance(value, Mapping):
            flat.update({(name, key): item for key, item in value.items()})
        else:
            flat[(name,)] = value
    return flat


def nested(flat: Mapping[Path, Any]) -> dict[str, Any]:
    """Return what `leaves` has made flat."""
    values: dict[str, Any] = {path[0]: value for path, value in flat.items() if len(path) == 1}
    entries: dict[str, dict[str, Any]] = {}
    for path, value in flat.items():
        if len(path) > 1:
            entries.setdefault(path[0], {})[path[1]] = value
    return values | {name: FrozenDict(inner) for name, inner in entries.items()}
