"""Reads the lines of a history's file that the replay needs (``docs/history_format.md``)."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

__all__ = [
    "HISTORY_VERSION",
    "AttemptLine",
    "ConversationLines",
    "HistoryError",
    "RecordLine",
    "RowLine",
    "StepLine",
    "Story",
    "read_story",
]

HISTORY_VERSION = 2


class HistoryError(Exception):
    """The file is not a history, was cut off, or has another version."""


class _Line(msgspec.Struct, tag_field="type", rename="camel", gc=False):
    """Any line. Fields that the replay does not need are skipped."""


class HeadLine(_Line, tag="history"):
    """The first line."""

    version: int
    old: str
    new: str | None
    clock_error: float = 0.0


class AttemptLine(_Line, tag="attempt"):
    """A request."""

    client: str
    kind: str
    conversation: str
    key: str
    sent: float
    ended: float | None
    outcome: str
    digest: str | None = None
    phase: int | None = None

    @property
    def end(self) -> float:
        """When it ended; infinity if it never did."""
        return math.inf if self.ended is None else self.ended


class ProcessLine(_Line, tag="process"):
    """A period in which one process had one state."""

    name: str
    state: str
    begun: float
    phase: int | None = None


class StepLine(_Line, tag="step"):
    """A step of the walk. ``arrived`` is when the last process ran the new phase."""

    to: int
    begun: float | None = None
    rolled: float | None = None
    asked: float = 0.0
    origin: int | None = msgspec.field(default=None, name="from")
    arrived: float | None = None


class PlaceLine(_Line, tag="place"):
    """A position, as it was seen."""

    log: str
    partition: int
    offset: str
    at: float


class RowLine(_Line, tag="row"):
    """A row."""

    key: str
    conversation: str
    log: str
    at: float = 0.0


class RecordLine(_Line, tag="record"):
    """A record. ``ordinal`` is its number in the partition, from 1."""

    log: str
    partition: int
    offset: str
    at: float = 0.0
    digest: str | None = None
    mirror_of: str | None = None
    mirror_partition: int | None = None
    mode: str | None = None
    ordinal: int = 0


class EndLine(_Line, tag="end"):
    """The last line."""

    lines: int


_Ours = HeadLine | AttemptLine | ProcessLine | StepLine | PlaceLine | RowLine | RecordLine | EndLine


_NOT_REPLAYED = tuple(
    f'{{"type":"{name}"'.encode() for name in ("planted", "receipt", "deadLetter", "page")
)


@dataclass
class ConversationLines:
    """The facts of one conversation."""

    name: str
    attempts: list[AttemptLine] = field(default_factory=list)
    rows: list[RowLine] = field(default_factory=list)
    records: list[RecordLine] = field(default_factory=list)


@dataclass
class Story:
    """The parts of a history that the replay needs."""

    old: str
    new: str
    clock_error: float
    conversations: dict[str, ConversationLines] = field(default_factory=dict)
    steps: list[StepLine] = field(default_factory=list)
    places: Mapping[tuple[str, int], list[tuple[float, int]]] = field(default_factory=dict)
    """The positions by log and partition: time, and number of records passed."""
    first_phase: int = 0

    def role(self, log: str) -> str:
        """Return the log's name in the model: ``old`` or ``new``; empty for another log."""
        return {self.old: "old", self.new: "new"}.get(log, "")

    def phase_at(self, begins: float, ends: float) -> int | None:
        """Return the phase that all processes ran in this period; ``None`` during a step."""
        phase: int = self.first_phase
        for step in self.steps:
            if step.asked > ends:
                break
            if step.rolled is None or step.rolled >= begins:
                return None
            phase = step.to
        return phase


