"""The argument of ``docs/order.md`` as a model, and each of its assumptions broken on purpose.

Two logs of N and M partitions, readers of any partition that come, sleep and go, and one table. An
insert takes its numbers first and is visible later, as in PostgreSQL. Nothing here is the service:
it is what the service has to be like. That the service is like it, other tests show.
"""

from __future__ import annotations

from random import Random
from typing import NamedTuple

import pytest

RUNS = 150
COUNTS = ((1, 1), (2, 4), (4, 2), (2, 3))
CONVERSATIONS = (3, 5, 7)
"""By their hashes."""


class Message(NamedTuple):
    number: int
    conversation: int
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
    copies_keep_the_partition: bool = False
    """Half of the copies stand in the primary's partition, not in the shadow's home: two homes."""
    locks_by_partition: bool = False
    """Inserts of a conversation share a lock only where their partitions have the same number."""


def messages_of(random: Random) -> list[Message]:
    found = []
    for number in range(30):
        sent = random.uniform(0, 10)
        conversation = random.choice(CONVERSATIONS)
        found.append(Message(number, conversation, sent, sent + random.uniform(0.05, 1.5)))
    return found


Partition = list[Message]


def log_of(
    random: Random, messages: list[Message], counts: tuple[int, int], broken: Broken
) -> list[Partition]:
    """The order in which one log has them: each at some moment before it was acknowledged."""
    late = 2.0 if broken.late_copies else 0.0
    placed = [
        (random.uniform(message.sent, message.acknowledged + late), message)
        for message in messages
        if not (broken.holes and random.random() < 0.1)
    ]
    primary, count = counts
    partitions: list[Partition] = [[] for _ in range(count)]
    for _, message in sorted(placed):
        home = message.conversation % count
        if broken.copies_keep_the_partition and random.random() < 0.5:
            home = message.conversation % primary % count
        partitions[home].append(message)
    return partitions


class Table:
    """Rows by number, those that are visible, and a reader of pages of each conversation."""

    def __init__(self) -> None:
        self.rows: dict[Message, int] = {}
        self.visible: set[Message] = set()
        self.held: set[object] = set()
        self.pages: list[Message] = []
        self._next = 0

    def insert(self, batch: Partition, locks: set[object]) -> bool:
        """Take the locks, and draw numbers; false where another insert has one of the locks."""
        if self.held & locks:
            return False
        self.held |= locks
        for message in batch:
            self._next += 1
            self.rows.setdefault(message, self._next)
        return True

    def commit(self, batch: Partition, locks: set[object]) -> None:
        self.held -= locks
        self.visible.update(batch)

    def read(self) -> None:
        """Read the next page of each conversation: what is visible behind the last row seen."""
        for conversation in CONVERSATIONS:
            seen = [
                self.rows[message] for message in self.pages if message.conversation == conversation
            ]
            page = [
                message
                for message in self.visible
                if message.conversation == conversation
                and self.rows[message] > max(seen, default=0)
            ]
            self.pages += sorted(page, key=self.rows.__getitem__)


class Reader:
    """Takes batches from its place on. It may sleep with a batch in hand and wake at any time."""

    def __init__(
        self, partition: Partition, number: int, table: Table, random: Random, broken: Broken
    ) -> None:
        self.log, self.number, self.random, self.broken = partition, number, random, broken
        self.place = next(
            (p for p, message in enumerate(partition) if message not in table.visible),
            len(partition),
        )
        if broken.begins_too_late:
            self.place += random.randint(0, 3)
        self.hand: Partition = []
        self.inserted: tuple[Partition, set[object]] | None = None

    def step(self, table: Table) -> None:
        if self.inserted:
            table.commit(*self.inserted)
            self.inserted = None
            self.place += len(self.hand)
            self.hand = []
        elif not self.hand:
            self.hand = self.log[self.place : self.place + self.random.randint(1, 4)]
        else:
            # A message of one key that another insert has in hand is waited for: the unique key.
            batch = [message for message in self.hand if message not in table.visible]
            if any(message in table.rows for message in batch):
                return
            if self.broken.inserts_out_of_order:
                self.random.shuffle(batch)
            locks: set[object] = (
                {self.number}
                if self.broken.locks_by_partition
                else {message.conversation for message in batch}
            )
            if table.insert(batch, locks):
                self.inserted = batch, locks

    @property
    def is_done(self) -> bool:
        return self.place >= len(self.log)


def run(seed: int, counts: tuple[int, int], broken: Broken) -> list[str]:
    """Let readers of both logs work side by side; return what went wrong."""
    random = Random(seed)
    messages = messages_of(random)
    logs = (
        log_of(random, messages, (counts[0], counts[0]), Broken()),
        log_of(random, messages, counts, broken),
    )
    table = Table()
    readers = [Reader(p, n, table, random, Broken()) for n, p in enumerate(logs[0])]
    for _ in range(120):
        if random.random() < 0.15:
            number, partition = random.choice(list(enumerate(random.choice(logs))))
            readers.append(Reader(partition, number, table, random, broken))
        if random.random() < 0.1 and len(readers) > 1:
            gone = readers.pop(random.randrange(len(readers)))
            if gone.inserted:
                table.commit(*gone.inserted)  # sent: nobody can take it back
        random.choice(readers).step(table)
        table.read()
    for reader in readers:
        if reader.inserted:
            reader.step(table)
    table.read()
    for number, partition in enumerate(logs[1]):
        last = Reader(partition, number, table, random, broken)
        while not last.is_done:
            last.step(table)
            table.read()
    wrong = [f"lost {message.number}" for message in messages if message not in table.visible]
    wrong += [
        f"{two.number} before {message.number}"
        for message in messages
        for two in messages
        if message.conversation == two.conversation
        and message.acknowledged < two.sent
        and table.rows.get(message, 0) > table.rows.get(two, 99999)
    ]
    return wrong + [
        f"passed by pages: {message.number}" for message in table.visible - set(table.pages)
    ]


@pytest.mark.parametrize("counts", COUNTS)
def test_the_order_survives_while_every_assumption_holds(counts):
    assert [run(seed, counts, Broken()) for seed in range(RUNS)] == [[]] * RUNS


@pytest.mark.parametrize("assumption", Broken._fields)
@pytest.mark.parametrize("counts", [(2, 4), (4, 3)])
def test_each_assumption_is_needed(assumption, counts):
    broken = Broken(**{assumption: True})
    assert any(run(seed, counts, broken) for seed in range(RUNS)), "it can be left out"
