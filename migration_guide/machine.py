"""The migration's state and the only ways to change it.

    at rest at n ──begin(n±1)──▶ under way n → n±1 ──complete──▶ at rest at n±1
         │  ▲                          │
       queue cancel, expire         begin(n): turned back, under way n±1 → n
         ▼  │
    at rest at n, a step queued ──begin──▶ under way

    at rest at the first or the last phase ──plan──▶ at rest at phase 0 of the next migration
                                           ──retire──▶ at rest at phase 0 of none

    at rest at 2, 3 or 4 ──unmark──▶ there with one whole log ──mark──▶ there with two

Every change names the epoch on which it was decided, and raises it, in one statement. If two
operators decide on the same state, one of them gets ``Overtaken``. The gates and overrides behind a
change are stored with it in the history.

The order in which the logs are read (``persistence.chain``) changes with the state, in the same
transaction.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager

import asyncpg
import msgspec

from migration_guide.errors import (
    MigrationError,
    NotAStep,
    NotPlanned,
    NotRetired,
    NotStarted,
    Overtaken,
    StepQueued,
)
from migration_guide.gates.result import GateResult
from migration_guide.history import EventKind, record_change, record_event
from migration_guide.mirrored import MIRRORED
from migration_guide.resting import must_not_wait, must_rest, rests_on, survivor
from persistence.chain.links import Chain
from persistence.chain.table import change as change_chain
from persistence.chain.table import read as read_chain
from persistence.database.pool import Connection, Pool, using
from persistence.fleet.log_choice import Choice, LogPair, adopted, choices
from persistence.fleet.migration_state import COLUMNS, MigrationState, state_of
from persistence.fleet.retired_logs import is_retired, retire_log
from persistence.fleet.used_logs import forget_used

__all__ = ["SILENT_SECONDS", "Machine"]

SILENT_SECONDS = 60.0
"""Seconds after which a queued step is given up: its command reports more often than this."""

_ADOPT = """
WITH made AS (
    INSERT INTO migration (id, phase, target, epoch, changed_by, why, old_log, new_log)
    VALUES (1, $1, $1, 1, $2, $3, $4, $5)
    ON CONFLICT DO NOTHING RETURNING epoch
)
INSERT INTO migration_events (epoch, kind, from_phase, to_phase, who, why, old_log, new_log)
SELECT epoch, 'adopted', $1, $1, $2, $3, $4, $5 FROM made
"""

# Locked: an overtaken operator is refused here, before the gates' results are recorded.
_LOOK = f"SELECT {COLUMNS} FROM migration FOR UPDATE"  # noqa: S608 - constants only

_CHANGE = f"""
UPDATE migration SET phase = $1::smallint, target = $2::smallint, queued = $3,
    reached_at = CASE WHEN $1::smallint = $2::smallint AND $2::smallint <> phase THEN now()
        ELSE reached_at END,
    epoch = epoch + 1,
    changed_at = now(), changed_by = $4, why = $5, old_log = $6, new_log = $7
RETURNING {COLUMNS}
"""  # noqa: S608 - constants only

_QUEUED = """
SELECT jsonb_build_object('to', $1::int, 'who', $2::text, 'why', $3::text, 'at', now(),
    'until', now() + make_interval(secs => $4), 'seenAt', now(), 'red', $5::jsonb)
"""

_STILL_QUEUED = """
UPDATE migration SET queued = queued || jsonb_build_object('seenAt', now(), 'red', $2::jsonb)
WHERE epoch = $1 AND queued IS NOT NULL
"""

_GIVEN_UP = """
SELECT now() > (queued->>'until')::timestamptz
    OR now() - (queued->>'seenAt')::timestamptz > make_interval(secs => $1)
