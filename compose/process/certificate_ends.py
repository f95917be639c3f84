"""Tells when TLS certificates end: those of our servers, and our own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any

import structlog

from compose.process.metrics import ProcessMetrics
from otel.metrics import Metrics
from persistence.database.certificates import certificates
from persistence.database.outage import stopped_within
from persistence.database.pool import Pool, connect, connect_reads, using
from persistence.errors import PersistenceError, Unexpected
from persistence.settings import PersistenceSettings
from transport.certificates import Certificate
from transport.deadline import answer
from transport.errors import TransportError
from transport.registry import create
from transport.server_facts import TellsServerFacts
from transport.settings import TransportSettings

__all__ = ["CertificateEnds"]

_log = structlog.get_logger(__name__)

_SECONDS = 600.0
_WITHIN = 10.0
_OUTAGES = (TransportError, PersistenceError, TimeoutError, OSError)
_Look = Callable[[], Coroutine[Any, Any, Sequence[Certificate]]]


class CertificateEnds:
    """The last moment of each certificate, as gauges, and a warning in the log in good time.

    Each look makes new connections. A connection that is older than a server's new certificate
    shows the former one for as long as it is open.

    Args:
        logs: The names of this process's logs.
        transport: The settings of their servers.
        persistence: The settings of PostgreSQL.
        metrics: Of this process.
    """

    def __init__(
        self,
        logs: Sequence[str],
        transport: TransportSettings,
        persistence: PersistenceSettings,
        metrics: Metrics,
    ) -> None:
        self._looks = dict(_looks(logs, transport, persistence))
        ours = metrics.of(ProcessMetrics)
        self._gauges = ours.certificate_ends, ours.certificate_overdue
        self._known: dict[str, list[Certificate]] = {}
        self._told: set[Certificate] = set()
        self._failed: set[str] = set()

    async def run(self, stop: asyncio.Event) -> None:
        """Look now, and every ten minutes until ``stop`` is set."""
        await self.report()
        while not await stopped_within(stop, _SECONDS):
            await self.report()

    async def report(self) -> None:
        """Look once. For a server that does not answer, the gauges stay as they are."""
        for server, look in self._looks.items():
            try:
                self._set(server, await answer(look(), within=_WITHIN))
            except Exception as error:  # noqa: BLE001 - no odd certificate may end the process
                self._note(server, error)
            else:
                self._failed.discard(server)

    def _note(self, server: str, error: Exception) -> None:
        """Log an error once, unless it is an outage, which others tell."""
        is_outage = isinstance(error, _OUTAGES) and not isinstance(error, Unexpected)
        if not is_outage and server not in self._failed:
            self._failed.add(server)
            _log.error("The end of a certificate can't be read", server=server, exc_info=error)

    def _set(self, server: str, found: Sequence[Certificate]) -> None:
        for former in {each.whose for each in self._known.get(server, ())}:
            for gauge in self._gauges:
                gauge.remove(server, former)
        self._known[server] = list(found)
        for one in found:
            for gauge, moment in zip(self._gauges, (one.ends, one.overdue), strict=True):
                gauge.labels(server, one.whose).set(moment.timestamp())
            if one not in self._told and one.overdue <= datetime.now(UTC):
                self._told.add(one)
                _log.warning(
                    "A certificate ends soon, or has ended: renew it, and restart no process",
                    server=server,
                    certificate=one.whose,
                    ends=one.ends.isoformat(),
                )


def _looks(
    logs: Sequence[str], transport: TransportSettings, persistence: PersistenceSettings
) -> Iterator[tuple[str, _Look]]:
    for name in logs:
        yield name, partial(_of_log, name, transport)
    yield "postgresql", partial(_of_database, persistence)
    if persistence.database_read_url is not None:
        yield "postgresql reads", partial(_of_reads, persistence)


async def _of_log(name: str, settings: TransportSettings) -> Sequence[Certificate]:
    log = create(name, settings)
    return (await log.server_facts()).certificates if isinstance(log, TellsServerFacts) else ()


async def _of_database(settings: PersistenceSettings) -> Sequence[Certificate]:
    return await _of_pool(await connect(settings))


async def _of_reads(settings: PersistenceSettings) -> Sequence[Certificate]:
    pool = await connect_reads(settings)
    return await _of_pool(pool) if pool is not None else ()


async def _of_pool(pool: Pool) -> Sequence[Certificate]:
    try:
        async with using(pool, within=_WITHIN) as connection:
            return certificates(connection)
    finally:
        pool.terminate()
