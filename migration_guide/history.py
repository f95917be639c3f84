"""The history of the migration: one event for each change, with the gates and reasons behind it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Literal

import msgspec

from migration_guide.gates.result import GateResult
from persistence.database.pool import Connection
from persistence.fleet.migration_state import MigrationState
from persistence.operator_actions import record_done

__all__ = ["EventKind", "record_change", "record_event"]

EventKind = Literal[
    "planned",
    "begun",
    "completed",
    "queued",
    "cancelled",
    "expired",
    "forgotten",
    "retired",
    "marked",
    "unmarked",
]

_EVENT = """
INSERT INTO migration_events
    (epoch, kind, from_phase, to_phase, who, why, gates, overrides, old_log, new_log)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
"""


async def record_change(
    connection: Connection,
    kind: EventKind,
    before: MigrationState,
    after: MigrationState,
    *,
    gates: Sequence[GateResult] | None = None,
    overrides: Mapping[str, str] | None = None,
    to: int | None = None,
) -> None:
    """Record a change of the state, in the transaction that makes it.

    Args:
        connection: The connection of the transaction.
        kind: The kind of change.
        before: The state before it.
        after: The state after it, with who changed it and why.
        gates: The answers of the gates of a step that begins.
        overrides: The reason for each gate that was passed although it was not green. Each is an
            operator's action too.
        to: The phase of a queued step; by default the target of ``after``.
    """
    await connection.execute(
        _EVENT,
        after.epoch,
        kind,
        after.phase if kind == "begun" else before.phase,
        after.target if to is None else to,
        after.changed_by,
        after.why,
        None if gates is None else msgspec.json.encode(gates).decode(),
        json.dumps(dict(overrides)) if overrides else None,
        after.pair.old,
        after.pair.new,
    )
    for gate in gates or ():
        if overrides and gate.name in overrides:
            await _record_passed(connection, gate, after, why=overrides[gate.name])


async def record_event(
    connection: Connection, state: MigrationState, kind: EventKind, *, who: str, why: str
) -> None:
    """Record an event that changes nothing."""
    await connection.execute(
        _EVENT,
        state.epoch,
        kind,
        state.phase,
        state.target,
        who,
        why,
        None,
        None,
        state.pair.old,
        state.pair.new,
    )


async def _record_passed(
    connection: Connection, gate: GateResult, state: MigrationState, *, why: str
) -> None:
    await record_done(
        connection,
        who=state.changed_by,
        action="overrule gate" if gate.verdict == "red" else "accept unknown gate",
        target=f"gate {gate.name}, step from phase {state.phase} to {state.target}",
        why=why,
        result=f"passed; it was {gate.verdict}: {gate.reason}",
    )
