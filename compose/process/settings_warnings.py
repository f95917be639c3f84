"""Warnings about settings that work, but match no phase of the migration."""

from __future__ import annotations

import structlog

from transport.settings import TransportSettings

__all__ = ["warn"]

_log = structlog.get_logger(__name__)


def warn(settings: TransportSettings) -> None:
    """Say once, at start, what these settings may leave unread or late, and the remedy."""
    written, shadow, read = settings.transport, settings.transport_shadow, settings.consumed
    if read == written:
        return
    if read != shadow:
        _log.warning(
            f"Workers read {read}, and messages are written to {written}, which is not copied "
            "there: a standby persists them, but each only after it has waited for some seconds",
            remedy=f"set CONSUME_FROM={written}, or TRANSPORT_SHADOW={read}",
        )
    elif settings.transport_shadow_mode == "async":
        _log.warning(
            f"Workers read {read}, which gets its copies after messages of {written} are "
            f"acknowledged: a copy that is dropped (the queue is full, the process is killed, "
            f"{read} refuses it) leaves its message unread in {written}, and no row of it is made",
            remedy=f"set TRANSPORT_SHADOW_MODE=sync, or CONSUME_FROM={written}; 'crossfade migrate "
            f"backfill' copies what is missing (stream_standby_stalled > 0 says that some is)",
        )
