"""The settings and the shared parts of one process, made once at its start and passed on."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

from compose.settings import Settings
from otel.losses import Losses
from otel.metrics import Metrics
from otel.tracing.start import OFF, Tracing
from persistence.chain.known_chain import KnownChain
from persistence.database.pool import Pool
from persistence.database.read_pool import ReadPool
from persistence.dead_letters.indexer import DeadLetterIndexer
from persistence.payloads.store import PayloadStore
from persistence.worker.log_follower import LogFollower
from persistence.worker.worker import Worker
from transport.contract import Transport

__all__ = ["ProcessContext"]


@dataclass(frozen=True)
class ProcessContext:
    """Dependencies that all parts of one process share, and the consumers made from them."""

    settings: Settings
    pool: Pool
    metrics: Metrics
    member: str
    """The name of this process: in the consumer groups, and in the table of processes."""
    tracing: Tracing = OFF
    losses: Losses = field(default_factory=Losses)
    payloads: PayloadStore | None = None
    """The payload store, which keeps large content."""
    reads: ReadPool | None = None
    """Connections for pages and the console's search, if those have a server of their own."""
    archive: PayloadStore | None = None
    """The store that old rows are archived in."""

    @cached_property
    def chain(self) -> KnownChain:
        """The order in which the logs are read, as this process knows it."""
        return KnownChain(self.pool)

    def worker(self, transport: Transport) -> Worker:
        """Return a worker on ``transport``."""
        return Worker(
            transport=transport,
            pool=self.pool,
            settings=self.settings.persistence,
            metrics=self.metrics,
            member=self.member,
            chain=self.chain,
            deliveries=self.tracing.deliveries,
            payloads=self.payloads,
        )

    def follower(self, transport: Transport, *, until_forgotten: bool = False) -> LogFollower:
        """Return a follower of ``transport``.

        ``until_forgotten``: it ends its work once the log is drained or retired.
        """
        return LogFollower(
            transport=transport,
            pool=self.pool,
            settings=self.settings.persistence,
            metrics=self.metrics,
            member=self.member,
            chain=self.chain,
            deliveries=self.tracing.deliveries,
            payloads=self.payloads,
            until_forgotten=until_forgotten,
        )

    def indexer(self, transport: Transport) -> DeadLetterIndexer:
        """Return the indexer of the dead letters of ``transport``."""
        return DeadLetterIndexer(
            transport=transport,
            pool=self.pool,
            settings=self.settings.persistence,
            metrics=self.metrics,
            member=self.member,
        )
