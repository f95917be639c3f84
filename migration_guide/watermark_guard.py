"""Void the watermark where it no longer says what the gate ``watermark`` reads from it.

The watermark says: every message behind it is in both logs. No step makes that wrong. But settings
can be changed by hand, and a PostgreSQL that fails over can lose the record of a step. Each process
notices both by itself: the recorded phase mirrors and its own settings do not, or the state that it
hears is older than the one that it heard before. ``Steps.complete`` records a new watermark, once
every process is on the phase.
"""

from __future__ import annotations

import structlog

from migration_guide.errors import MigrationError
from migration_guide.machine import Machine
from migration_guide.mirrored import MIRRORED
from persistence.fleet.log_choice import Choice, phase_of
from persistence.fleet.migration_state import MigrationState

__all__ = ["WatermarkGuard"]

_log = structlog.get_logger(__name__)


class WatermarkGuard:
    """Compares the migration's state with one process's settings, and with earlier states."""

    def __init__(self, machine: Machine, choice: Choice, *, who: str) -> None:
        self._machine = machine
        self._choice = choice
        self._who = who
        self._newest = 0

    async def compare(self, state: MigrationState | None) -> None:
        """Void the watermark of ``state`` if this process disproves it.

        Raises:
            Outage: PostgreSQL can't answer now. The next call tries again.
        """
        if state is None:
            return
        reason = self._doubt(state)
        if reason is not None and state.watermark is not None:
            try:
                await self._machine.unmark(state.epoch, who=self._who, why=reason)
            except MigrationError:
                return  # another process was first, or a step began; the next call looks again
            _log.warning(
                "The watermark of the migration is void: messages may be in one log only. The gate "
                "'watermark' waits until all that is in the logs now is persisted",
                reason=reason,
            )
        self._newest = state.epoch

    def _doubt(self, state: MigrationState) -> str | None:
        if not {state.phase, state.target} <= set(MIRRORED):
            return None
        phase = phase_of(self._choice, state.pair)
        if phase not in MIRRORED:
            runs = "no phase" if phase is None else f"phase {phase}"
            return f"it runs {runs}, where the migration stands at phase {state.phase}"
        if state.epoch < self._newest:
            return f"PostgreSQL lost the migration's changes {state.epoch + 1} to {self._newest}"
        return None
