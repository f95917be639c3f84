"""Compare this process's settings with the migration's; warn once, and show it in metrics.

Settings changed by hand are not refused: they can't lose or double a message. But no gate was
checked, and gates guard the order of messages.
"""

from __future__ import annotations

import math

import structlog
from prometheus_client import CollectorRegistry, Gauge

from migration_guide.phases import phases
from otel.metrics import Metrics
from persistence.fleet.log_choice import Choice, LogPair, choices, phase_of
from persistence.fleet.migration_state import MigrationState

__all__ = ["Expectation", "MigrationMetrics"]

_log = structlog.get_logger(__name__)


class MigrationMetrics:
    """The migration's phase, and this process's."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.phase = Gauge(
            "migration_phase",
            "The phase (0 to 5) that every process was last seen on; NaN while unknown.",
            registry=registry,
        )
        self.target = Gauge(
            "migration_target_phase",
            "The phase the processes are being restarted to, else migration_phase; NaN: unknown.",
            registry=registry,
        )
        self.epoch = Gauge(
            "migration_epoch",
            "Rises with every change of the migration's state.",
            registry=registry,
        )
        self.process_phase = Gauge(
            "migration_process_phase",
            "The phase that this process's settings amount to; -1 where they are no phase.",
            registry=registry,
        )
        self.unexpected_settings = Gauge(
            "migration_unexpected_settings",
            "1 while this process's settings are neither the recorded phase's nor the next one's.",
            registry=registry,
        )
        for gauge in (self.phase, self.target, self.epoch):
            gauge.set(math.nan)


class Expectation:
    """Compares this process's settings with the migration's state, each time that it is read."""

    def __init__(self, choice: Choice, metrics: Metrics) -> None:
        self._choice = choice
        self._metrics = metrics.of(MigrationMetrics)
        self._warned: int | None = None
        self._metrics.process_phase.set(-1)

    def compare(self, state: MigrationState | None) -> None:
        """Set the gauges, and warn when the settings are not expected: once for each phase."""
        if state is None:
            return
        metrics, pair = self._metrics, state.pair
        phase = phase_of(self._choice, pair)
        metrics.process_phase.set(-1 if phase is None else phase)
        metrics.phase.set(state.phase)
        metrics.target.set(state.target)
        metrics.epoch.set(state.epoch)
        unexpected = phase not in state.tolerated
        metrics.unexpected_settings.set(unexpected)
        if not unexpected:
            self._warned = None
        elif self._warned != state.phase:
            self._warned = state.phase
            _log.warning(
                "These settings are not the migration's: nothing acknowledged is lost and no row "
                "doubled, but messages of a conversation may be persisted out of order, since no "
                "gate has checked where the readers would start",
                settings=_settings(self._choice),
                runs=_label(phase, pair),
                expected=" or ".join(_label(number, pair) for number in sorted(state.expected)),
                remedy=f"set {_settings(choices(pair)[state.target])} and restart, or take the "
                "steps one by one with 'crossfade migrate advance --why ...' or 'rollback'",
            )


def _settings(choice: Choice) -> str:
    return " ".join(f"{name}={value}" for name, value in choice.environment().items())


def _label(phase: int | None, pair: LogPair) -> str:
    return "no phase" if phase is None else f"phase {phases(pair)[phase].label}"
