"""``crossfade up --s3`` over a folder that has the payloads of earlier messages, and back."""

from __future__ import annotations

from compose.process.metrics import process_metrics
from persistence.database.pool import connect
from persistence.fleet.processes import forget_all
from persistence.payload_audit.copy import make_ready
from persistence.payloads.opening import open_at
from persistence.payloads.settings import PayloadSettings
from persistence.settings import PersistenceSettings

__all__ = ["forget_earlier_run", "take_over"]


async def forget_earlier_run(settings: PersistenceSettings) -> None:
    """Forget the processes of a run that was cut off, with the machine or with all of its servers.

    PostgreSQL has just been started, so none of them runs. A row of one that read another payload
    store would stop this run.

    Raises:
        Outage: PostgreSQL can't do it now.
    """
    pool = await connect(settings)
    try:
        await forget_all(pool)
    finally:
        pool.terminate()


async def take_over(settings: PayloadSettings) -> None:
    """Make a new S3 server the same store as the folder that is read beside it.

    Raises:
        PayloadOutage: one of them can't be read or written.
    """
    address, earlier = settings.payload_store, settings.payload_fallback_store
    if address is None or earlier is None:
        return
    target, folder = (
        open_at(at, settings, process_metrics(), mark=False) for at in (address, earlier)
    )
    if await target.mark() is None and (identity := await folder.mark()) is not None:
        await make_ready(target, identity)
