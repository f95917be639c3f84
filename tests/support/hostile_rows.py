"""Fills every table by SQL, with a given text in every column of type text."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import asyncpg

from persistence.tables.states import JobState

__all__ = ["BACKFILL", "DEAD", "MESSAGE", "REDRIVE", "fill"]

MESSAGE = UUID("00000000-0000-8000-8000-000000000001")
DEAD = UUID("00000000-0000-8000-8000-000000000002")
REDRIVE = UUID("00000000-0000-4000-8000-000000000003")
BACKFILL = UUID("00000000-0000-4000-8000-000000000004")

_PAST = datetime(2026, 11, 24, 20, 18, 19, 123456, UTC)

# The code branches on the values of these columns, so they keep valid values.
_MEANT: dict[tuple[str, str], Any] = {
    ("messages", "transport"): "redis",
    ("dead_letters", "kind"): "message",
    ("dead_letters", "reason"): "rejected",
    ("dead_letters", "state"): "pending",
    ("dead_letters", "transport"): "redis",
    ("delivery_attempts", "kind"): "message",
    ("delivery_attempts", "transport"): "redis",
    ("message_positions", "transport"): "redis",
    ("parity_reports", "kind"): "running",
    ("parity_reports", "primary_log"): "redis",
    ("parity_reports", "shadow_log"): "kafka",
    ("processes", "transport"): "redis",
    ("processes", "transport_shadow"): "kafka",
    ("processes", "transport_shadow_mode"): "async",
    ("processes", "consume_from"): "redis",
    ("fences", "transport"): "redis",
    ("shadow_gaps", "transport"): "redis",
    ("shadow_gaps", "shadow"): "kafka",
}
_NUMBERS = {"int2": 1, "int4": 1, "int8": 1, "float8": 1.0}
_SINGLE = {"migration", "log_chain"}
"""Tables of one row."""
_LEFT = {
    ("log_chain", "id"): 1,
    ("migration", "id"): 1,
    ("migration", "phase"): 0,
    ("migration", "target"): 0,
}


async def fill(
    connection: asyncpg.Connection,
    text: str,
    *,
    everywhere: bool = False,
    but: Collection[str] = (),
) -> None:
    """Empty all tables except those in ``but``, and insert rows with ``text`` into them.

    Columns whose values decide behaviour keep valid values, unless ``everywhere``.
    """
    columns = await connection.fetch(
        "SELECT table_name, column_name, udt_name, is_identity FROM information_schema.columns "
        "JOIN information_schema.tables USING (table_schema, table_name) "
        "WHERE table_schema = 'public' AND table_name <> 'alembic_version' "
        "AND table_type = 'BASE TABLE' ORDER BY table_name, ordinal_position"
    )
    tables: dict[str, list[asyncpg.Record]] = {}
    for column in columns:
        if column["table_name"] in but:
            continue
        tables.setdefault(column["table_name"], []).append(column)
    async with connection.transaction():  # a process records what it misses at once
        await connection.execute(f"TRUNCATE {', '.join(tables)} RESTART IDENTITY CASCADE")
        order = sorted(tables, key=lambda name: name != "messages")  # receipts need their message
        for table in order:
            rows = _jobs(text) if table == "jobs" else [{}] if table in _SINGLE else [{}, {}]
            for number, own in enumerate(rows):
                values = {
                    column["column_name"]: _value(column, text, number, everywhere=everywhere)
                    for column in tables[table]
                    if column["is_identity"] == "NO"
                }
                await _insert(connection, table, values | own)


def _jobs(text: str) -> list[dict[str, Any]]:
    """Return the columns of a job of each kind and state."""
    requests = {
        "redrive": (REDRIVE, {"selection": {"conversationId": text}, "untilId": 1}),
        "backfill": (BACKFILL, {"source": text, "target": text}),
    }
    return [
        {
            "id": UUID(int=first.int + (number << 64)), "kind": kind, "state": state,
            "request": json.dumps(request),
        }
        for kind, (first, request) in requests.items()
        for number, state in enumerate([*JobState, text])
    ]  # fmt: skip


async def _insert(connection: asyncpg.Connection, table: str, values: dict[str, Any]) -> None:
    places = ", ".join(f"${number}" for number in range(1, len(values) + 1))
    await connection.execute(
        f"INSERT INTO {table} ({', '.join(values)}) VALUES ({places})", *values.values()
    )


def _value(column: asyncpg.Record, text: str, number: int, *, everywhere: bool) -> Any:
    table, name, kind = column["table_name"], column["column_name"], column["udt_name"]
    own = f"{text}{number}" if number else text
    if (table, name) in _LEFT:
        return _LEFT[table, name]
    if (table, name) in _MEANT and not everywhere:
        return _MEANT[table, name]
    if kind == "uuid":
        return _identifier(table, name, number)
    if kind in _NUMBERS:
        return _NUMBERS[kind] + (number if name in {"partition", "epoch", "pid"} else 0)
    simple: dict[str, Callable[[], Any]] = {
        "text": lambda: own,
        "bytea": lambda: own.encode() + (b"\xff\0" if name != "record_key" else b"\xff"),
        "_text": lambda: [own, text],
        "_bytea": lambda: [own.encode(), b"\xff\0"],
        "_int8": lambda: [number],
        "timestamptz": lambda: _when(table, name, number),
        "bool": lambda: False,
        "jsonb": lambda: json.dumps(_json(table, name, own)),
    }
    return simple[kind]()


def _when(table: str, name: str, number: int) -> datetime | None:
    if name == "finished_at":
        return None
    if (table, name) == ("processes", "seen_at") and number:
        return _PAST
    return datetime.now(UTC) if name in {"seen_at", "until", "failed_at", "started_at"} else _PAST


def _identifier(table: str, name: str, number: int) -> UUID:
    if table == "dead_letters":
        return DEAD
    several = name == "id" or table == "message_positions"
    return UUID(int=MESSAGE.int + (number << 64)) if several else MESSAGE


def _json(table: str, name: str, text: str) -> Any:
    return {
        ("jobs", "request"): {},
        ("jobs", "cursor"): {"0": text},
        ("jobs", "counts"): {text: 1},
        ("log_chain", "links"): [{"log": text, "marks": None, "is_open": True}],
        ("migration", "queued"): {
            "to": 1, "who": text, "why": text, "at": "2026-11-24T20:18:19Z",
            "until": "2026-11-24T20:18:19Z", "seenAt": "2026-11-24T20:18:19Z", "red": [text],
        },
        ("migration_events", "gates"): [{"name": text, "verdict": "red", "reason": text}],
        ("migration_events", "overrides"): {text: text},
        ("parity_reports", "counts"): {"matched": 1, "missing_in_shadow": 1, text: 1},
        ("parity_reports", "lag"): [1],
        ("parity_reports", "samples"): [
            {
                "result": "missing_in_shadow", "partition": 0, "messageId": text,
                "primaryOffset": text, "shadowOffset": text, "correlationId": text,
                "traceId": text, "detail": text, "at": "2026-11-24T20:18:19Z",
            }
        ],
        ("processes", "owned"): {text: {"0": 1, "1": 1}},
        ("processes", "paused"): [
            {"dependency": text, "since": text, "error": text},
        ],
        ("processes", "shadow"): {
            "name": text, "mode": text, "breaker": text, "waiting": 1, "oldest_age": 1.0,
            "dropped": 1, "error": text,
        },
        ("processes", "followers"): {
            text: {
                "epochs": {"0": 1}, "paused": [],
                "waiting": [{"partition": 0, "offset": text, "since": text, "reason": text}],
            }
        },
        ("processes", "figures"): None,
        ("processes", "logs"): {text: text},
        ("processes", "throttled"): {text[:16]: 1.5},
        ("processes", "append_outage"): {
            "log": text, "since": text, "last": text, "error": text,
        },
    }[table, name]  # fmt: skip
