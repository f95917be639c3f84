"""Random short histories: what a service might have done to one conversation, and changes to it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random

from lab.specification.history_lines import (
    AttemptLine,
    ConversationLines,
    RecordLine,
    RowLine,
    StepLine,
    Story,
)
from persistence.chain.links import Chain, ChainLink, Marks

__all__ = ["CHANGES", "NEW", "OLD", "simulated"]

OLD, NEW = "redis", "kafka.b"
_MODES = {1: "async", 2: "sync", 3: "sync", 4: "sync"}
_BOTH = (2, 3, 4)


def simulated(seed: int, messages: int = 4) -> Story:
    """Return a history of some seconds, in which everything happens in any order that may be.

    What may become a row is what the service's own chain allows.
    """
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
        self.record_of: dict[str, RecordLine] = {}
        self.acked: set[str] = set()
        self.chain = Chain(links=(ChainLink(_logs(start)[0]),))
        self.mark(start)

    def step(self) -> None:
        self.now += self.rng.uniform(0.01, 0.3)
        doings = [self.send, self.copy, self.insert, self.insert, self.follow, self.walk_on]
        self.rng.choice(doings)()

    def drain(self) -> None:
        for _ in range(60):
            self.now += 0.1
            self.rng.choice([self.copy, self.insert, self.follow])()

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
        if key in self.rows and self.is_kept(key, phase) and self.rng.random() < 0.5:
            self.answer(attempt)
            return
        primary, shadow = _logs(phase)
        original = self.append(primary, key)
        mode = _MODES.get(phase)
        answered = self.rng.random() < 0.9
        if mode and (mode == "sync" or answered):
            self.copies.append((shadow, original, attempt))
        if mode != "sync" and answered:
            self.answer(attempt)

    def is_kept(self, key: str, phase: int) -> bool:
        record = self.record_of[key]
        return self.chain.leads_to(record.log, 3, record.offset, _key, mirrors=phase in _BOTH)

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
            at = self.rng.randrange(len(self.copies))
            log, original, attempt = self.copies[at]
            if self.rng.random() < 0.9:  # else its answer is lost, and it is made again
                self.copies.pop(at)
            mode = _MODES[attempt.phase or 0]
            if mode == "async" and self.rng.random() < 0.2:
                return
            copy = self.append(log, attempt.key)
            copy.mirror_of, copy.mode = f"{original.log}:{original.offset}", mode
            if mode == "sync":
                self.answer(attempt)

    def insert(self) -> None:
        """Insert the next records of a log in one statement, as far as the chain allows it."""
        log = self.rng.choice([OLD, NEW])
        bound = _key(self.chain.bound(log, log, 3, _key))
        for record in self.of_log(log)[self.place[log] :][: self.rng.randint(1, 3)]:
            if not (self.chain.is_unbounded(log) or _key(record.offset) <= bound):
                break
            self.place[log] += 1
            if (key := _message_of(record)) not in self.rows:
                self.record_of[key] = record
                self.conversation.rows.append(
                    RowLine(key=key, conversation="c", log=log, at=self.now)
                )
        self.open()

    def follow(self) -> None:
        log = self.rng.choice([OLD, NEW])
        for record in self.of_log(log)[self.place[log] :]:
            if _message_of(record) not in self.rows:
                break
            self.place[log] += 1
        self.open()
        if self.place[log] and self.rng.random() < 0.5:
            self.places[log].append((self.now, self.place[log]))

    def open(self) -> None:
        for log, place in self.place.items():
            self.chain = self.chain.opened(log, log, _last(place), _key)

    def mark(self, phase: int) -> None:
        if phase in _BOTH and not self.chain.both_whole:
            ends = {log: Marks(log, _last(len(self.of_log(log)))) for log in (OLD, NEW)}
            self.chain = self.chain.marked(ends, *_logs(phase))

    def walk_on(self) -> None:
        if len(self.present) == 2:
            to = self.present[1]
            self.present = [to]
            self.mark(to)
            step = self.story.steps[-1]
            step.arrived, step.rolled = self.now, self.now + 0.02
            self.now += self.rng.uniform(0.03, 1.0)
        elif len(self.walk) > 1:
            origin, to = self.walk[:2]
            if to not in _BOTH:
                self.chain = self.chain.closed(_logs(to)[1])
            self.walk.pop(0)
            self.present = [origin, to]
            self.story.steps.append(
                StepLine(origin=origin, to=to, asked=self.now - 0.02, begun=self.now)
            )


def _logs(phase: int) -> tuple[str, str]:
    """Return the primary and the other log."""
    return (OLD, NEW) if phase <= 3 else (NEW, OLD)


def _last(count: int) -> dict[int, str]:
    """Return the offset of the last of so many records, by partition."""
    return {3: str(count - 1)} if count else {}


def _key(offset: str) -> bytes:
    return offset.zfill(9).encode() if offset else b""


def _message_of(record: RecordLine) -> str:
    return (record.digest or "")[1:]


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
