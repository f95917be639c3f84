"""The ingress's settings, from the environment."""

from __future__ import annotations

from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, SecretStr, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from transport.settings import Port

__all__ = ["IngressSettings", "is_loopback"]


def is_loopback(host: str) -> bool:
    """Return whether only this machine can reach a server bound to ``host``."""
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


class IngressSettings(BaseSettings):
    """Where the API listens, who may call it, and how much it takes at once."""

    model_config = SettingsConfigDict(frozen=True, extra="ignore", str_strip_whitespace=True)

    host: str = "127.0.0.1"
    """The address to listen on. Anything but loopback needs API keys."""
    port: Port = 3000

    ingress_mode: Literal["queue", "direct"] = "queue"
    """``queue``: accept into the log, workers persist. ``direct``: persist before the answer."""
    ingress_queue_percent: Annotated[int, Field(ge=0, le=100)] = 100
    """The share of conversations (by a stable hash) that ``queue`` mode queues; the rest is
    persisted directly."""

    ingress_queue_limit: Annotated[int, Field(ge=1)] = 20_000
    """Messages accepted for the log and not yet answered; past it requests get 503."""
    ingress_queue_bytes: Annotated[int, Field(ge=1)] = 64 * 1024 * 1024
    """Bytes of request bodies not yet answered; past it requests get 503."""
    ingress_max_wait_ms: Annotated[int, Field(ge=1, le=60_000)] = 2_000
    """The longest a message waits for its append to begin; past it requests get 503."""
    ingress_max_lag_seconds: Annotated[float, Field(ge=0, le=86_400)] = 30.0
    """How late rows may be while more messages come than are persisted. Past it each process
    accepts as many as are persisted, and the rest get 503 with ``Retry-After``. While nothing is
    persisted (PostgreSQL is down), and while workers catch up, all are accepted. 0 is no limit."""
    ingress_appends_in_flight: Annotated[int, Field(ge=1, le=32)] = 4
    """Group commits under way at once. One leaves the process idle while the log syncs. Each more
    begins only when enough messages wait to be worth it, or when one has waited 5 ms."""
    ingress_append_records: Annotated[int, Field(ge=1, le=10_000)] = 1_000
    """Messages in one group commit. A batch request is never split, so it may go over."""

    ingress_lookup_timeout_ms: Annotated[int, Field(ge=1, le=60_000)] = 250
    """How long a group commit waits for PostgreSQL to say which messages have rows. Past it the
    messages are queued all the same (the id is right; only ``idempotentHit`` may be false), and
    the question is not asked again until PostgreSQL answers."""
    ingress_direct_timeout_ms: Annotated[int, Field(ge=1, le=60_000)] = 5_000
    """How long a directly persisted message may take before the answer is 503."""
    ingress_backlog_records: Annotated[int, Field(ge=1)] = 5_000
    """Unacknowledged records of one partition that are looked through to tell which conversations
    have some. A longer backlog makes the whole partition queued."""

    ingress_read_timeout_ms: Annotated[int, Field(ge=1, le=60_000)] = 5_000
    """How long a reading route waits for PostgreSQL before it answers 503."""
    ingress_health_timeout_ms: Annotated[int, Field(ge=1, le=60_000)] = 1_000
    """How long ``/readyz`` waits for each dependency."""

    ingress_max_head_bytes: Annotated[int, Field(ge=1024, le=1024 * 1024)] = 64 * 1024
    """Bytes of a request line and its headers; past it the answer is 431 and the connection ends.
    """
    ingress_max_target_bytes: Annotated[int, Field(ge=256, le=1024 * 1024)] = 8 * 1024
    """Bytes of a request's path and query; past it the answer is 414."""
    ingress_max_headers: Annotated[int, Field(ge=16, le=10_000)] = 128
    """Headers of one request; past it the answer is 431."""

    ingress_head_timeout_ms: Annotated[int, Field(ge=100, le=600_000)] = 10_000
    """How long a new connection may stay silent, and how long a request's head may take to come."""
    ingress_write_timeout_ms: Annotated[int, Field(ge=100, le=600_000)] = 30_000
    """How long a client may leave an answer unread. One that reads a large answer at 1 KiB/s or
    more is waited for."""
    ingress_max_connections: Annotated[int, Field(ge=1)] | None = None
    """Connections at once. Past it idle ones are closed, and where none is, new ones get 503. Not
    set: 10,000, or what the limit of open files leaves."""
    ingress_health_connections: Annotated[int, Field(ge=1, le=1_000)] = 32
    """Connections beyond those, which may ask for ``/healthz`` and ``/readyz`` only."""

    ingress_body_timeout_ms: Annotated[int, Field(ge=1, le=600_000)] = 30_000
    """How long a client may take to send a body that does not come at once."""
    ingress_max_body_bytes: Annotated[int, Field(ge=1)] = 1024 * 1024
    ingress_max_batch_bytes: Annotated[int, Field(ge=1)] = 16 * 1024 * 1024
    ingress_max_batch_items: Annotated[int, Field(ge=1, le=1_000)] = 1_000
    ingress_max_content_bytes: Annotated[int, Field(ge=1)] = 65_536
    """Bytes of ``content`` in UTF-8."""
    ingress_max_recipients: Annotated[int, Field(ge=1, le=10_000)] = 1_000

    ingress_trace_url: str | None = None
    """Where a trace can be looked at, with ``{traceId}`` in it; given back with a message."""

    ingress_grafana_url: str | None = None
    """Where Grafana shows the service's dashboards; the console links there."""

    api_keys: SecretStr | None = None
    """Comma-separated ``name:scope+scope:sha256hex``; scopes are produce, read and admin. With
    ``:sender=prefix`` or ``:conversation=prefix`` behind it a key is for those only."""
    api_keys_file: Path | None = None
    """The same entries, one a line; read again when the file changes."""
    api_keys_waived: bool = False
    """Listen beyond loopback without keys, because something in front does the checking. Name the
    hosts that it is asked for under in ``INGRESS_ALLOWED_HOSTS``."""
    ingress_allowed_hosts: str = ""
    """Comma-separated names, without ports, that requests may have in ``Host`` where no API keys
    are needed; beside IP addresses and localhost, which always may. ``*`` is every name: then any
    web page can use this service through a browser that reaches it."""

    @model_validator(mode="after")
    def _keys_beyond_loopback(self) -> Self:
        if is_loopback(self.host) or self.api_keys_waived:
            return self
        if (self.api_keys and self.api_keys.get_secret_value().strip()) or self.api_keys_file:
            return self
        raise ValueError(
            f"HOST={self.host} can be reached from other machines: set API_KEYS or API_KEYS_FILE "
            "(`crossfade keys new` makes an entry), or API_KEYS_WAIVED=true if a proxy does the "
            "checking"
        )

    @property
    def allowed_hosts(self) -> tuple[str, ...]:
        """The names in ``INGRESS_ALLOWED_HOSTS``."""
        names = (name.strip() for name in self.ingress_allowed_hosts.split(","))
        return tuple(name for name in names if name)

    @property
    def all_queued(self) -> bool:
        """Whether no message is ever persisted directly."""
        return self.ingress_mode == "queue" and self.ingress_queue_percent == 100  # noqa: PLR2004
