"""The argument of ``docs/order.md`` as a model, and each of its assumptions broken on purpose.

Two logs, readers of either that come, sleep and go, and one table. Nothing here is the service: it
is what the service has to be like. That the service is like it, other tests show.
"""

from __future__ import annotations

from random import Random
from typing import NamedTuple

import pytest

RUNS = 300


class Message(NamedTuple):
    number: int
    sent: float
    acknowledged: float


class Broken(NamedTuple):
    """Which assumption does not hold."""

    holes: bool = False
    """The second log misses messages that were acknowledged, as an asynchronous shadow may."""
    late_copies: bool = False
    """Copies may be appended after the acknowledgement."""
    begins_too_late: bool = False
    """A reader begins beyond a message that is not persisted."""
    inserts_out_of_order: bool = False
    """A reader inserts a batch in another order than its log's."""


def messages_of(random: Random) -> list[Message]:
    found = []
    for number in range(30):
        sent = random.uniform(0, 10)
        found.append(Message(number, sent, sent + random.uniform(0.05, 1.5)))
    return found


def log_of(random: Random, messages: list[Message], broken: Broken) -> list[int]:
    """The order in which one log has them: each at some moment before it was acknowledged."""
    late = 2.0 if broken.late_copies else 0.0
    placed = [
        (random.uniform(one.sent, one.acknowledged + late), one.number)
        for one in messages
        if not (broken.holes and random.random() < 0.1)
    ]
    return [number for _, number in sorted(placed)]


class Reader:
    """Takes batches from its place on. It may sleep with a batch in hand and wake at any time."""

    def __init__(self, log: list[int], rows: list[int], random: Random, broken: Broken) -> None:
        settled = set(rows)
        self.log, self.random, self.broken = log, random, broken
        self.place = next((p for p, one in enumerate(log) if one not in settled), len(log))
        if broken.begins_too_late:
            self.place += random.randint(0, 3)
        self.hand: list[int] = []

    def step(self, rows: list[int]) -> None:
        if not self.hand:
            self.hand = self.log[self.place : self.place + self.random.randint(1, 4)]
            return
        batch = list(self.hand)
        if self.broken.inserts_out_of_order:
            self.random.shuffle(batch)
        rows.extend(one for one in batch if one not in rows)
        self.place += len(self.hand)
        self.hand = []


def run(seed: int, broken: Broken) -> list[str]:
    """Let readers of both logs work side by side; return what went wrong."""
    random = Random(seed)
    messages = messages_of(random)
    logs = log_of(random, messages, Broken()), log_of(random, messages, broken)
    rows: list[int] = []
    readers = [Reader(logs[0], rows, random, Broken())]
    for _ in range(60):
        if random.random() < 0.15:
            readers.append(Reader(random.choice(logs), rows, random, broken))
        if random.random() < 0.1 and len(readers) > 1:
            readers.pop(random.randrange(len(readers)))
        random.choice(readers).step(rows)
    last = Reader(logs[1], rows, random, broken)
    while last.place < len(last.log):
        last.step(rows)
    wrong = [f"lost {one.number}" for one in messages if one.number not in rows]
    at = {number: place for place, number in enumerate(rows)}
    wrong += [
        f"{two.number} before {one.number}"
        for one in messages
        for two in messages
        if one.acknowledged < two.sent and at.get(one.number, 0) > at.get(two.number, 99)
    ]
    return wrong


def test_the_order_survives_while_every_assumption_holds():
    assert [run(seed, Broken()) for seed in range(RUNS)] == [[]] * RUNS


@pytest.mark.parametrize("assumption", Broken._fields)
def test_each_assumption_is_needed(assumption):
    broken = Broken(**{assumption: True})
    assert any(run(seed, broken) for seed in range(RUNS)), "it can be left out of the argument"
