"""Limits of requests and connections: sizes, times and counts."""

from __future__ import annotations

import resource

import msgspec

from ingress.settings import IngressSettings
from transport.errors import ConfigurationError

__all__ = ["Bounds"]

_OWN = 200  # descriptors that the process keeps for the log, PostgreSQL, metrics, files
_MOST = 10_000  # connections, if INGRESS_MAX_CONNECTIONS is not set


class Bounds(msgspec.Struct, frozen=True, kw_only=True):
    """The limits of one listening port, from the ``INGRESS_*`` settings. Times in seconds."""

    head_bytes: int = 64 * 1024
    target_bytes: int = 8 * 1024
    headers: int = 128
    head_seconds: float = 10.0
    body_seconds: float = 30.0
    write_seconds: float = 30.0
    idle_seconds: float = 150.0
    connections: int = _MOST
    health_connections: int = 32
    held_bytes: int = 64 * 1024 * 1024
    """Bytes that all connections together may hold: incomplete heads, requests that wait for the
    answer before them, and answers that are not read."""

    @classmethod
    def of(cls, settings: IngressSettings) -> Bounds:
        """Return the limits that the settings give.

        Raises:
            ConfigurationError: ``INGRESS_MAX_CONNECTIONS`` is more than the process's file
                descriptors allow.
        """
        reserve = settings.ingress_health_connections
        return cls(
            head_bytes=settings.ingress_max_head_bytes,
            target_bytes=settings.ingress_max_target_bytes,
            headers=settings.ingress_max_headers,
            head_seconds=settings.ingress_head_timeout_ms / 1000,
            body_seconds=settings.ingress_body_timeout_ms / 1000,
            write_seconds=settings.ingress_write_timeout_ms / 1000,
            idle_seconds=settings.ingress_idle_timeout_ms / 1000,
            connections=_connections(settings.ingress_max_connections, reserve),
            health_connections=reserve,
            held_bytes=settings.ingress_queue_bytes,
        )

    @property
    def timeouts(self) -> tuple[float, ...]:
        """The time limits of heads, bodies, answers and idle connections."""
        return self.head_seconds, self.body_seconds, self.write_seconds, self.idle_seconds


def _connections(wanted: int | None, reserve: int) -> int:
    """Return the connection limit, which does not count ``reserve`` connections for health."""
    descriptors, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    possible = descriptors - reserve - _OWN
    if wanted is None:
        return max(1, min(_MOST, possible))
    if wanted > possible:
        raise ConfigurationError(
            f"INGRESS_MAX_CONNECTIONS={wanted} is more than the {descriptors} descriptors of this "
            f"process allow ({reserve} are for INGRESS_HEALTH_CONNECTIONS, {_OWN} for its own "
            f"use): set it to {max(1, possible)} or less, or raise `ulimit -n`"
        )
    return wanted
