"""The application and the OpenAPI documents of this source, made without a server."""

from __future__ import annotations

import asyncio
from typing import Any

import asyncpg

from ingress.app import Ingress
from ingress.build import build
from ingress.openapi import Documents
from ingress.settings import IngressSettings
from migration_guide.service import MigrationService
from otel.metrics import Metrics
from transport.registry import create
from transport.settings import TransportSettings

__all__ = ["application", "documents"]

_KEYS = f"all:produce+read+admin:{'a' * 64}"


def documents(*, keys: bool) -> Documents:
    """Return the documents as a service serves them, with API keys or without."""
    return application(keys=keys).documents


def application(*, keys: bool) -> Ingress:
    """Return the application with every route, with API keys or without."""
    settings = TransportSettings()
    # The pool never connects, but its constructor needs an event loop, and callers may have none.
    loop = asyncio.new_event_loop()
    loop.close()
    pool: asyncpg.Pool[Any] = asyncpg.create_pool("postgresql://", min_size=0, loop=loop)
    return build(
        settings=IngressSettings(api_keys=_KEYS) if keys else IngressSettings(),
        transport=create("memory", settings),
        pool=pool,
        metrics=Metrics(),
        migration=MigrationService(pool, settings, trace_url=None),
    )