def read_story(path: Path, conversations: int) -> Story:
    """Read a number of conversations, including one with several writers if there is one.

    Raises:
        HistoryError: The file is not a history, was cut off, or has another version.
    """
    decode = msgspec.json.Decoder(_Ours).decode
    with path.open("rb") as file:
        try:
            head = decode(next(file))
        except (StopIteration, msgspec.MsgspecError) as error:
            raise HistoryError(f"{path} is no history: {error}") from error
        if not isinstance(head, HeadLine) or head.version != HISTORY_VERSION or head.new is None:
            raise HistoryError(f"{path} is no history of version {HISTORY_VERSION} with two logs")
        reading = _StoryReader(Story(head.old, head.new, head.clock_error), conversations)
        last: _Ours = head
        count = 1
        for count, line in enumerate(file, 2):
            if not line.startswith(_NOT_REPLAYED):
                try:
                    last = decode(line)
                except msgspec.MsgspecError as error:
                    raise HistoryError(f"{path}, line {count}: {error}") from error
                reading.take(last)
    if not isinstance(last, EndLine) or last.lines != count:
        raise HistoryError(f"{path} was cut off")
    return reading.story()


class _StoryReader:
    def __init__(self, story: Story, most: int) -> None:
        self._story = story
        self._most = most
        self._clients: dict[str, str] = {}
        self._crowd: str | None = None
        self._of_digest: dict[str, ConversationLines] = {}
        self._waiting: dict[str, list[AttemptLine]] = defaultdict(list)
        self._processes: list[ProcessLine] = []
        self._seen: list[PlaceLine] = []
        self._wanted: dict[tuple[str, int, str], int] = {}
        self._ordinals: dict[tuple[str, int], int] = defaultdict(int)

    def take(self, line: _Ours) -> None:
        match line:
            case AttemptLine(kind="message"):
                self._attempt(line)
            case ProcessLine():
                self._processes.append(line)
            case StepLine(origin=None):
                self._story.first_phase = line.to
            case StepLine():
                self._story.steps.append(line)
            case PlaceLine():
                self._seen.append(line)
                self._wanted[line.log, line.partition, line.offset] = 0
            case RowLine():
                if found := self._story.conversations.get(line.conversation):
                    found.rows.append(line)
            case RecordLine():
                self._record(line)

    def _attempt(self, line: AttemptLine) -> None:
        known, name = self._story.conversations, line.conversation
        if name not in known:
            first = self._clients.setdefault(name, line.client)
            crowd = self._crowd is None and first != line.client
            if len(known) >= self._most - (self._crowd is None) and not crowd:
                if self._crowd is None:
                    self._waiting[name].append(line)
                return
            if crowd:
                self._crowd = name
            known[name] = ConversationLines(name)
            for earlier in self._waiting.pop(name, ()):
                self._attempt(earlier)
        elif self._crowd is None and self._clients[name] != line.client:
            self._crowd = name
        known[name].attempts.append(line)
        self._of_digest[line.digest or ""] = known[name]

    def _record(self, line: RecordLine) -> None:
        self._ordinals[line.log, line.partition] += 1
        ordinal = self._ordinals[line.log, line.partition]
        if (line.log, line.partition, line.offset) in self._wanted:
            self._wanted[line.log, line.partition, line.offset] = ordinal
        if line.digest in self._of_digest:
            line.ordinal = ordinal
            self._of_digest[line.digest].records.append(line)

    def story(self) -> Story:
        places: dict[tuple[str, int], list[tuple[float, int]]] = defaultdict(list)
        for seen in self._seen:
            if ordinal := self._wanted[seen.log, seen.partition, seen.offset]:
                places[seen.log, seen.partition].append((seen.at, ordinal))
        self._story.places = places
        for step in self._story.steps:
            step.arrived = _arrived(self._processes, step)
        return self._story


def _arrived(processes: Iterable[ProcessLine], step: StepLine) -> float | None:
    """Return when the last process was up in the step's phase."""
    if step.begun is None:
        return None
    first: dict[str, float] = {}
    for line in processes:
        if line.state == "up" and line.phase == step.to and line.begun >= step.begun:
            first.setdefault(line.name, line.begun)
    return max(first.values(), default=None)
