"""A batch: records of one partition that are sent and acknowledged together, and their callers."""

from __future__ import annotations

import asyncio
from typing import Any

from aiokafka.record.default_records import DefaultRecordBatchBuilder

from transport.errors import TransportError
from transport.kafka.producer.packed import Packed, PackedBuilder
from transport.kafka.records import Outgoing

__all__ = ["BATCH_BYTES", "Batch", "Call"]

# The most bytes of a batch. A single record may be larger, up to the topic's max.message.bytes.
BATCH_BYTES = 128 * 1024
_MAGIC = 2


class Call:
    """One call of ``append``; its future ``answered`` is done once all of its batches are.

    Each call has a future of its own, so that cancelling one does not affect the others.
    """

    __slots__ = ("answered", "batches")

    def __init__(self) -> None:
        self.answered = asyncio.get_running_loop().create_future()
        self.batches = 0

    def one_less(self) -> None:
        """Note that one batch of this call has been answered."""
        self.batches -= 1
        if self.batches == 0 and not self.answered.done():
            self.answered.set_result(None)


class Batch:
    """A batch of records: it is filled, closed, sent, and ends once, with an offset or an error.

    ``base`` is the offset of the first record once it is known, else -1. ``time`` is that of the
    append by the log's clock, in milliseconds; -1 if it is unknown. ``resent`` tells whether
    it was sent more than once, so that an earlier attempt may have been appended. A batch of a
    ``packed`` record is closed from the beginning.

    Args:
        compression: the codec, by Kafka's number; 0 is none.
        packed: the only record, if it was encoded already.
        most: the bytes of the batch; a single record may be larger.
    """

    __slots__ = (
        "_builder", "base", "calls", "closed", "count", "data", "done", "error", "resent", "sent",
        "time",
    )  # fmt: skip

    def __init__(
        self, compression: int, packed: Packed | None = None, most: int = BATCH_BYTES
    ) -> None:
        self._builder: Any = (
            DefaultRecordBatchBuilder(_MAGIC, compression, False, -1, -1, 0, most)
            if packed is None
            else PackedBuilder(packed)
        )
        self.data: bytes = b""
        self.calls: list[Call] = []
        self.count = 0 if packed is None else 1
        self.base = self.time = -1
        self.closed = packed is not None
        self.sent = False
        self.resent = False
        self.done = False
        self.error: TransportError | None = None

    def add(self, record: Outgoing) -> bool:
        """Add ``record`` at the end; ``False``, and the batch is closed, if it has no room."""
        added = self._builder.append(self.count, None, record.key, record.value, record.headers)
        if added is None:
            self.closed = True
            return False
        self.count += 1
        return True

    def number(self, producer: int, epoch: int, sequence: int) -> None:
        """Close the batch and make ``data``.

        The broker recognises the batch by these numbers if it is sent again.
        """
        self.closed = True
        builder, self._builder = self._builder, None
        builder.set_producer_state(producer, epoch, sequence)
        self.data = builder.build()

    def await_by(self, call: Call) -> None:
        """Make ``call`` wait for this batch."""
        if not self.calls or self.calls[-1] is not call:
            self.calls.append(call)
            call.batches += 1

    def answer(self) -> None:
        """Answer every call that waits for this batch."""
        calls, self.calls = self.calls, []
        for call in calls:
            call.one_less()

    def end(self, *, base: int = -1, time: int = -1, error: TransportError | None = None) -> None:
        """Set the result of the batch, and answer its calls. Later results are ignored."""
        if self.done:
            return
        self.closed = self.done = True
        self.base, self.time, self.error = base, time, error
        self.data, self._builder = b"", None
        self.answer()
