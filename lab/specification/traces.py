"""Turns the conversations of a history into traces: recorded changes of the model's variables.

See ``docs/proof.md``. A conversation is cut into pieces at quiet times, when every message sent
before is settled and nothing is under way. Nothing more can come of what is settled, so each piece
begins with empty logs (``Trace.tla``).
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from lab.specification.history_lines import (
    AttemptLine,
    ConversationLines,
    RecordLine,
    RowLine,
    Story,
)

__all__ = ["THREADS", "ConversationTrace", "Event", "traces_of"]

THREADS = ("answers", "steps", "old", "new", "rows", "old places", "new places")
NEVER = math.inf
_WRITERS: Mapping[str, set[int | None]] = {"async": {1}, "sync": {2, 3, 4}}
"""By shadow mode, the phases in which ingresses make such copies."""


class Event(NamedTuple):
    """Something that happened between ``lo`` and ``hi``; ``fields`` are TLA+ expressions."""

    what: str
    lo: float
    hi: float
    key: str | None = None
    """The key of the event's message, if it has one."""
    fields: Mapping[str, str] = {}


@dataclass(frozen=True)
class ConversationTrace:
    """A piece of one conversation.

    ``messages`` are keys, in the order in which they were first sent. ``after`` has, by key, the
    messages that were acknowledged before this one was sent.
    """

    conversation: str
    start: int
    messages: Sequence[str]
    after: Mapping[str, Sequence[str]]
    threads: Mapping[str, Sequence[Event]]


@dataclass
class _Message:
    """All attempts, rows and records of one key."""

    key: str
    attempts: list[AttemptLine] = field(default_factory=list)
    rows: list[RowLine] = field(default_factory=list)
    records: list[RecordLine] = field(default_factory=list)

    @property
    def sent(self) -> float:
        return min((a.sent for a in self.attempts), default=NEVER)

    @property
    def told(self) -> float:
        """When a client first got the acknowledgement."""
        return min((a.end for a in self.attempts if a.outcome == "ok"), default=NEVER)

    @property
    def settled(self) -> float:
        """The time after which nothing of this message can change any more."""
        if not self.rows:
            return NEVER if self.records else max(a.end for a in self.attempts)
        first = min((r.at for r in self.records), default=0.0)
        told = self.told if self.told < NEVER else 0.0
        row = min(row.at for row in self.rows)
        under_way = [a.end for a in self.attempts if a.sent < max(row, told)]
        return max(first, told, row, *under_way)


def traces_of(story: Story, *, least: int, slack: float) -> Iterator[ConversationTrace]:
    """Yield the pieces of each conversation.

    Args:
        story: A history.
        least: Smallest number of messages in a piece; the last piece may have fewer.
        slack: Seconds by which a record or a row may really be later than its timestamp.
    """
    for conversation in story.conversations.values():
        for messages, begins, ends in _pieces(story, conversation, least):
            yield _trace(story, conversation, messages, begins, ends, slack)


def _messages(conversation: ConversationLines) -> dict[str, _Message]:
    found: dict[str, _Message] = defaultdict(lambda: _Message(""))
    by_digest: dict[str, str] = {}
    for attempt in conversation.attempts:
        by_digest[attempt.digest or ""] = attempt.key
        found.setdefault(attempt.key, _Message(attempt.key)).attempts.append(attempt)
    for row in conversation.rows:
        found.setdefault(row.key, _Message(row.key)).rows.append(row)
    for record in conversation.records:
        found[by_digest[record.digest or ""]].records.append(record)
    return dict(found)


def _pieces(
    story: Story, conversation: ConversationLines, least: int
) -> Iterator[tuple[list[_Message], float, float]]:
    """Yield the messages of each piece, and the piece's begin and end."""
    messages = sorted(_messages(conversation).values(), key=lambda message: message.sent)
    orders = _orders(conversation)
    piece: list[_Message] = []
    begins, busy = -NEVER, -NEVER
    before: set[str] = set()
    for message in messages:
        quiet = busy + story.clock_error < message.sent - story.clock_error
        if (
            quiet
            and len(piece) >= least
            and story.phase_at(busy, message.sent) is not None
            and all(_is_prefix(order, before) for order in orders)
        ):
            cut = (busy + message.sent) / 2
            yield piece, begins, cut
            piece, begins = [], cut
        piece.append(message)
        before.add(message.key)
        busy = max(busy, message.settled)
    if piece:
        yield piece, begins, NEVER


def _orders(conversation: ConversationLines) -> list[list[str]]:
    """Return the recorded orders (rows, each log), with each message at its first place."""
    keys = {a.digest: a.key for a in conversation.attempts}
    of_log: dict[str, list[str]] = defaultdict(list)
    for record in conversation.records:
        of_log[record.log].append(keys[record.digest])
    rows = [row.key for row in conversation.rows]
    return [list(dict.fromkeys(order)) for order in (rows, *of_log.values())]


def _is_prefix(order: Sequence[str], keys: set[str]) -> bool:
    """Return whether the members of ``order`` that are in ``keys`` come before all others."""
    count = sum(key in keys for key in order)
    return all(key in keys for key in order[:count])


