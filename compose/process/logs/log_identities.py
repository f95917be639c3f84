"""The identity of each log, compared with the identity that PostgreSQL has for the log's name.

Two processes with the same ``TRANSPORT`` and different ``REDIS_HOST`` write two logs under one
name. Both work, and the messages of one conversation end up in both logs. So such a process logs
an error and is degraded.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress

import structlog

from compose.process.metrics import ProcessMetrics
from ingress.readiness import ComponentState
from otel.metrics import Metrics
from persistence.database.outage import stopped_within
from transport.contract import Transport
from transport.deadline import answer
from transport.errors import TransportError

__all__ = ["LogIdentities"]

_log = structlog.get_logger(__name__)

_SECONDS = 2.0
_WITHIN = 1.0


class LogIdentities:
    """The identity of each log, as the log last answered.

    Args:
        logs: The logs that this process connects to.
        metrics: Of this process.
        others: Names of further logs that the settings have; these are not asked.
    """

    def __init__(
        self, logs: Sequence[Transport], metrics: Metrics, others: Iterable[str] = ()
    ) -> None:
        self._logs = logs
        self._replaced = metrics.of(ProcessMetrics).replaced
        self._met: dict[str, str | None] = dict.fromkeys([*others, *(log.name for log in logs)])
        self._strangers: list[str] = []

    async def run(self, stop: asyncio.Event) -> None:
        """Ask every two seconds until ``stop`` is set: an address may come to lead elsewhere."""
        while not await stopped_within(stop, _SECONDS):
            await self.ask()

    async def ask(self) -> None:
        """Ask every log, for a second at most; a log that does not answer keeps its identity."""
        await asyncio.gather(*map(self._ask, self._logs))

    async def _ask(self, log: Transport) -> None:
        with suppress(TransportError, TimeoutError):
            self._met[log.name] = await answer(log.identity(), within=_WITHIN)

    def report(self) -> dict[str, str | None]:
        """Return the identity of each log by name; ``None`` if it has not answered yet."""
        return dict(self._met)

    def compare(self, known: Mapping[str, str]) -> None:
        """Compare each log with the known identity of its name; log an error if they differ.

        Args:
            known: The identity that PostgreSQL has, by the log's name.
        """
        before = self._strangers
        self._strangers = [
            name
            for name, identity in self._met.items()
            if identity and known.get(name, identity) != identity
        ]
        for log in self._logs:
            self._replaced.labels(log.name).set(log.name in self._strangers)
        for name in self._strangers:
            if name not in before:
                _log.error(
                    "Another log than the one that its name means: messages of a conversation may "
                    "stand in two logs, out of order",
                    log=name,
                    met=self._met[name],
                    known=known[name],
                    remedy=_remedy(name),
                )

    async def probe(self) -> ComponentState:
        """Return the readiness component: degraded if a name means another log here."""
        if not self._strangers:
            return ComponentState("identity", "up", False, "Each log is the one its name means.")
        detail = " ".join(
            f"{name} is another log than the one that its name means: {_remedy(name)}."
            for name in self._strangers
        )
        return ComponentState("identity", "degraded", False, detail)


def _remedy(name: str) -> str:
    return (
        "check this process's address of it; give another server a name of its own (a label); if "
        "the log was emptied or made anew, say so with 'crossfade migrate forget-log "
        f"{name} --why ...'"
    )
