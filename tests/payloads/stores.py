"""Stores for tests: opened as a process opens them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from otel.metrics import Metrics
from persistence.payloads.opening import open_store
from persistence.payloads.settings import PayloadSettings
from persistence.payloads.store import PayloadStore
from tests.support.fault_proxy import FaultProxy

__all__ = ["folder_of", "opened", "s3_proxy"]


def opened(address: str, *, metrics: Metrics | None = None, **settings: Any) -> PayloadStore:
    """Return the store at ``address``; keyword arguments are its other settings."""
    store = open_store(PayloadSettings(payload_store=address, **settings), metrics or Metrics())
    assert store is not None
    return store


def folder_of(store: PayloadStore) -> Path:
    """Return the folder of a ``file://`` store."""
    return Path(urlsplit(store.settings.payload_store or "").path)


@asynccontextmanager
async def s3_proxy(s3_settings: Mapping[str, str]) -> AsyncIterator[FaultProxy]:
    """Yield a proxy in front of a real S3 server."""
    address = urlsplit(s3_settings["PAYLOAD_ENDPOINT_URL"])
    assert address.hostname
    assert address.port
    async with FaultProxy(address.hostname, address.port) as proxy:
        yield proxy
