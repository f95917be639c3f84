"""Stores for tests: opened as a process opens them."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from otel.metrics import Metrics
from persistence.payloads.opening import open_store
from persistence.payloads.settings import PayloadSettings
from persistence.payloads.store import PayloadStore

__all__ = ["folder_of", "opened"]


def opened(address: str, *, metrics: Metrics | None = None, **settings: Any) -> PayloadStore:
    """Return the store at ``address``; keyword arguments are its other settings."""
    store = open_store(PayloadSettings(payload_store=address, **settings), metrics or Metrics())
    assert store is not None
    return store


def folder_of(store: PayloadStore) -> Path:
    """Return the folder of a ``file://`` store."""
    return Path(urlsplit(store.settings.payload_store or "").path)
