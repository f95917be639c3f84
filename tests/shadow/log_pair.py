"""Two logs, one the shadow of the other, as a test uses and hurts them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any

from tests.shadow.recording_observer import RecordingObserver
from tests.support.eventually import eventually
from tests.support.fault_proxy import FaultProxy
from tests.support.whole_log import records_of
from transport.contract import Record, Transport
from transport.errors import TransportUnavailable
from transport.registry import create
from transport.settings import TransportSettings
from transport.shadow.mirror import Mirror
from transport.shadow.transport import ShadowTransport

__all__ = ["LogPair", "Shadowed", "everything"]

_PATIENCE_MS = 20_000


@dataclass(frozen=True)
class Shadowed:
    """One process's transport of two, and what its observer and its ledger were told."""

    transport: ShadowTransport
    mirror: Mirror
    watch: RecordingObserver


@dataclass(frozen=True)
class LogPair:
    """The settings that lead to both logs, and the proxies in front of them."""

    settings: TransportSettings
    proxies: Mapping[str, FaultProxy]

    @property
    def primary(self) -> str:
        return self.settings.transport

    @property
    def shadow(self) -> str:
        assert self.settings.transport_shadow is not None
        return self.settings.transport_shadow

    @property
    def shadow_proxy(self) -> FaultProxy:
        return self.proxies[self.shadow]

    @property
    def primary_proxy(self) -> FaultProxy:
        return self.proxies[self.primary]

    @asynccontextmanager
    async def process(self, mode: str, **changes: Any) -> AsyncIterator[Shadowed]:
        """Do as one process does that writes to both logs, with these settings changed.

        It tries until both logs are open: the limits of the settings are for what is tested.
        """
        settings = self.settings.model_copy(update={"transport_shadow_mode": mode, **changes})
        async with AsyncExitStack() as stack:

            async def opened() -> Shadowed | None:
                try:
                    return await stack.enter_async_context(self._opened(settings))
                except TransportUnavailable:
                    return None

            yield await eventually(opened)

    @asynccontextmanager
    async def _opened(self, settings: TransportSettings) -> AsyncIterator[Shadowed]:
        watch = RecordingObserver()
        mirror = Mirror(
            create(self.shadow, settings),
            primary=self.primary,
            settings=settings,
            observer=watch,
            gaps=watch,
        )
        async with ShadowTransport(create(self.primary, settings), mirror) as transport:
            yield Shadowed(transport, mirror, watch)

    async def stands(self, name: str) -> list[Record]:
        """Return the records of the log called ``name``, by partition.

        With time enough: the limits of the settings are for what is tested.
        """
        patient = {"redis_timeout_ms": _PATIENCE_MS, "kafka_timeout_ms": _PATIENCE_MS}
        async with create(name, self.settings.model_copy(update=patient)) as log:
            return await everything(log)


async def everything(log: Transport) -> list[Record]:
    """Return every message in ``log``, by partition and in order."""
    return [
        record for partition in range(log.partitions) for record in await records_of(log, partition)
    ]