FROM migration WHERE queued IS NOT NULL
"""


class Machine:
    """The one row of ``migration``. Methods raise ``Outage`` when PostgreSQL can't answer."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def adopt(self, choice: Choice, who: str) -> None:
        """Start at the phase with these settings, if there is no migration yet.

        It does nothing if there is a migration, or if the settings are no phase of any.
        """
        found = adopted(choice)
        if found is None:
            return
        pair, phase = found
        why = "the first process that started had these settings"
        async with using(self._pool) as connection:
            await connection.execute(_ADOPT, phase, who, why, pair.old, pair.new)

    async def plan(self, epoch: int, new: str, *, who: str, why: str) -> MigrationState:
        """Record the log that the next migration leads to; its phase 0 is where this one rests.

        Raises:
            Overtaken: the state was changed after ``epoch``.
            NotAStep: the migration does not rest where one log is written and read.
            StepQueued: a step waits for its gates.
            NotPlanned: the log was retired.
        """
        async with self._changing() as connection:
            state = await self._at(connection, epoch)
            must_rest(state)
            if await is_retired(connection, new):
                raise NotPlanned(f"{new} was retired, and its name is not used again")
            next_one = msgspec.structs.replace(state, pair=LogPair(rests_on(state), new))
            planned = await self._change(connection, next_one, who, why, phase=0, target=0)
            await record_change(connection, "planned", state, planned, to=0)
            return planned

    async def retire(
        self, epoch: int, name: str, *, used: bool, who: str, why: str
    ) -> MigrationState:
        """Record that a log is to be removed: no step leads to it, and no process may write it.

        A log that was never ``used`` is only taken out of the migration: its name stays free.

        Raises:
            Overtaken: the state was changed after ``epoch``.
            StepQueued: a step waits for its gates.
            NotAStep: the log is one of the migration's, which does not rest.
            NotRetired: it rests on this log, or a process names it.
        """
        async with self._changing() as connection:
            state = await self._at(connection, epoch)
            must_not_wait(state)
            after = state
            if name in state.pair.names:
                must_rest(state)
                if rests_on(state) == name:
                    raise NotRetired(f"{name} is the log that is written and read")
                pair = LogPair(rests_on(state), None)
                after = msgspec.structs.replace(state, pair=pair, phase=0, target=0)
            await _give_up(connection, name, rests_on(after), used=used, who=who, why=why)
            why = f"retired {name}: {why}"
            after = await self._change(connection, after, who, why)
            await record_change(connection, "retired", state, after)
            return after

    async def retire_lost(
        self,
        epoch: int,
        name: str,
        *,
        used: bool,
        who: str,
        why: str,
        accept_loss: bool = False,
    ) -> MigrationState:
        """Record that a log is gone for good; the migration rests on the other one.

        A log that was never ``used`` is only taken out of the migration: its name stays free.

        Raises:
            Overtaken: the state was changed after ``epoch``.
            StepQueued: a step waits for its gates.
            IncompleteCopy: the other log may lack messages, and that is not accepted.
            NotAStep: the migration has no other log.
            NotRetired: a process names the lost one.
        """
        async with self._changing() as connection:
            state = await self._at(connection, epoch)
            must_not_wait(state)
            after = state
            if name in state.pair.names:
                pair = LogPair(survivor(state, name, accept_loss=accept_loss), None)
                after = msgspec.structs.replace(state, pair=pair, phase=0, target=0)
            await _give_up(connection, name, rests_on(after), used=used, who=who, why=why)
            after = await self._change(connection, after, who, f"lost {name}: {why}")
            await record_change(connection, "retired", state, after)
            return after

    async def begin(
        self,
        epoch: int,
        to: int,
        *,
        who: str,
        why: str,
        gates: Sequence[GateResult] | None = None,
        overrides: Mapping[str, str] | None = None,
        queued: bool = False,
    ) -> MigrationState:
        """Record that the processes are to be restarted to phase ``to``; return the new state.

        Going back takes a queued step away; going forward does not.

        Args:
            epoch: The state's number when the caller read it.
            to: The phase.
            who: The operator.
            why: The operator's reason.
            gates: The gates' answers, for the history.
            overrides: The reason for each gate that is passed although it is not green. Each is
                recorded as an operator's action.
            queued: Whether it is the queued step that begins.

        Raises:
            Overtaken: the state was changed after ``epoch``.
            NotAStep: ``to`` can't be reached from here in one step.
            StepQueued: another step waits for its gates.
            NotStarted: there is nothing to change.
        """
        async with self._changing() as connection:
            state = await self._at(connection, epoch)
            _must_be_a_step(state, to)
            waiting = state.queued
            if queued and (waiting is None or waiting.to != to):
                raise Overtaken(epoch)
            if waiting is not None and not queued:
                if not await self._over(connection, state) and to > state.phase:
                    raise StepQueued(waiting.to, waiting.who)
                state = await self._unqueue(connection, state, "cancelled", who, why)
            # A step that is turned back starts from the phase that it was to reach.
            origin = state.target if state.under_way else state.phase
            if to not in MIRRORED:
                left = state.pair.other(choices(state.pair)[to].transport)
                await _change_chain(connection, lambda chain: chain.closed(left or ""))
            new = await self._change(connection, state, who, why, phase=origin, target=to)
            await record_change(connection, "begun", state, new, gates=gates, overrides=overrides)
            return new

    async def complete(self, epoch: int, *, who: str, chain: Chain | None = None) -> MigrationState:
        """Record that every process is on the target; ``chain`` replaces the present one.

        Raises:
            Overtaken: the state, or the chain that ``chain`` was made of, was changed since.
            NotAStep: no step is under way.
        """
        async with self._changing() as connection:
            state = await self._at(connection, epoch)
            if not state.under_way:
                raise NotAStep(f"no step is under way: the migration stands at {state.phase}")
            await _replace_chain(connection, epoch, chain)
            new = await self._change(connection, state, who, state.why, phase=state.target)
            await record_change(connection, "completed", state, new)
            return new

    async def unmark(self, *, who: str, why: str) -> None:
        """Record that a message may be in one log only, and remove the queued step."""
        async with self._changing() as connection:
            state = await self._at(connection, None)
            if state.queued is not None:
                state = await self._unqueue(connection, state, "cancelled", who, why)
            new = await self._change(connection, state, who, why)
            await record_change(connection, "unmarked", state, new)

    async def mark(self, epoch: int, chain: Chain, *, who: str) -> MigrationState:
        """Record where the migration rests that both logs are whole again.

        Raises:
            Overtaken: the state, or the chain that ``chain`` was made of, was changed since.
        """
        async with self._changing() as connection:
            state = await self._at(connection, epoch)
            await _replace_chain(connection, epoch, chain)
            new = await self._change(connection, state, who, state.why)
            await record_change(connection, "marked", state, new)
            return new

    async def queue(
        self, epoch: int, to: int, *, who: str, why: str, seconds: float, red: Sequence[str]
    ) -> MigrationState:
        """Queue a step for ``seconds``: visible to all, and gone when its time is up.

        Raises:
            Overtaken: the state was changed after ``epoch``.
            NotAStep: ``to`` can't be reached from here in one step.
            StepQueued: another step waits already.
        """
        async with self._changing() as connection:
            state = await self._at(connection, epoch)
            _must_be_a_step(state, to)
            if (waiting := state.queued) is not None:
                if not await self._over(connection, state):
                    raise StepQueued(waiting.to, waiting.who)
                state = await self._unqueue(connection, state, "expired", who, "its time was up")
            queued = await connection.fetchval(
                _QUEUED, to, who, why, seconds, json.dumps(list(red))
            )
            new = await self._change(connection, state, who, why, queued=queued)
            await record_change(connection, "queued", state, new, to=to)
            return new

    async def still_queued(self, epoch: int, red: Sequence[str]) -> bool:
        """Record that the step queued at ``epoch`` is still wanted; ``False`` if it is gone."""
        async with using(self._pool) as connection:
            done = await connection.execute(_STILL_QUEUED, epoch, json.dumps(list(red)))
        return done == "UPDATE 1"

    async def cancel(
        self, epoch: int, *, who: str, why: str, expired: bool = False
    ) -> MigrationState:
        """Remove the queued step.

        Raises:
            Overtaken: the state was changed after ``epoch``.
            NotAStep: none is queued.
        """
        async with self._changing() as connection:
            state = await self._at(connection, epoch)
            if state.queued is None:
                raise NotAStep("no step is queued")
            return await self._unqueue(
                connection, state, "expired" if expired else "cancelled", who, why
            )

    async def note(self, state: MigrationState, kind: EventKind, *, who: str, why: str) -> None:
        """Add an event to the history, without changing anything else."""
        async with using(self._pool) as connection:
            await record_event(connection, state, kind, who=who, why=why)

    @asynccontextmanager
    async def _changing(self) -> AsyncIterator[Connection]:
        """Lend a transaction. A refusal ends it before anything is written, and is raised."""
        refusal: MigrationError | None = None
        async with using(self._pool) as connection, connection.transaction():
            try:
                yield connection
            except MigrationError as error:
                refusal = error
        if refusal is not None:
            raise refusal

    async def _at(self, connection: Connection, epoch: int | None) -> MigrationState:
        row = await connection.fetchrow(_LOOK)
        if row is None:
            raise NotStarted
        state = state_of(row)
        if epoch is not None and state.epoch != epoch:
            raise Overtaken(epoch)
        return state

    async def _over(self, connection: Connection, state: MigrationState) -> bool:
        """Return whether the command that queued the step is gone."""
        assert state.queued is not None
        return bool(await connection.fetchval(_GIVEN_UP, SILENT_SECONDS))

    async def _unqueue(
        self, connection: Connection, state: MigrationState, kind: EventKind, who: str, why: str
    ) -> MigrationState:
        assert state.queued is not None
        new = await self._change(connection, state, who, why, queued=None)
        await record_change(connection, kind, state, new, to=state.queued.to)
        return new

    async def _change(
        self,
        connection: Connection,
        state: MigrationState,
        who: str,
        why: str,
        *,
        phase: int | None = None,
        target: int | None = None,
        queued: str | None = None,
    ) -> MigrationState:
        """Change the named columns; a queued step that is not named is removed."""
        row = await connection.fetchrow(
            _CHANGE,
            state.phase if phase is None else phase,
            state.target if target is None else target,
            queued,
            who,
            why,
            state.pair.old,
            state.pair.new,
        )
        assert isinstance(row, asyncpg.Record)
        return state_of(row)


