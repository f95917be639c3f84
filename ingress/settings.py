"""The ingress's settings, from the environment."""

from __future__ import annotations

from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, SecretStr, model_validator

from transport.environment_settings import EnvironmentSettings
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


class IngressSettings(EnvironmentSettings):
    """Where the API listens, who may call it, and how much it takes at once."""

    host: str = "127.0.0.1"
    """The address to listen on. Anything but loopback needs API keys."""
    port: Port = 3000
    """The port to listen on."""

    ingress_mode: Literal["queue", "direct"] = "queue"
    """``queue``: accept into the log, workers persist. ``direct``: persist before the answer."""
    ingress_queue_percent: Annotated[int, Field(ge=0, le=100)] = 100
    """The percentage of conversations (by a stable hash) that ``queue`` mode queues. Messages of
    the others are persisted directly."""

    ingress_queue_limit: Annotated[int, Field(ge=1)] = 20_000
    """The most messages that wait for their answer; past it requests get 503."""
    ingress_queue_bytes: Annotated[int, Field(ge=1)] = 64 * 1024 * 1024
    """The most bytes of request bodies that wait for their answer; past it requests get 503. Also
    the most bytes of unread answers and incomplete requests of all connections; past it the
    connection that held most for longest is closed."""
    ingress_max_wait_ms: Annotated[int, Field(ge=1, le=60_000)] = 2_000
    """The longest a message waits for its append to begin; past it requests get 503."""
    ingress_max_lag_seconds: Annotated[float, Field(ge=0, le=86_400)] = 30.0
    """How late rows may be while messages come faster than they are persisted. Past it each process
    accepts messages only as fast as they are persisted; the others get 503 with ``Retry-After``.
    While nothing is persisted (PostgreSQL is down), and while workers catch up, all messages are
    accepted. 0 is no limit."""
    ingress_appends_in_flight: Annotated[int, Field(ge=1, le=32)] = 4
    """The most group commits under way at once. With 1, the process idles while the log syncs. A
    further one begins only when enough messages wait, or when a message has waited 5 ms."""
    ingress_append_records: Annotated[int, Field(ge=1, le=10_000)] = 1_000
    """The most messages in one group commit. A batch request is never split, so it may be more."""

    ingress_lookup_timeout_ms: Annotated[int, Field(ge=1, le=60_000)] = 250
    """How long a group commit waits for PostgreSQL to say which messages have rows. Past it the
    messages are queued anyway: their ids are right. A repeat may have ``state`` ``unknown``, and
    ``idempotentHit`` false if neither the log nor the process remembers the message. Later group
    commits do not ask until PostgreSQL answers again."""
    ingress_direct_timeout_ms: Annotated[int, Field(ge=1, le=60_000)] = 5_000
    """How long a directly persisted message may take before the answer is 503."""
    ingress_backlog_records: Annotated[int, Field(ge=1)] = 5_000
    """The most records of one partition to search for a message without a row, and for the
    conversations that have a backlog. With a longer backlog, the whole partition's messages are
    queued."""

    ingress_read_timeout_ms: Annotated[int, Field(ge=1, le=60_000)] = 5_000
    """How long a route that reads waits for PostgreSQL before it answers 503."""
    ingress_health_timeout_ms: Annotated[int, Field(ge=1, le=60_000)] = 1_000
    """How long ``/readyz`` waits for each dependency."""

    ingress_max_head_bytes: Annotated[int, Field(ge=1024, le=1024 * 1024)] = 64 * 1024
    """The most bytes of a request line and its headers; past it the answer is 431, and the
    connection is closed."""
    ingress_max_target_bytes: Annotated[int, Field(ge=256, le=1024 * 1024)] = 8 * 1024
    """The most bytes of a request's path and query; past it the answer is 414."""
    ingress_max_headers: Annotated[int, Field(ge=16, le=10_000)] = 128
    """The most headers of one request; past it the answer is 431."""

    ingress_head_timeout_ms: Annotated[int, Field(ge=100, le=600_000)] = 10_000
    """How long a new connection may stay silent, and how long a request's head may take to come."""
    ingress_write_timeout_ms: Annotated[int, Field(ge=100, le=600_000)] = 30_000
    """How long a client may leave an answer unread. The service goes on waiting for a client that
    reads at 1 KiB/s or faster."""
    # Longer than proxies keep an idle connection by default (Caddy: 120 s), and shorter than clouds
    # remember one (Azure: 240 s).
    ingress_idle_timeout_ms: Annotated[int, Field(ge=1_000, le=3_600_000)] = 150_000
    """How long a connection may stay idle after an answer. A proxy in front has to close its idle
    connections sooner: Google Cloud's load balancers keep theirs for 600 s."""
    ingress_max_connections: Annotated[int, Field(ge=1)] | None = None
    """The most connections at once. Past it an idle connection is closed for each new one; if none
    is idle, the new one gets 503. Not set: 10,000, or fewer if the limit of open files is low."""
    ingress_health_connections: Annotated[int, Field(ge=1, le=1_000)] = 32
    """Connections beyond ``INGRESS_MAX_CONNECTIONS`` that may ask for ``/healthz`` and ``/readyz``
    only."""

    ingress_body_timeout_ms: Annotated[int, Field(ge=1, le=600_000)] = 30_000
    """How long a client may take to send a body that does not come with its head."""
    ingress_max_body_bytes: Annotated[int, Field(ge=1)] = 1024 * 1024
    """The most bytes of a message in JSON: of the body of a POST, or of one item of a batch."""
    ingress_max_batch_bytes: Annotated[int, Field(ge=1)] = 16 * 1024 * 1024
    """The most bytes of the body of a batch."""
    ingress_max_batch_items: Annotated[int, Field(ge=1, le=1_000)] = 1_000
    """The most messages of a batch."""
    ingress_max_content_bytes: Annotated[int, Field(ge=1)] = 65_536
    """The most bytes of ``content`` in UTF-8."""
    ingress_max_recipients: Annotated[int, Field(ge=1, le=10_000)] = 1_000
    """The most ``recipientIds`` of a message."""

    ingress_trace_url: str | None = None
    """The URL of a trace in your tracing system, with ``{traceId}`` in it. ``GET
    /api/messages/{id}`` returns it."""

    ingress_grafana_url: str | None = None
    """The URL of the service's dashboards in Grafana; the console links there."""

    api_keys: SecretStr | None = None
    """Comma-separated ``name:scope+scope:sha256hex``; scopes are produce, read and admin. A suffix
    ``:sender=prefix`` or ``:conversation=prefix`` limits a key to ids with that prefix."""
    api_keys_file: Path | None = None
    """A file of such entries, one a line; read again when the file changes."""
    api_keys_waived: bool = False
    """Listen beyond loopback without keys, because a proxy in front does the checking. Set
    ``INGRESS_ALLOWED_HOSTS`` to the host names that requests come with."""
    ingress_allowed_hosts: str = ""
    """Comma-separated names, without ports, that requests may have in ``Host`` if no API keys are
    needed. IP addresses and localhost are always allowed. ``*`` allows every name: then any web
    page can use this service through a browser that reaches it."""

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
        """The names in ``INGRESS_ALLOWED_HOSTS``, as a tuple."""
        names = (name.strip() for name in self.ingress_allowed_hosts.split(","))
        return tuple(name for name in names if name)

    @property
    def all_queued(self) -> bool:
        """Whether no message is ever persisted directly."""
        return self.ingress_mode == "queue" and self.ingress_queue_percent == 100  # noqa: PLR2004
