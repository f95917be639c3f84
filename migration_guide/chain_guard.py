"""Compare the chain with what this process writes before it acknowledges a message.

A log is whole if every process writes it before it acknowledges. No step of a migration makes that
wrong. But settings can be changed by hand. Then each process that does not write a whole log takes
it out of the chain, before it accepts a message. ``Steps.complete`` makes both logs whole again,
once every process is on a phase that writes both.
"""

from __future__ import annotations

import structlog

from migration_guide.errors import MigrationError
from migration_guide.machine import Machine
from persistence.chain.known_chain import KnownChain
from persistence.fleet.log_choice import Choice
from persistence.fleet.migration_state import MigrationState

__all__ = ["ChainGuard"]

_log = structlog.get_logger(__name__)


class ChainGuard:
    """Keeps the chain true for one process that accepts messages.

    Args:
        machine: Records the change in the migration's history.
        chain: The chain as the process knows it.
        choice: The process's logs.
        who: The process's name.
    """

    def __init__(self, machine: Machine, chain: KnownChain, choice: Choice, *, who: str) -> None:
        self._machine = machine
        self._chain = chain
        self._choice = choice
        self._who = who

    async def compare(self, state: MigrationState | None) -> None:
        """Read the chain, and change it if this process disproves it.

        Raises:
            Outage: PostgreSQL can't answer now. The next call tries again.
        """
        choice = self._choice
        await self._chain.begin(choice.consume_from)
        written = {choice.transport}
        if choice.mode == "sync" and choice.shadow is not None:
            written.add(choice.shadow)
        before = self._chain.now
        if not await self._chain.update(
            lambda chain: chain.changed_by_hand(choice.transport, written)
        ):
            return
        _log.warning(
            "Settings were changed by hand: messages may be in one log only, and rows of a "
            "conversation may come out of order",
            writes=sorted(written),
            expected=sorted(before.whole()),
            remedy="change logs with 'crossfade migrate'",
        )
        if before.both_whole and state is not None:
            why = f"it writes {', '.join(sorted(written))} alone"
            try:
                await self._machine.unmark(who=self._who, why=why)
            except MigrationError:
                return
