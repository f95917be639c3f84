"""Settings of metrics and logs, from the environment."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator

from transport.environment_settings import EnvironmentSettings

__all__ = ["OtelSettings"]


class OtelSettings(EnvironmentSettings):
    """Metrics and logs of one process."""

    metrics_host: str = "127.0.0.1"
    """The address that Prometheus scrapes; ``0.0.0.0`` in a container."""
    metrics_port: Annotated[int, Field(ge=1, le=65535)] = 9090
    """If the port is taken, the next free one is used, and a log line names it."""
    metrics_max_connections: Annotated[int, Field(ge=2, le=1_000)] = 32
    """Connections to it at once, a thread each. Beyond, the oldest without a request is closed."""
    metrics_timeout_ms: Annotated[int, Field(ge=100, le=600_000)] = 10_000
    """How long one connection may last."""
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    """The least important lines that are written: ``DEBUG``, ``INFO``, ``WARNING`` or ``ERROR``."""
    log_format: Literal["json", "console"] = "json"
    """``json``: one object per line, for machines. ``console``: for people."""

    @field_validator("log_level", "log_format", mode="before")
    @classmethod
    def _any_case(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        return value.lower() if value.lower() in {"json", "console"} else value.upper()
