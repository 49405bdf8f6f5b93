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
    gateway_url: Url | None = Field(
        None, description="Dask Gateway that the cluster comes from, http or https."
    )
    proxy_url: Annotated[str, BeforeValidator(units.proxy_address)] | None = Field(
        None, description="Scheduler proxy, gateway://host:port or a port, if that differs."
    )
    public_url: Annotated[str, BeforeValidator(units.public_address)] | None = Field(
        None, description="Address of the gateway in a browser, if that differs."
    )
    image: Text | None = Field(None, description="Container image of the scheduler and workers.")
    worker_cores: Cores | None = Field(None, description="Cores per worker; may be fractional.")
    worker_cores_limit: Cores | None = Field(
        None, description="Cores a worker may burst to; at least worker_cores."
    )
    worker_memory: Memory | None = Field(
        None, description="Memory per worker, such as '4 G'; a bare number is bytes."
    )
    min_cores: Bound | None = Field(None, description="Minimum of cores over all workers.")
    max_cores: Bound | None = Field(None, description="Maximum of cores over all workers.")
    max_memory: Memory | None = Field(None, description="Maximum of memory over all workers.")
    min_workers: Count | None = Field(None, description="Minimum number of workers.")
    max_workers: Count | None = Field(None, description="Maximum number of workers.")
    options: Entries = Field(
        default_factory=FrozenDict,
        description="Further options of the gateway by their own names, passed unchanged.",
    )
    env: Annotated[Mapping[str, Text], BeforeValidator(units.mapping)] = Field(
        default_factory=FrozenDict,
        description="Fields, each with the variable in which the program wants its value.",
        json_schema_extra=lambda schema: schema.update(propertyNames={"enum": [*FIELDS, *RESULTS]}),
    )
    provider: Provider = Field(
        "auto", description="Where the cluster comes from: auto, gateway, local, …"
    )
    fallback: Annotated[Literal["fail", "local"], BeforeValidator(units.word)] = Field(
        "fail", description="fail or local: what to do if the gateway cannot serve."
    )
    create: Switch = Field(
        True, description="Whether dask-claim makes the cluster; otherwise the program does."
    )
    lease_timeout: Seconds = Field(
        60, description="The cluster of a launcher that fell silent ends after this; 0: no lease."
    )
    reconnect_timeout: Seconds = Field(
        10, description="The cluster of a launcher whose connection was closed ends after this."
    )
    max_lifetime: Lifetime | None = Field(None, description="Longest duration of a run.")
    no_workers_timeout: Lifetime | None = Field(
        None, description="Tasks that no worker can run fail after this; otherwise they wait."
    )
    share: Text | None = Field(
        None,
        description="A key: runs with the same key, user and request use one cluster. Only an "
        "operator's source may set it.",
    )
    keep: Seconds = Field(60, description="How long a shared cluster stays after its last run.")
    local_cores: Cores | None = Field(
        None, description="Cores granted to this container or job: the bound of a local cluster."
    )
    local_memory: Memory | None = Field(
        None, description="Memory granted to this container or job, likewise a bound."
    )
    gpus: Count | None = Field(
        None, description="GPUs per worker, where the gateway or batch system has them."
    )
    environment: Annotated[
        Mapping[Annotated[str, BeforeValidator(units.variable_name)], Text],
        BeforeValidator(units.mapping),
    ] = Field(
        default_factory=FrozenDict,
        description="Variables for the scheduler and workers.",
    )
    profile: Text | None = Field(None, description="Name of one of the site's profiles.")
    strict: Switch = Field(
        True, description="Whether what a site cannot give is an error (78), otherwise a warning."
    )
    versions: Annotated[Literal["warn", "strict", "ignore"], BeforeValidator(units.word)] = Field(
        "warn",
        description="warn, strict (an error) or ignore: what different package versions here and "
        "on the workers mean.",
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