async def _give_up(
    connection: Connection, name: str, survivor: str, *, used: bool, who: str, why: str
) -> None:
    """Forget that a log is used, and read it no more. Its name is free, unless it had records.

    Raises:
        NotRetired: a process names it.
    """
    if not await forget_used(connection, name):
        raise NotRetired(f"a process has {name} in its settings")
    await _change_chain(connection, lambda chain: chain.without(name, survivor))
    if used:
        await retire_log(connection, name, who=who, why=why)


async def _change_chain(connection: Connection, changed: Callable[[Chain], Chain]) -> None:
    chain = await read_chain(connection, locked=True)
    if chain.links and (found := changed(chain)) != chain:
        await change_chain(connection, found, seen=chain.version)


async def _replace_chain(connection: Connection, epoch: int, chain: Chain | None) -> None:
    if chain is not None and await change_chain(connection, chain, seen=chain.version) is None:
        raise Overtaken(epoch)


def _must_be_a_step(state: MigrationState, to: int) -> None:
    if not state.under_way and abs(to - state.phase) == 1 and to in range(len(choices(state.pair))):
        return
    if state.under_way and to == state.phase:
        return
    if not state.under_way:
        raise NotAStep(
            f"phase {to} is no phase next to phase {state.phase}: each step is safe beside its "
            "neighbours only"
        )
    raise NotAStep(
        f"the step from phase {state.phase} to {state.target} is under way: finish the restarts "
        f"and it is complete, or take it back to phase {state.phase}"
    )
