"""``crossfade up --s3`` over a folder that has the payloads of earlier messages."""

from __future__ import annotations

from compose.process.metrics import process_metrics
from persistence.payload_audit.copy import make_ready
from persistence.payloads.opening import open_store
from persistence.payloads.settings import PayloadSettings

__all__ = ["take_over"]


async def take_over(settings: PayloadSettings) -> None:
    """Make a new S3 server the same store as the folder that is read beside it.

    Raises:
        PayloadOutage: one of them can't be read or written.
    """
    store = open_store(settings, process_metrics())
    if store is None or store.fallback is None or await store.mark() is not None:
        return
    identity = await store.fallback.mark()
    if identity is not None:
        await make_ready(store, identity)
