"""Examines everything that is configured, all parts at once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress

from compose.doctor.database import examine_database
from compose.doctor.log import examine_log
from compose.doctor.machine import examine_machine
from compose.doctor.observation import Observation, unknown
from compose.doctor.payloads import examine_fallback, examine_processes, examine_store
from compose.doctor.reads import examine_reads
from compose.doctor.service import examine_service
from compose.settings import Settings
from persistence.database.pool import Pool, connect
from persistence.errors import PersistenceError
from persistence.fleet.log_identities import known_identities
from persistence.fleet.retired_logs import retired_logs
from transport.registry import create

__all__ = ["examine"]

_WITHIN = 60.0
_LOOK = 5.0


async def examine(settings: Settings) -> dict[str, list[Observation]]:
    """Return the observations of each configured part, in the order that a message passes them.

    Raises:
        ConfigurationError: the client of a log or store can't be made from the settings.
    """
    pool = await connect(settings.persistence)
    try:
        known, retired = await _recorded(pool)
        ours = settings.transport
        parts: dict[str, AsyncIterator[Observation]] = {}
        names = (ours.transport, ours.consumed, ours.transport_shadow, *ours.others)
        for name in dict.fromkeys(filter(None, names)):
            log = create(name, ours)
            parts[f"log {name}"] = examine_log(log, known=known, retired=retired)
        parts["postgresql"] = examine_database(pool, settings.persistence)
        if settings.persistence.database_read_url is not None:
            parts["postgresql reads"] = examine_reads(pool, settings.persistence)
        payloads = settings.payloads
        if payloads.payload_store is not None:
            parts["payload store"] = examine_store(payloads, known=known)
            if payloads.payload_fallback_store is not None:
                parts["payload fallback store"] = examine_fallback(payloads, known=known)
            parts["payload stores"] = examine_processes(pool, payloads)
        parts["service"] = examine_service(settings)
        found = await asyncio.gather(*map(_all, parts.values()))
        return {"here": list(examine_machine(settings)), **dict(zip(parts, found, strict=True))}
    finally:
        pool.terminate()


async def _recorded(pool: Pool) -> tuple[dict[str, str], dict[str, str]]:
    """Return the known identities and the retired logs; empty if PostgreSQL does not answer."""
    with suppress(PersistenceError, TimeoutError):
        async with asyncio.timeout(_LOOK):
            return await known_identities(pool), await retired_logs(pool)
    return {}, {}


async def _all(observations: AsyncIterator[Observation]) -> list[Observation]:
    found: list[Observation] = []
    try:
        async with asyncio.timeout(_WITHIN):
            async for observation in observations:
                found.append(observation)  # noqa: PERF401 - what came before a time-out stays
    except TimeoutError:
        found.append(unknown("connection", f"it did not end within {_WITHIN:g} s"))
    return found
