"""A service to watch: servers, two processes on one host, a load, and a Prometheus."""

from __future__ import annotations

import shutil
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Literal

import asyncpg

from compose.local.kafka import KafkaServer
from compose.local.ports import free_port
from compose.local.postgres import PostgresServer
from compose.local.valkey import ValkeyServer
from lab.harness.history import ClientHistory
from lab.harness.load import PLAIN, Load, LoadOptions, Mix
from persistence.migrate import upgrade
from tests.monitoring.prometheus import Prometheus
from tests.support.crossfade import Crossfade
from tests.support.eventually import eventually
from tests.support.forked_service import ForkedService

__all__ = ["PARTITIONS", "MonitoredDeployment"]

PARTITIONS = 8
"""Seconds to wait for what Prometheus will see: a fraction of it, but for a busy machine."""

_SETTINGS = {
    "TRANSPORT": "redis",
    "STREAM_PARTITIONS": str(PARTITIONS),
    "STREAM_POLL_INTERVAL_MS": "1000",
    "INGRESS_MAX_WAIT_MS": "1000",
    "DATABASE_TIMEOUT_SECONDS": "5",
    "LOG_FORMAT": "json",
    # Sampled and written to the processes' logs: an exemplar is there only for what is traced.
    "OTEL_TRACES_EXPORTER": "console",
    "OTEL_TRACES_SAMPLER": "parentbased_traceidratio",
    "OTEL_TRACES_SAMPLER_ARG": "0.2",
}


class MonitoredDeployment:
    """Everything is the site's own, so that it can be hurt. Use ``open``, then close the stack.

    ``app`` is the API with workers, ``worker`` workers alone; both ask for the same metrics port.
    """

    redis: ValkeyServer
    postgres: PostgresServer
    prometheus: Prometheus

    def __init__(
        self, folder: Path, program: str, initialized: Path, kafka: KafkaServer | None
    ) -> None:
        self.kafka = kafka
        self.history = ClientHistory()
        self._folder = folder
        self._program = program
        self._initialized = initialized
        self._base = free_port()
        self._runs = 0

    async def open(self, stack: AsyncExitStack, **settings: str) -> None:
        """Start everything, the processes with these ``settings``."""
        self._settings = settings
        self.redis = ValkeyServer(self._folder / "redis" / "data")
        await self.redis.start()
        stack.push_async_callback(self.redis.stop)
        data = self._folder / "postgres" / "data"
        shutil.copytree(self._initialized, data)
        self.postgres = PostgresServer(data)
        await self.postgres.start()
        stack.push_async_callback(self.postgres.stop)
        self.database_url = await self.postgres.create_database("watched")
        await upgrade(self.database_url)
        await self.execute(
            "INSERT INTO migration (id, phase, target, epoch, changed_by, why)"
            " VALUES (1, 1, 1, 1, 'a test', 'to have something to watch')"
        )
        self.app = self.service("app", "serve")
        self.worker = self.service("worker", "worker")
        for service in (self.app, self.worker):
            stack.push_async_callback(service.stop)
            await service.start()
        asked = [f"http://127.0.0.1:{self._base + n}" for n in range(2)]
        self.prometheus = Prometheus(self._program, self._folder / "prometheus", asked)
        stack.push_async_callback(self.prometheus.stop)
        await self.prometheus.start()

    async def execute(self, statement: str) -> None:
        """Do something to the database behind the service's back."""
        connection = await asyncpg.connect(self.database_url)
        try:
            await connection.execute(statement)
        finally:
            await connection.close()

    def service(self, name: str, command: Literal["serve", "worker"]) -> ForkedService:
        """Return a process of the site, not yet started."""
        made = ForkedService(name, command, self._folder, self.environment())
        made.metrics_port = self._base  # the first one's; the next takes the next free one
        return made

    async def command(self, *arguments: str) -> Crossfade:
        """Run a command with the settings of a process of the site, to its end."""
        made = await Crossfade.fork(*arguments, cwd=self._folder, **self.environment())
        assert await made.ends(120) == 0, made.text
        return made

    def environment(self) -> dict[str, str]:
        """Return the settings of a process."""
        shadow = {}
        if self.kafka:
            shadow = {
                "TRANSPORT_SHADOW": "kafka",
                "TRANSPORT_SHADOW_MODE": "async",
                "KAFKA_BOOTSTRAP_SERVERS": self.kafka.bootstrap,
                "KAFKA_TOPIC": f"watched.{self._base}",
                "KAFKA_DLQ_TOPIC": f"watched.dlq.{self._base}",
            }
        return {
            **_SETTINGS,
            **shadow,
            **self._settings,
            "REDIS_HOST": self.redis.host,
            "REDIS_PORT": str(self.redis.port),
            "DATABASE_URL": self.database_url,
            "METRICS_PORT": str(self._base),
        }

    def load(self, *, conversations: int = 12, pause: float = 0.1, mix: Mix = PLAIN) -> Load:
        """Return a load of plain messages, no repeats, unless ``mix`` says otherwise."""
        self._runs += 1
        return Load(
            self.history,
            [self.app],
            LoadOptions(
                run=f"run{self._runs}",
                seed=self._runs,
                conversations=conversations,
                crowded=0,
                pause=pause,
                patience=1.0,
                mix=mix,
            ),
        )

    async def started_at(self) -> float | None:
        """Return the start of ``app``, as Prometheus has seen it now."""
        return await self.prometheus.value('process_start_time_seconds{role="serve"}')

    async def both_up(self) -> None:
        """Return once Prometheus has found and scraped both processes."""

        async def found() -> bool:
            return list((await self.prometheus.targets()).values()) == ["up", "up"]

        await eventually(found, every=0.5)

    async def scraped_since(self, before: float | None) -> None:
        """Return once ``app`` was scraped with another start than ``before``."""

        async def another() -> bool:
            return await self.started_at() not in {None, before}

        await eventually(another, every=0.2)

    async def fires(self, *names: str) -> None:
        """Return once all these alerts fire."""
        await eventually(lambda: self._fire(names), every=0.5)

    async def clears(self, *names: str) -> None:
        """Return once none of these alerts fires."""

        async def quiet() -> bool:
            left = set(names) & set(await self.prometheus.firing())
            assert not left, f"still firing: {sorted(left)}"
            return True

        await eventually(quiet, every=0.5)

    async def _fire(self, names: tuple[str, ...]) -> bool:
        firing = set(await self.prometheus.firing())
        assert set(names) <= firing, f"{sorted(set(names) - firing)} not among {sorted(firing)}"
        return True