def _trace(
    story: Story, conversation: ConversationLines, messages: Sequence[_Message],
    begins: float, ends: float, slack: float,
) -> ConversationTrace:  # fmt: skip
    error = story.clock_error
    told = sorted((m.told, m.key) for m in messages if m.told < NEVER)
    own = {message.key: message for message in messages}
    keys = {a.digest: a.key for m in messages for a in m.attempts}
    threads: dict[str, list[Event]] = {name: [] for name in THREADS}
    threads["answers"] = [Event("told", -NEVER, at, key) for at, key in told]
    threads["steps"] = list(_steps(story, begins, ends))
    homes = {
        log: Counter(r.partition for r in conversation.records if r.log == log).most_common(1)[0][0]
        for log in {r.log for r in conversation.records}
    }
    standing: dict[tuple[str, int], list[int]] = defaultdict(list)  # ordinals, by log and partition
    places: dict[tuple[str, int, str], int] = {}
    # Later records of these messages come after they were settled, and are left out.
    ours = [r for r in conversation.records if r.digest in keys and r.at <= ends]
    for record in ours:
        among = standing[record.log, record.partition]
        among.append(record.ordinal)
        places[record.log, record.partition, record.offset] = len(among)
    modes_of = {
        tuple(r.mirror_of.split(":", 1)): r.mode for r in conversation.records if r.mirror_of
    }
    for record in ours:
        message = own[keys[record.digest]]
        log = story.role(record.log)
        fields = {
            "log": f'"{log}"',
            "q": "1" if record.partition == homes[record.log] else "2",
        }
        lo, hi = record.at - error, record.at + error + slack
        if record.mirror_of is None:
            by = {a.phase for a in message.attempts if a.sent <= record.at + error}
            mode = modes_of.get((record.log, record.offset))
            by = by & _WRITERS.get(mode or "", by) or by
            fields["phases"] = _set(str(phase) for phase in sorted(p for p in by if p is not None))
            threads[log].append(Event("original", max(lo, message.sent), hi, message.key, fields))
        else:
            source, _, offset = record.mirror_of.partition(":")
            there = record.partition if record.mirror_partition is None else record.mirror_partition
            fields["index"] = str(places.get((source, there, offset), 0))
            modes = (record.mode,) if record.mode in ("sync", "async") else ("sync", "async")
            fields["modes"] = _set(f'"{mode}"' for mode in modes)
            threads[log].append(Event("copy", lo, hi, message.key, fields))
    for row in conversation.rows:
        if row.key in own:
            its_log = {"log": f'"{story.role(row.log)}"'}
            lo, hi = row.at - error, row.at + error + slack
            threads["rows"].append(Event("row", lo, hi, row.key, its_log))
    for log, home in homes.items():
        role = story.role(log)
        threads[f"{role} places"] = list(
            _places(role, story.places.get((log, home), ()), standing[log, home], begins, ends)
        )
    return ConversationTrace(
        conversation=conversation.name,
        start=story.phase_at(begins, begins) or 0 if begins > -NEVER else story.first_phase,
        messages=[message.key for message in messages],
        after=_after(messages),
        threads={name: _tight(events) for name, events in threads.items()},
    )


def _steps(story: Story, begins: float, ends: float) -> Iterator[Event]:
    for step in story.steps:
        if step.begun is None or not begins <= step.asked <= ends:
            continue
        names = {"from": str(step.origin), "to": str(step.to)}
        yield Event("begin", step.asked, step.begun, None, names)
        if step.rolled is not None:
            arrived = step.arrived if step.arrived is not None else step.begun
            yield Event("end", arrived, step.rolled, None, {"to": str(step.to)})


def _places(
    role: str, seen: Iterable[tuple[float, int]], standing: Sequence[int],
    begins: float, ends: float,
) -> Iterator[Event]:  # fmt: skip
    """Yield the positions, as the number of this conversation's records that are before them."""
    last = 0
    for at, ordinal in seen:
        count = bisect_left(standing, ordinal + 1)
        if begins <= at <= ends and count > last:
            last = count
            fields = {"log": f'"{role}"', "count": str(count)}
            yield Event("place", -NEVER, at, None, fields)


def _after(messages: Sequence[_Message]) -> dict[str, list[str]]:
    """Return, for each message, those acknowledged before it was sent, without implied ones."""
    found: dict[str, list[str]] = {}
    told = sorted((m.told, m.sent, m.key) for m in messages if m.told < NEVER)
    moments = [at for at, _, _ in told]
    for message in messages:
        earlier = told[: bisect_left(moments, message.sent)]
        # A message acknowledged before another of these was sent is implied by that one.
        latest = max((sent for _, sent, _ in earlier), default=-NEVER)
        found[message.key] = [key for at, _, key in earlier if at >= latest]
    return found


def _tight(events: Sequence[Event]) -> list[Event]:
    """Return the events with their intervals narrowed to agree with their order."""
    los: list[float] = []
    for event in events:
        los.append(max(event.lo, los[-1] if los else -NEVER))
    hi, tight = NEVER, list[Event]()
    for event, lo in zip(reversed(events), reversed(los), strict=True):
        hi = min(hi, max(event.hi, lo))
        tight.append(event._replace(lo=lo, hi=hi))
    return tight[::-1]


def _set(members: Iterable[str]) -> str:
    return "{" + ", ".join(members) + "}"
