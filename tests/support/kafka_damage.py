"""Damages a Kafka node's files: cuts the end of a partition, or changes bytes."""

from __future__ import annotations

import struct
from pathlib import Path

from compose.local.kafka import KafkaServer

__all__ = ["cut_tail", "damage_batch", "log_end"]

_HEAD = struct.Struct(">qi")  # base offset, and the length of the rest of the batch
_DELTA_AT = 23  # of the last offset in a batch, from the batch's beginning
_OF_SEGMENT = ("*.index", "*.timeindex", "*.txnindex", "*.snapshot")
_OF_NODE = (
    ".kafka_cleanshutdown",
    "recovery-point-offset-checkpoint",
    "replication-offset-checkpoint",
)


def cut_tail(server: KafkaServer, topic: str, partition: int, *, end: int) -> int:
    """Cut the partition at offset ``end``; return the number of removed offsets.

    A batch must begin at ``end``, and the node must be down. Files besides the segments are removed
    too, so that the node recovers the log from its segments.
    """
    assert not server.running
    logs = server.data_dir / "log"
    folder = logs / f"{topic}-{partition}"
    (segment,) = folder.glob("*.log")
    held = segment.read_bytes()
    at = old_end = 0
    keep = None
    while at + _HEAD.size <= len(held):
        base, size = _HEAD.unpack_from(held, at)
        if size <= 0:
            break  # preallocated space that is not written yet
        if base == end:
            keep = at
        (delta,) = struct.unpack_from(">i", held, at + _DELTA_AT)
        old_end = base + delta + 1
        at += _HEAD.size + size
    assert keep is not None, f"no batch of {segment} begins at {end}; it ends at {old_end}"
    with segment.open("r+b") as file:
        file.truncate(keep)
    _forget(folder, _OF_SEGMENT)
    _forget(logs, _OF_NODE)
    return old_end - end


def log_end(server: KafkaServer, topic: str, partition: int) -> int:
    """Return the partition's end on disk."""
    (segment,) = (server.data_dir / "log" / f"{topic}-{partition}").glob("*.log")
    held = segment.read_bytes()
    at = end = 0
    while at + _HEAD.size <= len(held):
        base, size = _HEAD.unpack_from(held, at)
        if size <= 0:
            break
        (delta,) = struct.unpack_from(">i", held, at + _DELTA_AT)
        end = base + delta + 1
        at += _HEAD.size + size
    return end


def _forget(folder: Path, patterns: tuple[str, ...]) -> None:
    for pattern in patterns:
        for file in folder.glob(pattern):
            file.unlink()


def damage_batch(
    server: KafkaServer, topic: str, partition: int, *, offset: int, at: int, by: bytes
) -> bytes:
    """Overwrite bytes of the batch at ``offset``, from its byte ``at`` on (-1: the last byte).

    The node may run: it sends the file's bytes without checking the checksum.

    Returns:
        The overwritten bytes.
    """
    (segment,) = (server.data_dir / "log" / f"{topic}-{partition}").glob("*.log")
    with segment.open("r+b") as file:
        held = file.read()
        place = 0
        while True:
            base, size = _HEAD.unpack_from(held, place)
            assert size > 0, f"no batch of {segment} begins at {offset}"
            if base == offset:
                break
            place += _HEAD.size + size
        place += at if at >= 0 else _HEAD.size + size + at
        file.seek(place)
        file.write(by)
        return held[place : place + len(by)]
