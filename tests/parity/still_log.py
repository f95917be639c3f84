"""A log that holds what a test put there, record by record, at the times that the test says."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from typing import Any

from transport.clock import timestamp
from transport.contract import Features, Progress, Record, Topic
from transport.message.envelope import (
    HEADER_MIRROR_OF,
    HEADER_SHADOW_MODE,
    Message,
    seal_message,
)
from transport.message.identity import idempotency_key, message_id
from transport.numeric_offsets import offset_sort_key

__all__ = ["EPOCH", "StillLog", "body_of"]

EPOCH = 1_700_000_000.0


class StillLog:
    """The part of a transport that a comparison uses; offsets are numbers, with gaps allowed."""

    features = Features(remembers=False, durable=False, shared=False)

    def __init__(self, name: str, partitions: int = 1) -> None:
        self.name = name
        self.partitions = partitions
        self.records: list[list[Record]] = [[] for _ in range(partitions)]
        self.offsets: list[list[int]] = [[] for _ in range(partitions)]
        self.reads = 0
        self.lost = 0
        self.appended: list[int | None] = [0] * partitions

    def put(  # noqa: PLR0913 - what a test may set of a record
        self,
        number: int,
        at: float,
        *,
        of: str | None = None,
        mode: str | None = None,
        accepted: float | None = None,
        conversation: str = "c",
        offset: int | None = None,
        partition: int = 0,
        content: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> str:
        """Append message ``number`` at second ``at``; a copy of ``of`` made in ``mode``."""
        sealed = body_of(number, conversation, at if accepted is None else accepted, content)
        texts = {**sealed.headers, **(headers or {})}
        if of is not None:
            texts[HEADER_MIRROR_OF] = of
        if mode is not None:
            texts[HEADER_SHADOW_MODE] = mode
        taken = self.offsets[partition]
        offset = (taken[-1] + 1 if taken else 0) if offset is None else offset
        taken.append(offset)
        self.appended[partition] = (self.appended[partition] or 0) + 1
        self.records[partition].append(
            Record(
                Topic.MESSAGES,
                partition,
                str(offset),
                sealed.key,
                sealed.body,
                {name: value.encode() for name, value in texts.items()},
                EPOCH + at,
            )
        )
        return f"{self.name}:{offset}"

    def drop(self, partition: int, *offsets: int) -> None:
        """Lose records, wherever they stand."""
        kept = [r for r in self.records[partition] if int(r.offset) not in offsets]
        self.records[partition] = kept
        self.offsets[partition] = [int(r.offset) for r in kept]

    async def read(
        self,
        topic: Topic,
        partition: int,
        *,
        after: str | None = None,
        limit: int = 1000,
        wait: float = 0.0,  # nothing is appended meanwhile
    ) -> Sequence[Record]:
        self.reads += 1
        start = 0 if after is None else bisect_right(self.offsets[partition], int(after))
        return self.records[partition][start : start + limit]

    async def progress(self, topic: Topic, *, group: str) -> Sequence[Progress]:
        return [
            Progress(
                p,
                None,
                None,
                None,
                str(of[-1]) if of else None,
                lost=self.lost if p == 0 else 0,
                appended=self.appended[p],
                untrimmed=not of or of[0] == 0,
            )
            for p, of in enumerate(self.offsets)
        ]

    async def identity(self) -> str:
        return self.name

    def offset_before(self, offset: str) -> str | None:
        return str(int(offset) - 1) if int(offset) else None

    async def offset_before_time(self, topic: Topic, partition: int, time: float) -> str | None:
        before = [r for r in self.records[partition] if r.appended_at < time]
        return before[-1].offset if before else None

    def sort_key(self, offset: str) -> bytes:
        return offset_sort_key(offset)


def body_of(number: int, conversation: str, accepted: float, content: str | None = None) -> Any:
    """Seal message ``number``, the same whenever it is asked for."""
    key = idempotency_key("s", conversation, str(number))
    identifier = message_id(key, conversation)
    message = Message(
        conversation,
        "s",
        str(number),
        f"text {number}" if content is None else content,
        "text",
        ("r",),
        identifier,
        key,
        timestamp(EPOCH + accepted),
        f"correlation-{number}",
    )
    trace = f"00-{number + 1:032x}-{number + 1:016x}-01"
    return seal_message(message, partitions=1, traceparent=trace)
