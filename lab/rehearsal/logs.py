"""Reads both logs from beginning to end; keeps each record's place and digest, not its bytes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from hashlib import blake2b

import msgspec

from lab.harness.content_name import name_of_digest
from transport.contract import Record, Topic, Transport
from transport.errors import TransportError
from transport.message.envelope import HEADER_MESSAGE_ID, HEADER_MIRROR_OF, HEADER_SHADOW_MODE
from transport.message.payload import sha256_in
from transport.shadow.origin import origin_of

__all__ = ["Log", "LogEntry", "content_of", "entry_of", "read_log"]

_CHUNK = 2000
_AGAIN_SECONDS = 0.5


class LogEntry(msgspec.Struct, frozen=True, gc=False):
    """One record of a log.

    ``place`` is its index in the partition, from 0; ``digest`` is the BLAKE2b of key and body.
    """

    partition: int
    place: int
    offset: str
    message_id: str
    content: str | None
    """The name of the message's content; ``None`` if the record is a receipt or can't be decoded.
    """
    digest: bytes
    appended_at: float
    accepted_at: str | None = None
    """When the message was accepted, as the record says it."""
    mirror_of: str | None = None
    mirror_partition: int | None = None
    """The original's partition, if it differs from this record's."""
    shadow_mode: str | None = None


Log = Mapping[int, Sequence[LogEntry]]
"""The entries of a log, by partition, in the log's order."""


class _Body(msgspec.Struct, gc=False, rename="camel"):
    content: str | None = None
    payload_key: str | None = None
    accepted_at: str | None = None

    @property
    def name(self) -> str | None:
        """The name of the content."""
        if self.payload_key is None:
            return self.content
        return name_of_digest(sha256_in(self.payload_key))


_decoder = msgspec.json.Decoder(_Body)


async def read_log(transport: Transport, *, patience: float = 120.0) -> Log:
    """Read all records of a log.

    The time limits are short in a rehearsal, and the machine may be busy, so a failed read is
    retried for ``patience`` seconds.

    Raises:
        TransportError: a read failed for that long.
    """
    reader = _PatientReader(transport, patience)
    return {p: await _read_partition(reader, p) for p in range(transport.partitions)}


class _PatientReader:
    def __init__(self, transport: Transport, patience: float) -> None:
        self._transport = transport
        self._patience = patience

    async def read(self, partition: int, after: str | None) -> Sequence[Record]:
        until = time.monotonic() + self._patience
        while True:
            try:
                return await self._transport.read(
                    Topic.MESSAGES, partition, after=after, limit=_CHUNK
                )
            except TransportError:
                if time.monotonic() > until:
                    raise
            await asyncio.sleep(_AGAIN_SECONDS)


async def _read_partition(reader: _PatientReader, partition: int) -> list[LogEntry]:
    entries: list[LogEntry] = []
    after: str | None = None
    while records := await reader.read(partition, after):
        entries += [entry_of(record, len(entries) + n) for n, record in enumerate(records)]
        after = records[-1].offset
    return entries


def content_of(body: bytes) -> str | None:
    """Return the name of the content in a message's body or payload; ``None`` for other bodies."""
    return _decoded(body).name


def _decoded(body: bytes) -> _Body:
    try:
        return _decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return _Body()


def entry_of(record: Record, place: int) -> LogEntry:
    """Return the facts of a record that the checker compares."""
    origin = origin_of(record)
    elsewhere = origin is not None and origin.partition != record.partition
    body = _decoded(record.body)
    return LogEntry(
        partition=record.partition,
        place=place,
        offset=record.offset,
        message_id=_header(record, HEADER_MESSAGE_ID) or "",
        content=body.name,
        digest=blake2b(record.key.encode() + b"\0" + record.body, digest_size=16).digest(),
        appended_at=record.appended_at,
        accepted_at=body.accepted_at,
        mirror_of=_header(record, HEADER_MIRROR_OF),
        mirror_partition=origin.partition if origin and elsewhere else None,
        shadow_mode=_header(record, HEADER_SHADOW_MODE),
    )


def _header(record: Record, name: str) -> str | None:
    value = record.headers.get(name)
    return value.decode(errors="replace") if value is not None else None
