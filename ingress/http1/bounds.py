"""Limits of requests and connections: sizes, times and numbers."""

from __future__ import annotations

import resource

import msgspec

from ingress.settings import IngressSettings
from transport.errors import ConfigurationError

__all__ = ["Bounds"]

_OWN = 200  # descriptors for the log, PostgreSQL, metrics, files
_MOST = 10_000  # connections, where nothing else is said


class Bounds(msgspec.Struct, frozen=True, kw_only=True):
    """The limits of one listening port; see the settings of the same names. Times in seconds."""

    head_bytes: int = 64 * 1024
    target_bytes: int = 8 * 1024
    headers: int = 128
    head_seconds: float = 10.0
    body_seconds: float = 30.0
    write_seconds: float = 30.0
    connections: int = _MOST
    health_connections: int = 32
    held_bytes: int = 64 * 1024 * 1024
    """Bytes of incomplete heads and of requests that wait for another's answer, together."""

    @classmethod
    def of(cls, settings: IngressSettings) -> Bounds:
        """Return the limits that the settings give.

        Raises:
            ConfigurationError: so many connections can't be, for lack of descriptors.
        """
        reserve = settings.ingress_health_connections
        return cls(
            head_bytes=settings.ingress_max_head_bytes,
            target_bytes=settings.ingress_max_target_bytes,
            headers=settings.ingress_max_headers,
            head_seconds=settings.ingress_head_timeout_ms / 1000,
            body_seconds=settings.ingress_body_timeout_ms / 1000,
            write_seconds=settings.ingress_write_timeout_ms / 1000,
            connections=_connections(settings.ingress_max_connections, reserve),
            health_connections=reserve,
            held_bytes=settings.ingress_queue_bytes,
        )

    @property
    def timeouts(self) -> tuple[float, float, float]:
        """Every time limit."""
        return self.head_seconds, self.body_seconds, self.write_seconds


def _connections(wanted: int | None, reserve: int) -> int:
    """Return the most connections that there may be, beside ``reserve`` for health."""
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
