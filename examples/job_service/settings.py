"""The operator's settings: a YAML file, and variables that override it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from pydantic import Field, SecretStr
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    YamlConfigSettingsSource,
)

# Not JOB_SERVICE_: Kubernetes sets JOB_SERVICE_PORT and others for a Service called job-service.
PREFIX = "JOBS_"


class Settings(BaseSettings):
    """From the file that JOBS_CONFIG names; `JOBS_<NAME>` is stronger."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, extra="forbid", frozen=True)

    inputs: Path
    """The scenes, on the shared volume; jobs read nothing else."""

    data: Path
    """A folder per job, `jobs/<id>`, on the shared volume; without `database` its SQLite, too."""

    database: SecretStr | None = None
    """An SQLAlchemy URL, such as postgresql+psycopg://user:password@host/jobs."""

    limit: int = Field(2, ge=1)
    """Jobs that run at the same time."""

    workers: int = Field(8, ge=1)
    """The most workers that one job may ask for."""

    claim: dict[str, Any] = {}
    """What every job claims; see dask-claim's table. A request adds its `resources`."""

    host: str = "127.0.0.1"
    port: int = Field(8080, ge=1, le=65535)

    hosts: list[str] = ["127.0.0.1", "localhost"]
    """The names by which the service may be called: a web page elsewhere must not reach it."""

    @property
    def database_url(self) -> str:
        if self.database is not None:
            return self.database.get_secret_value()
        return f"sqlite:///{self.data.absolute() / 'jobs.sqlite'}"

    def folder(self, job_id: str) -> Path:
        return self.data.absolute() / "jobs" / job_id

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        sources = [init_settings, env_settings]
        if file := os.environ.get(f"{PREFIX}CONFIG"):
            # A file that is named and missing is an error, not a service with defaults.
            Path(file).read_bytes()
            sources.append(YamlConfigSettingsSource(settings_cls, yaml_file=file))
        return tuple(sources)
