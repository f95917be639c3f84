"""Any entry that Redis takes, among good messages: a row, a dead letter, or a counted repeat."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis.exceptions import ResponseError

from tests.persistence.samples import PARTITIONS

from .conftest import Site

LAST_MS = 2**64 - 2

_NAMES = st.one_of(
    st.sampled_from(
        [
            b"body", b"body", b"body", b"key", b"messageId", b"correlationId", b"contentType",
            b"traceparent", b"tracestate", b"mirrorOf", b"shadowMode", b"crossfade.redrives",
            b"crossfade.reason", b"crossfade.cut", b"__connect.errors.offset",
        ]
    ),
    st.binary(max_size=12),
)  # fmt: skip
_JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=200)),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
_TEXT = st.one_of(st.text(max_size=20), st.sampled_from(["a", "b", "\0", "x" * 3000, "\u202e"]))
_MESSAGES = st.fixed_dictionaries(
    {
        "type": st.just("message"),
        "v": st.just(1),
        "conversationId": _TEXT,
        "senderId": _TEXT,
        "clientMessageId": _TEXT,
        "content": _TEXT,
        "contentType": _TEXT,
    },
    optional={
        "messageId": st.one_of(_TEXT, st.uuids().map(str)),
        "idempotencyKey": _TEXT,
        "acceptedAt": st.one_of(_TEXT, st.datetimes().map(lambda at: at.isoformat() + "Z")),
        "correlationId": _TEXT,
        "recipientIds": st.lists(_TEXT, max_size=3),
        "payloadKey": _TEXT,
        "more": _JSON,
    },
)
_RECEIPTS = st.fixed_dictionaries(
    {
        "type": st.just("receipt"),
        "v": st.just(1),
        "messageId": st.one_of(_TEXT, st.uuids().map(str)),
        "userId": _TEXT,
        "state": st.sampled_from(["delivered", "read", "eaten"]),
    },
    optional={"at": st.one_of(_TEXT, st.datetimes().map(lambda at: at.isoformat() + "Z"))},
)
_VALUES = st.one_of(
    st.binary(max_size=60),
    st.one_of(_MESSAGES, _RECEIPTS, _JSON).map(lambda value: json.dumps(value).encode()),
    st.integers(-(2**80), 2**80).map(lambda number: str(number).encode()),
    st.sampled_from([b"redis:1-0", b"redis:x", b"kafka:-1", b"sync", b"async", b"00-0-0-00"]),
)
_FIELDS = st.lists(st.tuples(_NAMES, _VALUES), min_size=1, max_size=8)
_IDS = st.one_of(
    st.just("*"),
    st.just("*"),
    st.integers(0, LAST_MS).map(lambda ms: f"{ms}-1"),
    st.tuples(st.integers(0, 2**63), st.integers(1, 2**64 - 2)).map(lambda at: f"{at[0]}-{at[1]}"),
)
_ENTRIES = st.lists(
    st.tuples(st.integers(0, PARTITIONS - 1), _IDS, _FIELDS), min_size=1, max_size=12
)
_LETTERS = st.lists(st.tuples(_IDS, _FIELDS), min_size=1, max_size=12)


def _fuzzed(examples: int) -> Callable[[Any], Any]:
    return settings(
        max_examples=examples,
        derandomize=True,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )


def _flat(fields: list[tuple[bytes, bytes]]) -> list[bytes]:
    return [part for pair in fields for part in pair]


_STOOD = """
    SELECT partition, log_offset FROM messages WHERE log_offset = ANY($1)
    UNION ALL
    SELECT source_partition, source_offset FROM dead_letters WHERE source_offset = ANY($1)
"""


async def _each_entry_is_accounted_for(site: Site, entries: Any) -> None:
    before = site.counted()
    good = await site.good(*range(PARTITIONS))
    added = set()
    for partition, at, fields in entries:
        try:
            added.add((partition, await site.add(partition, *_flat(fields), at=at)))
        except ResponseError:  # an id that is not above the last
            continue
    good += await site.good(*range(PARTITIONS))
    await site.settled()
    found = "SELECT count(*) FROM messages WHERE id = ANY($1::uuid[])"
    assert await site.pool.fetchval(found, good) == len(good)
    stood = {tuple(row) for row in await site.pool.fetch(_STOOD, [at for _, at in added])}
    left = added - stood
    # Repeats of a key are counted; and of two letters that say they are of one record, one is kept.
    counted = {status: count - before[status] for status, count in site.counted().items()}
    assert sum(counted.values()) >= len(added) + len(good)
    assert len(left) <= counted["duplicate"] + counted["dead_lettered"]
    assert await site.lost() == 0


async def _each_letter_is_listed(site: Site, letters: Any) -> None:
    added = {}
    for at, fields in letters:
        try:
            told = await site.client.execute_command("XADD", "msg:dlq", at, *_flat(fields))
        except ResponseError:
            continue
        added[bytes(told).decode()] = dict(fields).get(b"body", b"")
    true = await site.add(0, b"body", b"no envelope")
    await site.settled()
    rows = await site.pool.fetch(
        "SELECT log_offset, source_offset, body FROM dead_letters"
        " WHERE log_offset = ANY($1) OR source_offset = $2 OR body = ANY($3)",
        list(added),
        true,
        list(added.values()),
    )
    assert true in {row["source_offset"] for row in rows}
    stood, bodies = {row["log_offset"] for row in rows}, {row["body"] for row in rows}
    for at, body in added.items():
        # Two that say they are of one record, and have its bytes, are one letter (the other one
        # may be an earlier example's).
        assert at in stood or body in bodies


@_fuzzed(25)
@given(entries=_ENTRIES)
async def test_any_entry_is_a_row_a_letter_or_a_counted_repeat(site: Site, entries: Any) -> None:
    await _each_entry_is_accounted_for(site, entries)


@_fuzzed(25)
@given(letters=_LETTERS)
async def test_any_entry_of_the_dead_letters_is_listed(site: Site, letters: Any) -> None:
    await _each_letter_is_listed(site, letters)


@pytest.mark.chaos
@pytest.mark.timeout(1800)
@_fuzzed(1000)
@given(entries=_ENTRIES)
async def test_any_entry_is_accounted_for_at_length(site: Site, entries: Any) -> None:
    await _each_entry_is_accounted_for(site, entries)


@pytest.mark.chaos
@pytest.mark.timeout(1800)
@_fuzzed(1000)
@given(letters=_LETTERS)
async def test_any_entry_of_the_dead_letters_is_listed_at_length(site: Site, letters: Any) -> None:
    await _each_letter_is_listed(site, letters)
