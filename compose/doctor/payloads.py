"""Examines the payload stores: connection, identity, rights, and the other processes' stores."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from uuid import uuid4

from compose.doctor.observation import Observation, bad, failed, fine, unknown
from compose.process.metrics import process_metrics
from compose.process.payload_refusals import elsewhere, silent, unread
from persistence.database.pool import Pool
from persistence.errors import PersistenceError
from persistence.fleet.payload_readers import payload_readers
from persistence.payloads.errors import PayloadError, PayloadMissing
from persistence.payloads.mark import STORE_NAME
from persistence.payloads.opening import folder_at, open_at
from persistence.payloads.settings import PayloadSettings
from persistence.payloads.store import PayloadStore
from transport.deadline import answer
from transport.message.payload import payload_key

__all__ = ["examine_fallback", "examine_processes", "examine_store"]

_WITHIN = 10.0
_MOVE = "'Move to another store' in docs/payloads.md has the steps"


async def examine_store(
    settings: PayloadSettings, *, known: Mapping[str, str]
) -> AsyncIterator[Observation]:
    """Yield the observations of ``PAYLOAD_STORE``; create nothing.

    Args:
        settings: Settings that name a store.
        known: The identities of the logs and of the store, from PostgreSQL.

    Raises:
        ConfigurationError: the store's client can't be made from the settings.
    """
    recorded = known.get(STORE_NAME)
    address = settings.payload_store or ""
    not_there = (
        "look whether a disk is not mounted, or PAYLOAD_STORE names another store: the content of "
        "messages is not there"
    )
    if (folder := folder_at(address)) is not None and not folder.is_dir():
        if recorded is None:
            yield fine("connection", "not made yet: the first process that starts makes it")
        else:
            yield bad("connection", f"there is no folder {folder}", not_there, promise=1)
        return
    store = open_at(address, settings, process_metrics(), mark=False)
    reached, mark = await _reached(store, "PAYLOAD_STORE", "large messages are refused")
    yield reached
    if reached.remedy is not None:
        return
    if mark is None and recorded is None:
        yield fine("identity", "not used yet: the first process that starts marks it")
    elif mark != recorded and recorded is not None:
        found = "without the mark of this database's store" if mark is None else "another store"
        yield bad("identity", found, not_there, promise=1)
    else:
        yield fine("identity", "the same store as before")
        yield await _rights(store)


async def examine_fallback(
    settings: PayloadSettings, *, known: Mapping[str, str]
) -> AsyncIterator[Observation]:
    """Yield the observations of ``PAYLOAD_FALLBACK_STORE``, as ``examine_store`` does."""
    recorded = known.get(STORE_NAME)
    address = settings.payload_fallback_store or ""
    copy = f"run 'crossfade payloads copy', which makes it ready; {_MOVE}"
    if (folder := folder_at(address)) is not None and not folder.is_dir():
        remedy = f"mount its disk, or unset PAYLOAD_FALLBACK_STORE if nothing is there; else {copy}"
        yield bad("connection", f"there is no folder {folder}", remedy, promise=6)
        return
    store = open_at(address, settings, process_metrics(), mark=False)
    harm = "what PAYLOAD_STORE lacks waits"
    reached, mark = await _reached(store, "PAYLOAD_FALLBACK_STORE", harm)
    yield reached
    if reached.remedy is not None:
        return
    if mark is None:
        yield bad("identity", "without the mark of this database's store", copy, promise=6)
    elif recorded is None:
        yield unknown("identity", "PostgreSQL knows no payload store yet, or did not answer")
    elif mark != recorded:
        remedy = (
            "look whether a disk is not mounted, or PAYLOAD_FALLBACK_STORE names another store; "
            f"for a move name an empty one; {_MOVE}"
        )
        yield bad("identity", "another store than this database's", remedy, promise=6)
    else:
        yield fine("identity", "the same as that of PAYLOAD_STORE")
        yield await _rights(store)


async def examine_processes(pool: Pool, settings: PayloadSettings) -> AsyncIterator[Observation]:
    """Yield whether a process with these settings could start beside the running processes."""
    try:
        others = await payload_readers(pool, besides="", within=_WITHIN)
    except PersistenceError as error:
        yield unknown("processes", f"PostgreSQL can't tell: {error}")
        return
    stores = settings.stores
    found = [text for text in (unread(stores, others), elsewhere(stores, others)) if text]
    for text in found:
        yield bad("processes", "one with these settings does not start", text, promise=6)
    if found:
        return
    if names := [other.member for other in silent(others)]:
        yield unknown(
            "processes",
            f"not known which payload stores these read: {', '.join(names)}",
            "restart them with this version before you change PAYLOAD_STORE",
        )
    else:
        yield fine("processes", "each reads what the others write")


async def _reached(store: PayloadStore, setting: str, harm: str) -> tuple[Observation, str | None]:
    """Return an observation of the connection, and the identity in the store's mark."""
    try:
        mark = await answer(store.mark(), within=_WITHIN)
    except (PayloadError, TimeoutError) as error:
        remedy = f"see that {setting} can be reached with these credentials: until it is, {harm}"
        found = str(error) or f"no answer within {_WITHIN:g} s"
        return failed("connection", error, found, remedy), None
    return fine("connection", str(store.settings.payload_store)), mark


async def _rights(store: PayloadStore) -> Observation:
    """Read a missing object, and list: S3 answers 403 to either without the right for it."""
    try:
        await answer(_read_and_list(store), within=_WITHIN)
    except (PayloadError, TimeoutError) as error:
        return failed(
            "rights",
            error,
            f"objects can't be read and listed: {error or 'no answer in time'}",
            "give the key the rights to read and to list below the prefix (on S3 s3:GetObject and "
            "s3:ListBucket): without them a missing object is taken for an outage, and waited for",
            promise=6,
        )
    return fine("rights", "objects can be read and listed")


async def _read_and_list(store: PayloadStore) -> None:
    try:
        await store.head(payload_key(str(uuid4()), "0" * 64))
    except PayloadMissing:
        async for _ in store.objects():
            return
