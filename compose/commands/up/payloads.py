"""``crossfade up`` when payloads change from a folder to an S3 server (``--s3``), or back."""

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
    """Remove the processes of an earlier run from PostgreSQL.

    PostgreSQL has just been started, so none of them runs. A process of a run that was cut off may
    have read another payload store, and its entry would keep this run from starting.

    Raises:
        Outage: PostgreSQL does not answer.
    """
    pool = await connect(settings)
    try:
        await forget_all(pool)
    finally:
        pool.terminate()


async def take_over(settings: PayloadSettings) -> None:
    """Give a new S3 store the identity of the folder, which is its fallback store.

    Raises:
        PayloadOutage: a store can't be read or written.
    """
    address, earlier = settings.payload_store, settings.payload_fallback_store
    if address is None or earlier is None:
        return
    target, folder = (
        open_at(at, settings, process_metrics(), mark=False) for at in (address, earlier)
    )
    if await target.mark() is None and (identity := await folder.mark()) is not None:
        await make_ready(target, identity)
