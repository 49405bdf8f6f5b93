"""The fields of a claim: the type, default and meaning of each, checked by itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from dask_claim.claim import units
from dask_claim.claim.memory import Memory
from dask_claim.claim.units import FrozenDict

RESULTS = (
    *("cluster_name", "scheduler_address", "dashboard_url"),
    *("scheduler_file", "cluster_name_file"),
)
"""What only a run knows: a program can ask for it under a name, nobody can set it."""

MAPPINGS = ("options", "env", "environment", "hpc")
"""Fields with entries of their own, which several sources may give one by one."""

PROVIDERS = (
    *("auto", "gateway", "local", "attach"),
    *("allocation", "slurm", "pbs", "lsf", "sge", "oar"),
)

Text = Annotated[str, BeforeValidator(units.text)]
Cores = Annotated[int | float, BeforeValidator(units.positive), Field(gt=0)]
Bound = Annotated[int | float, BeforeValidator(units.not_negative), Field(ge=0)]
Count = Annotated[int, BeforeValidator(units.whole), Field(ge=0)]
Url = Annotated[str, BeforeValidator(units.web_address)]
Seconds = Annotated[
    int | float, BeforeValidator(lambda value: units.not_negative(value, example="60")), Field(ge=0)
]
Lifetime = Annotated[
    int | float, BeforeValidator(lambda value: units.positive(value, example="3600")), Field(gt=0)
]


def _one_of(*words: str) -> BeforeValidator:
    def check(value: object) -> object:
        word = value.strip().lower() if isinstance(value, str) else value
        if word not in words:
            raise ValueError(f"is not one of {', '.join(words)}; write one of them")
        return word

    return BeforeValidator(check)


def _version(value: object) -> int:
    if isinstance(value, bool) or str(value).strip() != "1":
        raise ValueError("is no version that this dask-claim knows; write 1, or leave it out")
    return 1


# By names that a gateway or batch system knows; values as JSON has them.
Entries = Annotated[
    Mapping[str, Annotated[Any, BeforeValidator(units.json_value)]],
    BeforeValidator(units.mapping),
    AfterValidator(FrozenDict),
]


class ClaimFields(BaseModel):
    """The fields, each checked by itself. A field that is None is absent."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: Annotated[int, BeforeValidator(_version), Field(ge=1, le=1)] = Field(
        1, description="Version of this contract."
    )
    gateway_url: Url | None = Field(
        None, description="Dask Gateway endpoint, http or https; absent: no gateway."
    )
    proxy_url: Annotated[str, BeforeValidator(units.proxy_address)] | None = Field(
        None,
        description="Scheduler proxy, gateway://host:port, host:port or a port, where it differs.",
    )
    public_url: Annotated[str, BeforeValidator(units.public_address)] | None = Field(
        None, description="Address for browsers, where it differs from gateway_url."
    )
    image: Text | None = Field(None, description="Container image of the scheduler and workers.")
    worker_cores: Cores | None = Field(
        None, description="Cores requested for each worker; may be fractional."
    )
    worker_cores_limit: Cores | None = Field(
        None, description="Cores that a worker may burst to; at least worker_cores."
    )
    worker_memory: Memory | None = Field(
        None, description='Memory of each worker, for example "4G"; a bare number is bytes.'
    )
    min_cores: Bound | None = Field(None, description="Minimum of cores, all workers together.")
    max_cores: Bound | None = Field(None, description="Maximum of cores, all workers together.")
    max_memory: Memory | None = Field(None, description="Maximum of memory, all workers together.")
    min_workers: Count | None = Field(None, description="Minimum number of workers.")
    max_workers: Count | None = Field(None, description="Maximum number of workers.")
    options: Entries = Field(
        default_factory=FrozenDict,
        description="Further options of the gateway by their own names, passed verbatim.",
    )
    env: Annotated[
        Mapping[str, Text], BeforeValidator(units.mapping), AfterValidator(FrozenDict)
    ] = Field(
        default_factory=FrozenDict,
        description="Field → name of the variable in which the program wants its value.",
        json_schema_extra=lambda schema: schema.update(propertyNames={"enum": [*FIELDS, *RESULTS]}),
    )
    provider: Annotated[
        Literal[
            "auto", "gateway", "local", "attach", "allocation", "slurm", "pbs", "lsf", "sge", "oar"
        ],
        _one_of(*PROVIDERS),
    ] = Field("auto", description="Where the cluster comes from.")
    fallback: Annotated[Literal["fail", "local"], _one_of("fail", "local")] = Field(
        "fail", description="What to do when the gateway cannot serve."
    )
    create: Annotated[bool, BeforeValidator(units.boolean)] = Field(
        True, description="false: the program makes its own cluster, the claim only maps names."
    )
    lease_timeout: Seconds = Field(
        60, description="Seconds without its launcher after which a cluster ends; 0: no lease."
    )
    reconnect_timeout: Seconds = Field(
        10,
        description="Seconds in which a launcher whose connection was closed must be back, or its "
        "cluster ends.",
    )
    max_lifetime: Lifetime | None = Field(
        None, description="Seconds after which a cluster ends in any case."
    )
    no_workers_timeout: Lifetime | None = Field(
        None,
        description="Seconds that tasks wait for a worker that could run them before they fail; "
        "absent: they wait for ever.",
    )
    local_cores: Cores | None = Field(
        None,
        description="Cores that this container or job was granted: the bound of a local cluster "
        "beside the cgroup's.",
    )
    local_memory: Memory | None = Field(
        None,
        description="Memory that this container or job was granted, the same for a local cluster.",
    )
    gpus: Count | None = Field(
        None, description="GPUs of each worker, where the gateway or batch system has them."
    )
    environment: Annotated[
        Mapping[Annotated[str, BeforeValidator(units.variable_name)], Text],
        BeforeValidator(units.mapping),
        AfterValidator(FrozenDict),
    ] = Field(
        default_factory=FrozenDict,
        description="Variables of the scheduler and workers: name → text.",
    )
    profile: Text | None = Field(None, description="One of the site's named profiles.")
    strict: Annotated[bool, BeforeValidator(units.boolean)] = Field(
        True,
        description="Whether what a site cannot give is an error, or (false) a warning.",
    )
    versions: Annotated[
        Literal["warn", "strict", "ignore"], _one_of("warn", "strict", "ignore")
    ] = Field(
        "warn",
        description="What other versions of packages on the workers than here mean.",
    )
    hpc: Entries = Field(
        default_factory=FrozenDict,
        description="For batch systems: queue, account, walltime, interface, directives.",
    )

    def says_nothing_of_workers(self) -> bool:
        """Whether number and cores of the workers are left open."""
        said = (
            self.min_workers,
            self.max_workers,
            self.min_cores,
            self.max_cores,
            self.max_memory,
            self.worker_cores,
            self.worker_cores_limit,
        )
        return all(value is None for value in said)


FIELDS: tuple[str, ...] = tuple(ClaimFields.model_fields)
"""The canonical names, in the order of the documented table."""

MAPPABLE = frozenset((*FIELDS, *RESULTS))
"""What a program can have in a variable of its own: the keys of `env`."""
