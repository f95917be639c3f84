"""The role of a process."""

from __future__ import annotations

from enum import Enum

__all__ = ["Role"]


class Role(Enum):
    """``crossfade serve`` or ``crossfade worker``."""

    SERVE = "serve"
    """The API, and workers unless ``ENABLE_STREAM_CONSUMERS=false``."""
    WORKER = "worker"
    """Workers, with health and metrics; no API."""
