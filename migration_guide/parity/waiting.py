"""Records that wait for their counterpart: in memory up to a limit, the rest in a temporary file.

The file is a SQLite database, deleted by SQLite when it is closed. Its page cache bounds its share
of memory. Between two healthy logs the file is never made: only records that the other log lacks
wait for long, and only those beyond ``limit`` go to the file.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from heapq import merge
from itertools import chain, islice, takewhile
from operator import attrgetter

import msgspec

from migration_guide.parity.facts import Facts

__all__ = ["UnpairedRecords"]

_place = attrgetter("place")
_PACK = msgspec.msgpack.Encoder().encode
_UNPACK = msgspec.msgpack.Decoder(Facts).decode

# The file's page cache. SQLite takes a negative number for KiB.
_CACHE_KIB = -2048
_SCHEMA = f"""
PRAGMA journal_mode = OFF;
PRAGMA synchronous = OFF;
PRAGMA cache_size = {_CACHE_KIB};
CREATE TABLE waiting (
    slot TEXT PRIMARY KEY, identity BLOB, stands BLOB, place BLOB, side INT, copy INT, young INT,
    appended_at REAL, facts BLOB
) WITHOUT ROWID;
CREATE INDEX by_identity ON waiting (identity);
CREATE INDEX by_scope ON waiting (stands, place) WHERE stands IS NOT NULL;
CREATE INDEX by_place ON waiting (side, copy, place);
CREATE INDEX by_age ON waiting (young, side, appended_at);
"""
_RIPE = "young = 1 AND side = ? AND appended_at < ?"
_RIPE_AT_ONCE = 500
_FILTER_BITS = 1 << 20


class UnpairedRecords:
    """Originals without their copy, and copies whose original has not been read.

    *Young* records may still meet their counterpart in the ordinary course. The others were judged
    (missing, or trimmed) and wait for a repair.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._young: dict[str, Facts] = {}
        self._old: dict[str, Facts] = {}
        # Both keep each log's order, since records come in that order.
        self._identities: dict[bytes, dict[str, Facts]] = {}
        self._scopes: dict[bytes, dict[str, Facts]] = {}
        self._file: _SpillFile | None = None
        self.young = [0, 0]  # originals, by side

    def close(self) -> None:
        """Delete the file, if there is one."""
        if self._file:
            self._file.close()
            self._file = None

    @property
    def held(self) -> int:
        """Number of records in memory."""
        return len(self._young) + len(self._old)

    @property
    def filed(self) -> int:
        """Number of records in the file."""
        return self._file.count if self._file else 0

    def add(self, facts: Facts) -> bool:
        """Add a record that waits; return false if another one waits for the same counterpart."""
        slot = _slot(facts)
        if slot in self._young or slot in self._old or (self._file and self._file.has(slot)):
            return False
        self._young[slot] = facts
        self._identities.setdefault(facts.identity, {})[slot] = facts
        self._scopes.setdefault(_stands(facts), {})[slot] = facts
        if facts.mirror is None:
            self.young[facts.side] += 1
        if self.held > self._limit:
            self._spill()
        return True

    def take_original(self, side: int, offset: str) -> Facts | None:
        """Return and remove the original of ``side`` at ``offset``."""
        return self._take(f"o{side}{offset}")

    def take_copy(self, side: int, offset: str) -> Facts | None:
        """Return and remove the copy whose original is at ``offset`` of ``side``."""
        return self._take(f"c{side}{offset}")

    def take_twin(self, side: int, identity: bytes) -> Facts | None:
        """Return and remove the first original of ``side`` with this identity."""
        for facts in self.same(identity):
            if facts.side == side and facts.mirror is None:
                return self._take(_slot(facts))
        return None

    def take(self, facts: Facts) -> None:
        """Remove a record."""
        self._take(_slot(facts))

    def same(self, identity: bytes) -> list[Facts]:
        """Return the waiting records of one message. Pass a changed one to ``keep``."""
        found = list(self._identities.get(identity, {}).values())
        if self._file and self._file.may_have(identity):
            found += self._file.where("identity = ?", identity)
        return found

    def before(self, side: int, scope: bytes, place: bytes) -> list[Facts]:
        """Return the records of ``side`` that wait before ``place`` in a conversation.

        Leaves out records that were judged and then passed once. For a copy that is so late, one
        exchanged pair is enough, and a conversation that lacks very many copies stays cheap. Pass a
        changed one to ``keep``.
        """
        stands = b"%d" % side + scope
        found = []
        for facts in self._scopes.get(stands, {}).values():
            if facts.place >= place:
                break
            found.append(facts)
        if self._file and self._file.may_have(stands):
            found += self._file.where("stands = ? AND place < ?", stands, place)
        return found

    def keep(self, facts: Facts) -> None:
        """Store the changed facts of a record that still waits."""
        if facts.judged is None and self._file is None:
            return  # in memory, and young: nothing here depends on what changed
        slot = _slot(facts)
        if facts.judged and slot in self._young:
            self._old[slot] = self._young.pop(slot)
            if facts.mirror is None:
                self.young[facts.side] -= 1
        if slot in self._old and _done(facts):
            _drop(self._scopes, _stands(facts), slot)
        elif slot not in self._old and slot not in self._young and self._file:
            if facts.judged and self._file.is_young(slot) and facts.mirror is None:
                self.young[facts.side] -= 1
            self._file.put(facts)

    def ripe(self, side: int, until: float) -> list[Facts]:
        """Return some young records of ``side`` that were appended before ``until``.

        The caller takes each of them, or judges it and passes it to ``keep``; then it asks for
        more.
        """
        if self._file and (
            found := self._file.where(f"{_RIPE} LIMIT {_RIPE_AT_ONCE}", side, until)
        ):
            return found
        ours = (facts for facts in self._young.values() if facts.side == side)
        # Each side's are in the order of its log.
        return list(islice(takewhile(lambda it: it.appended_at < until, ours), _RIPE_AT_ONCE))

    def first_original(self, side: int, *, young: bool = False) -> bytes | None:
        """Return the place of the first original of ``side``, ``None`` if none waits.

        With ``young``, only of those that are not judged yet.
        """
        waiting = chain(() if young else self._old.values(), self._young.values())
        places = [f.place for f in waiting if f.side == side and f.mirror is None]
        if self._file and (place := self._file.first_original(side, young=young)):
            places.append(place)
        return min(places, default=None)

    def first_copy(self, side: int) -> Facts | None:
        """Return the first copy that stands in ``side``, ``None`` if none waits."""
        copies = [f for f in self._young.values() if f.side == side and f.mirror is not None]
        if self._file:
            copies += self._file.where("side = ? AND copy = 1 ORDER BY place LIMIT 1", side)
        return min(copies, key=_place, default=None)

    def judged(self, side: int) -> Iterator[Facts]:
        """Yield the originals of ``side`` that were judged, in the order of their log."""
        here = (f for f in self._old.values() if f.side == side and f.mirror is None)
        filed = self._file.judged(side) if self._file else iter(())
        yield from merge(filed, sorted(here, key=_place), key=_place)

    def _take(self, slot: str) -> Facts | None:
        facts = self._young.pop(slot, None)
        if facts is not None and facts.mirror is None:
            self.young[facts.side] -= 1
        if facts is None:
            facts = self._old.pop(slot, None)
        if facts is not None:
            self._forget(facts)
        elif self._file and (facts := self._file.pop(slot)) is not None:
            self.young[facts.side] -= facts.mirror is None and not facts.judged
        return facts

    def _forget(self, facts: Facts) -> None:
        slot = _slot(facts)
        _drop(self._identities, facts.identity, slot)
        _drop(self._scopes, _stands(facts), slot)

    def _spill(self) -> None:
        """Move a quarter of the limit to the file: judged records first, then the oldest."""
        if self._file is None:
            self._file = _SpillFile()
        count = max(1, self._limit // 4)
        for source in (self._old, self._young):
            for slot in list(islice(source, count)):
                facts = source.pop(slot)
                self._forget(facts)
                self._file.put(facts)
                count -= 1


class _SpillFile:
    """The file: a table of the records that had no room in memory."""

    def __init__(self) -> None:
        self._db = sqlite3.connect("", isolation_level=None)
        self._db.executescript(_SCHEMA)
        self._filter = bytearray(_FILTER_BITS // 8)
        self.count = 0

    def close(self) -> None:
        self._db.close()

    def may_have(self, key: bytes) -> bool:
        """Return false only if nothing was filed under ``key``. Saves most queries."""
        bit = hash(key) % _FILTER_BITS
        return bool(self._filter[bit >> 3] & 1 << (bit & 7))

    def put(self, facts: Facts) -> None:
        slot = _slot(facts)
        stands = _stands(facts)
        if not self.has(slot):
            self.count += 1
        for key in (slot.encode(), facts.identity, stands):
            bit = hash(key) % _FILTER_BITS
            self._filter[bit >> 3] |= 1 << (bit & 7)
        self._db.execute(
            "INSERT OR REPLACE INTO waiting VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                slot,
                facts.identity,
                None if _done(facts) else stands,
                facts.place,
                facts.side,
                facts.mirror is not None,
                facts.judged is None,
                facts.appended_at,
                _PACK(facts),
            ),
        )

    def judged(self, side: int) -> Iterator[Facts]:
        sql = "SELECT facts FROM waiting WHERE side = ? AND copy = 0 AND young = 0 ORDER BY place"
        for (packed,) in self._db.execute(sql, (side,)):
            yield _UNPACK(packed)

    def first_original(self, side: int, *, young: bool) -> bytes | None:
        sql = "SELECT min(place) FROM waiting WHERE side = ? AND copy = 0 AND young >= ?"
        place: bytes | None = self._db.execute(sql, (side, young)).fetchone()[0]
        return place

    def has(self, slot: str) -> bool:
        return self.may_have(slot.encode()) and bool(self.where("slot = ?", slot))

    def is_young(self, slot: str) -> bool:
        return bool(self.where("slot = ? AND young = 1", slot))

    def pop(self, slot: str) -> Facts | None:
        if not self.may_have(slot.encode()):
            return None
        row = self._db.execute(
            "DELETE FROM waiting WHERE slot = ? RETURNING facts", (slot,)
        ).fetchone()
        if row is None:
            return None
        self.count -= 1
        return _UNPACK(row[0])

    def where(self, condition: str, *values: str | bytes | float) -> list[Facts]:
        sql = f"SELECT facts FROM waiting WHERE {condition}"  # noqa: S608 - conditions of ours
        return [_UNPACK(row[0]) for row in self._db.execute(sql, values)]


def _slot(facts: Facts) -> str:
    """Return a name for the counterpart that a record waits for: its copy, or its original."""
    if facts.mirror is None:
        return f"o{facts.side}{facts.offset}"
    return f"c{1 - facts.side}{facts.mirror}"


def _stands(facts: Facts) -> bytes:
    return b"%d" % facts.side + facts.scope


def _done(facts: Facts) -> bool:
    return facts.judged is not None and facts.passed_by is not None


def _drop(index: dict[bytes, dict[str, Facts]], key: bytes, slot: str) -> None:
    waiting = index.get(key)
    if waiting is not None:
        waiting.pop(slot, None)
        if not waiting:
            del index[key]
