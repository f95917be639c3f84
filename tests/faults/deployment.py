"""Everything of one fault test: servers, processes of ours, the history, and the verdict."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, Literal, Self

from compose.local.postgres import PostgresServer
from lab.harness.anomaly import Anomaly, report
from lab.harness.checker import check
from lab.harness.final import Final, gather
from lab.harness.history import ClientHistory
from lab.harness.load import Load, LoadOptions
from lab.harness.reader import PageReader
from lab.rehearsal.history_file import write_history
from tests.faults.logs import FaultyLog, settings_of
from tests.support.eventually import eventually
from tests.support.forked_service import ForkedService
from transport.contract import DLQ_GROUP, WORKER_GROUP, Topic, Transport
from transport.errors import TransportUnavailable
from transport.registry import create

__all__ = ["Deployment"]

_numbers = itertools.count(1)
# Short, so that a test needn't wait long for an answer that does not come. (The test's transport
# has the patience of the defaults.)
_SETTINGS = {
    "KAFKA_TIMEOUT_MS": "1000",
    "STREAM_POLL_INTERVAL_MS": "1000",
    "INGRESS_MAX_WAIT_MS": "1000",
    "LOG_FORMAT": "json",
}

# Some 300 messages a second: more would take the processors from what the test waits for, and from
# the tests beside it.
_PAUSE = 0.12


class Deployment:
    """One test's service: ``run`` it, ``load`` it, inject faults, then check the outcome."""

    def __init__(
        self,
        log: FaultyLog,
        postgres: PostgresServer,
        database_url: str,
        folder: Path,
        stack: AsyncExitStack,
    ) -> None:
        self.log = log
        self.postgres = postgres
        self.database_url = database_url
        self.history = ClientHistory()
        self.services: list[ForkedService] = []
        self._readers: list[PageReader] = []
        self._folder = folder
        self._stack = stack

    @classmethod
    @asynccontextmanager
    async def on(
        cls, log: FaultyLog, postgres: PostgresServer, database_url: str, folder: Path
    ) -> AsyncIterator[Self]:
        """Yield a deployment; stop its processes when the block ends."""
        async with AsyncExitStack() as stack:
            made = cls(log, postgres, database_url, folder, stack)
            yield made
            await made.stop()

    async def run(
        self, *, ingresses: int = 2, workers: int = 1, **environment: str
    ) -> tuple[list[ForkedService], list[ForkedService]]:
        """Start ingress processes that consume nothing and workers that share the partitions."""
        made = [self.ingress() for _ in range(ingresses)], [self.worker() for _ in range(workers)]
        for service in (*made[0], *made[1]):
            service.environment.update(environment)
        await asyncio.gather(*(service.start() for services in made for service in services))
        return made

    def ingress(self, **environment: str) -> ForkedService:
        """Return an ingress that consumes nothing, not yet started; it is stopped in the end."""
        return self._service("serve", {"ENABLE_STREAM_CONSUMERS": "false", **environment})

    def worker(self, **environment: str) -> ForkedService:
        """Return a worker, not yet started; it is stopped in the end."""
        return self._service("worker", environment)

    def _service(
        self, command: Literal["serve", "worker"], environment: dict[str, str]
    ) -> ForkedService:
        name = f"{'ingress' if command == 'serve' else 'worker'}-{len(self.services)}"
        environment = {
            **_SETTINGS,
            **self.log.environment(),
            "DATABASE_URL": self.database_url,
            **environment,
        }
        service = ForkedService(name, command, self._folder, environment)
        self.services.append(service)
        return service

    async def stop(self) -> None:
        """Stop every process, all at once."""
        await asyncio.gather(*(service.stop() for service in self.services))

    def load(self, ingresses: list[ForkedService], **options: Any) -> Load:
        """Return a load on these ingresses that writes into this deployment's history."""
        number = next(_numbers)
        plan = LoadOptions(run=f"run{number}", seed=number, **{"pause": _PAUSE, **options})
        return Load(self.history, ingresses, plan)

    def reader(self, ingresses: list[ForkedService], conversations: Sequence[str]) -> PageReader:
        """Return a reader that follows these conversations; its pages are checked too."""
        reader = PageReader(ingresses, conversations)
        self._readers.append(reader)
        return reader

    async def transport(self) -> Transport:
        """Return a transport of the test's own, entered."""
        transport = create(self.log.name, settings_of(self.log))
        return await self._stack.enter_async_context(transport)

    async def settled(self) -> None:
        """Wait until everything in the log is acknowledged, including dead letters."""
        transport = await self.transport()

        async def nothing_left() -> bool:
            try:
                messages = await transport.progress(Topic.MESSAGES, group=WORKER_GROUP)
                letters = await transport.progress(Topic.DEAD_LETTERS, group=DLQ_GROUP)
            except TransportUnavailable as error:  # the server may be starting
                raise AssertionError(str(error)) from error
            left = {
                (topic, p.partition): p.lag
                for topic, all_of in (("messages", messages), ("dead letters", letters))
                for p in all_of
                if p.lag != 0
            }
            assert not left, f"not acknowledged: {left}"
            return True

        await eventually(nothing_left, every=0.1)

    async def judge(self) -> tuple[list[Anomaly], Final]:
        """Wait until all is settled; return the checker's anomalies, and the final state."""
        await self.settled()
        final = await gather(self.database_url, self._reader_url())
        for reader in self._readers:
            final.pages = {**final.pages, **await reader.catch_up()}
        anomalies = check(self.history, final)
        if anomalies:
            write_history(self._folder / "history.jsonl", self.history, final)
        return anomalies, final

    def _reader_url(self) -> str | None:
        """Return the address of an ingress that is up, if one is."""
        ingresses = (s for s in self.services if s.up and s.name.startswith("ingress"))
        return next((ingress.url for ingress in ingresses), None)

    async def assert_promises_held(
        self, *, except_for: Callable[[Anomaly], bool] = lambda _: False
    ) -> Final:
        """Settle, judge, and fail with the findings. Returns the final state."""
        anomalies, final = await self.judge()
        left = [anomaly for anomaly in anomalies if not except_for(anomaly)]
        assert not left, f"{self.history}, {len(final.rows)} rows: {report(left)}\n{self._folder}"
        assert final.rows, "nothing was persisted: the test tested nothing"
        return final
