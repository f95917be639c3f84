"""Tells of logs whose settings somebody altered on their server while we run."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress

from compose.process.metrics import ProcessMetrics
from ingress.readiness import ComponentState, Probe
from otel.metrics import Metrics
from persistence.database.outage import stopped_within
from transport.contract import Transport
from transport.deadline import answer
from transport.errors import TransportError
from transport.features.alterations import TellsAlterations, tells_alterations

__all__ = ["AlteredLogs"]

_SECONDS = 15.0


class AlteredLogs:
    """The altered settings of each log that can tell them, as a gauge and for readiness.

    Args:
        logs: The logs of this process.
        metrics: Of this process.
        timeout_seconds: How long to wait for a log's answer. A log that does not answer has no
            gauge, and its own readiness component says so.
    """

    def __init__(
        self, logs: Sequence[Transport], metrics: Metrics, *, timeout_seconds: float
    ) -> None:
        self._logs = [(log.name, teller) for log in logs if (teller := tells_alterations(log))]
        self._altered = metrics.of(ProcessMetrics).altered
        self._timeout = timeout_seconds

    async def run(self, stop: asyncio.Event) -> None:
        """Set the gauges now, and every 15 seconds until ``stop`` is set.

        Redis's settings are held against those of the first look.
        """
        await self.report()
        while not await stopped_within(stop, _SECONDS):
            await self.report()

    async def report(self) -> None:
        """Ask each log once, and set its gauge."""
        await asyncio.gather(*(self._report(name, teller) for name, teller in self._logs))

    async def _report(self, name: str, teller: TellsAlterations) -> None:
        found = await self._of(teller)
        if found is not None:
            self._altered.labels(name).set(len(found))
        else:
            with suppress(KeyError):
                self._altered.remove(name)

    async def _of(self, teller: TellsAlterations) -> Sequence[str] | None:
        with suppress(TransportError, TimeoutError):
            return await answer(teller.alterations(), within=self._timeout)
        return None

    def probes(self) -> list[Probe]:
        """Return a probe for each log: degraded while its settings are altered."""
        return [self._probe(name, teller) for name, teller in self._logs]

    def _probe(self, log: str, teller: TellsAlterations) -> Probe:
        name = f"settings of the log ({log})"

        async def probe() -> ComponentState:
            if found := await self._of(teller):
                detail = (
                    f"Somebody altered them, or another server took over: {'; '.join(found)}. "
                    "Alter them back: records may be lost or refused, and a start may be refused."
                )
                return ComponentState(name, "degraded", False, detail)
            return ComponentState(name, "up", False, "As configured, as far as is known.")

        return probe
