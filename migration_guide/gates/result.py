"""The result of a gate, and the data that a gate may read."""

from __future__ import annotations

from collections.abc import Awaitable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, Self

import msgspec

from migration_guide.meant_log import must_be_meant
from persistence.database.pool import Pool
from persistence.fleet.log_choice import Choice, LogPair, choices
from persistence.fleet.migration_state import MigrationState
from persistence.fleet.processes import Process
from transport.contract import Transport
from transport.existing import must_exist
from transport.registry import create
from transport.settings import TransportSettings

__all__ = [
    "Gate",
    "GateResult",
    "Scene",
    "Verdict",
    "green",
    "position_in_words",
    "red",
    "unknown",
]

Verdict = Literal["green", "red", "unknown"]


class GateResult(msgspec.Struct, frozen=True):
    """One gate's answer: a verdict, a sentence with the reason, and the figures behind it.

    ``unknown`` never counts as ``green``: it is the verdict if a gate can't check something that it
    has to check.
    """

    name: str
    verdict: Verdict
    reason: str
    evidence: dict[str, Any] = {}
    remedy: str | None = None
    """An operator's action without which the gate stays as it is; ``reason`` ends with it. ``None``
    if waiting can turn the gate green: the service, its servers and restarts may do that."""


@dataclass
class Scene:
    """The data for one round of gates, thrown away afterwards.

    The gates judge ``state`` and ``processes``; logs are opened when first asked for. ``window`` is
    how many seconds back parity has to hold.
    """

    pool: Pool
    settings: TransportSettings
    state: MigrationState
    processes: list[Process]
    origin: int
    to: int
    window: float = 600.0
    logs: dict[str, Transport] = field(default_factory=dict)
    _stack: AsyncExitStack = field(default_factory=AsyncExitStack)

    @property
    def before(self) -> Choice:
        """The settings that the processes have now."""
        return choices(self.pair)[self.origin]

    @property
    def after(self) -> Choice:
        """The settings that the processes will have after the step."""
        return choices(self.pair)[self.to]

    @property
    def pair(self) -> LogPair:
        """The two logs of the migration."""
        return self.state.pair

    @property
    def direction(self) -> tuple[str, str]:
        """The log that the step leads away from, and the one that it leads to."""
        old, new = self.pair.old, self.pair.new
        assert new is not None  # a step was planned
        return (old, new) if self.to > self.origin else (new, old)

    async def log(self, name: str) -> Transport:
        """Return an open log.

        Raises:
            WrongLogError: these settings lead to another log than those of the processes.
            TransportError: the log can't be opened, or it does not exist although processes use it.
        """
        if name not in self.logs:
            if name in (self.before.transport, self.before.shadow, self.before.consume_from):
                await must_exist(name, self.settings)
            log = await self._stack.enter_async_context(create(name, self.settings))
            await must_be_meant(log, self.pool)
            self.logs[name] = log
        return self.logs[name]

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._stack.aclose()


class Gate(Protocol):
    """Checks the scene, changes nothing, and answers. It may raise errors of servers."""

    def __call__(self, scene: Scene) -> Awaitable[GateResult]:
        """Return the answer."""


def green(name: str, reason: str, evidence: Mapping[str, Any] | None = None) -> GateResult:
    """Return a pass."""
    return GateResult(name, "green", reason, dict(evidence or {}))


def red(
    name: str,
    reason: str,
    evidence: Mapping[str, Any] | None = None,
    *,
    remedy: str | None = None,
) -> GateResult:
    """Return a refusal. See ``GateResult.remedy``."""
    return GateResult(name, "red", _sentence(reason, remedy), dict(evidence or {}), remedy)


def unknown(
    name: str,
    reason: str,
    evidence: Mapping[str, Any] | None = None,
    *,
    remedy: str | None = None,
) -> GateResult:
    """Return an answer that neither passes nor refuses. See ``GateResult.remedy``."""
    return GateResult(name, "unknown", _sentence(reason, remedy), dict(evidence or {}), remedy)


def position_in_words(through: str | None) -> str:
    """Return PostgreSQL's position in a partition as text; ``None`` is an unknown one."""
    return "an unknown position" if through is None else through or "no record"


def _sentence(reason: str, remedy: str | None) -> str:
    return reason if remedy is None else f"{reason}: {remedy}"
