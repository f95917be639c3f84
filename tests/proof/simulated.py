"""Random short histories: what a service might have done to one conversation, and changes to it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random

from compose.rehearsal.specification.history_lines import (
    AttemptLine,
    ConversationLines,
    RecordLine,
    RowLine,
    StepLine,
    Story,
)

__all__ = ["CHANGES", "NEW", "OLD", "simulated"]

OLD, NEW = "redis", "kafka.b"
_MODES = {1: "async", 2: "sync", 3: "sync", 4: "sync"}
_GATED = {(2, 3), (4, 3), (3, 2)}


def simulated(seed: int, messages: int = 4) -> Story:
    """Return a history of some seconds, in which everything happens in any order that may be."""
    run = _Run(Random(seed), messages)
    for _ in range(14 * messages):
        run.step()
    run.drain()
    return run.story


class _Run:
    def __init__(self, rng: Random, messages: int) -> None:
        self.rng, self.left, self.now = rng, messages, 100.0
        start = rng.randrange(6)
        self.present = [start]
        self.walk = [start]
        for _ in range(rng.randrange(3)):
            ends = {0: [1], 5: [4]}
            self.walk.append(
                rng.choice(ends.get(self.walk[-1], [self.walk[-1] + d for d in (-1, 1)]))
            )
        self.conversation = ConversationLines("c")
        self.places: dict[str, list[tuple[float, int]]] = {OLD: [], NEW: []}
        self.story = Story(
            old=OLD, new=NEW, clock_error=0.001, conversations={"c": self.conversation},
            places={(log, 3): seen for log, seen in self.places.items()}, first_phase=start,
        )  # fmt: skip
        self.copies: list[tuple[str, RecordLine, AttemptLine]] = []
        self.place = {OLD: 0, NEW: 0}
        self.acked: set[str] = set()
        self.due: set[str] = set()

    def step(self) -> None:
        self.now += self.rng.uniform(0.01, 0.3)
        doings = [self.send, self.copy, self.insert, self.insert, self.acknowledge, self.walk_on]
        self.rng.choice(doings)()

    def drain(self) -> None:
        for _ in range(60):
            self.now += 0.1
            self.rng.choice([self.copy, self.insert, self.acknowledge])()

    @property
    def rows(self) -> list[str]:
        return [row.key for row in self.conversation.rows]

    def of_log(self, log: str) -> list[RecordLine]:
        return [record for record in self.conversation.records if record.log == log]

    def send(self) -> None:
        """Send a new message, or once more one that was not answered."""
        attempts = self.conversation.attempts
        unanswered = [a.key for a in attempts if a.key not in self.acked and a.outcome == "unknown"]
        if unanswered and self.rng.random() < 0.6:
            key = self.rng.choice(unanswered)
        elif self.left:
            self.left -= 1
            key = f"k{len({a.key for a in attempts})}"
        else:
            return
        phase = self.rng.choice(self.present)
        attempt = AttemptLine(
            client="w", kind="message", conversation="c", key=key, digest=f"d{key}",
            sent=self.now, ended=self.now + 0.9, outcome="unknown", phase=phase,
        )  # fmt: skip
        attempts.append(attempt)
        if key in self.rows and self.rng.random() < 0.5:
            self.answer(attempt)
            return
        primary, shadow = (OLD, NEW) if phase <= 3 else (NEW, OLD)
        original = self.append(primary, key)
        mode = _MODES.get(phase)
        answered = self.rng.random() < 0.9
        if mode and (mode == "sync" or answered):
            self.copies.append((shadow, original, attempt))
        if mode != "sync" and answered:
            self.answer(attempt)

    def answer(self, attempt: AttemptLine) -> None:
        self.acked.add(attempt.key)
        if self.now < attempt.sent + 0.9:
            attempt.outcome, attempt.ended = "ok", self.now + 0.01

    def append(self, log: str, key: str) -> RecordLine:
        count = len(self.of_log(log))
        record = RecordLine(
            log=log,
            partition=3,
            offset=str(count),
            at=self.now,
            digest=f"d{key}",
            ordinal=count + 1,
        )
        self.conversation.records.append(record)
        return record

    def copy(self) -> None:
        if self.copies:
            log, original, attempt = self.copies.pop(self.rng.randrange(len(self.copies)))
            mode = _MODES[attempt.phase or 0]
            if mode == "async" and self.rng.random() < 0.2:
                return
            copy = self.append(log, attempt.key)
            copy.mirror_of, copy.mode = f"{original.log}:{original.offset}", mode
            if mode == "sync":
                self.answer(attempt)

    def insert(self) -> None:
        self.write(*self.read(1))

    def read(self, most: int) -> tuple[str, list[str]]:
        """Return a log that is consumed, and the next messages in it that are no rows."""
        log = OLD if self.rng.choice(self.present) <= 2 else NEW
        keys = [(record.digest or "")[1:] for record in self.of_log(log)]
        return log, [key for key in dict.fromkeys(keys) if key not in self.rows][:most]

    def write(self, log: str, keys: Sequence[str]) -> None:
        self.conversation.rows += [
            RowLine(key=key, conversation="c", log=log, at=self.now) for key in keys
        ]

    def acknowledge(self) -> None:
        log = self.rng.choice([OLD, NEW])
        records = self.of_log(log)
        while self.place[log] < len(records):
            if (records[self.place[log]].digest or "")[1:] not in self.rows:
                break
            self.place[log] += 1
        if self.place[log] and self.rng.random() < 0.5:
            self.places[log].append((self.now, self.place[log]))

    def walk_on(self) -> None:
        self.due -= set(self.rows)
        if len(self.present) == 2:
            before, to = self.present
            if _MODES.get(to) == "sync" and _MODES.get(before) != "sync":
                self.due = self.acked - set(self.rows)
            log, held = self.read(self.rng.choice([0, 1, 2]))  # a worker that freezes with a batch
            self.present = [to]
            step = self.story.steps[-1]
            step.arrived, step.rolled = self.now, self.now + 0.02
            self.now += self.rng.uniform(0.03, 1.0)
            self.write(log, held)
        elif len(self.walk) > 1:
            origin, to = self.walk[:2]
            if self.due and (origin, to) in _GATED:
                return
            self.walk.pop(0)
            self.present = [origin, to]
            self.story.steps.append(
                StepLine(origin=origin, to=to, asked=self.now - 0.02, begun=self.now)
            )


def _swap_rows(rng: Random, story: Story) -> None:
    rows = story.conversations["c"].rows
    if len(rows) > 1:
        at = rng.randrange(len(rows) - 1)
        rows[at], rows[at + 1] = rows[at + 1], rows[at]


def _move_row(rng: Random, story: Story) -> None:
    for row in rng.sample(story.conversations["c"].rows, 1):
        row.at += rng.choice([-2, -1, 1, 2])


def _other_log(rng: Random, story: Story) -> None:
    row = rng.choice(story.conversations["c"].rows)
    row.log = NEW if row.log == OLD else OLD


def _drop_row(rng: Random, story: Story) -> None:
    rows = story.conversations["c"].rows
    rows.pop(rng.randrange(len(rows)))


def _swap_records(rng: Random, story: Story) -> None:
    records = story.conversations["c"].records
    log = rng.choice([OLD, NEW])
    among = [at for at, record in enumerate(records) if record.log == log]
    if len(among) > 1:
        at = rng.randrange(len(among) - 1)
        a, b = among[at], among[at + 1]
        records[a], records[b] = records[b], records[a]
        records[a].ordinal, records[b].ordinal = records[b].ordinal, records[a].ordinal


def _move_record(rng: Random, story: Story) -> None:
    rng.choice(story.conversations["c"].records).at += rng.choice([-2, -1, 1, 2])


def _drop_record(rng: Random, story: Story) -> None:
    records = story.conversations["c"].records
    records.pop(rng.randrange(len(records)))


def _answer_earlier(rng: Random, story: Story) -> None:
    attempt = rng.choice(story.conversations["c"].attempts)
    attempt.outcome, attempt.ended = "ok", attempt.sent + 0.001


def _see_further(rng: Random, story: Story) -> None:
    log = rng.choice([OLD, NEW])
    count = sum(record.log == log for record in story.conversations["c"].records)
    seen = story.places[log, 3]
    seen.append((rng.uniform(100, 106), rng.randint(1, max(count, 1))))
    seen.sort()


def _move_step(rng: Random, story: Story) -> None:
    for step in story.steps[:1]:
        by = rng.choice([-2.0, -1.0, 1.0, 2.0])
        step.asked, step.begun = step.asked + by, (step.begun or 0) + by
        step.rolled = step.rolled and max(step.rolled, step.begun + 0.01)


def _other_phase(rng: Random, story: Story) -> None:
    attempt = rng.choice(story.conversations["c"].attempts)
    attempt.phase = rng.randrange(6)


CHANGES: Sequence[Callable[[Random, Story], None]] = (
    _swap_rows, _move_row, _other_log, _drop_row, _swap_records, _move_record, _drop_record,
    _answer_earlier, _see_further, _move_step, _other_phase,
)  # fmt: skip
