"""The unpacked size of a compressed batch, found in bounded memory and time.

A broker limits only the compressed bytes of a batch. Four megabytes may hold gigabytes of zeroes,
which every process that reads the partition would unpack at once.
"""

from __future__ import annotations

import struct

import cramjam

__all__ = ["GZIP", "LZ4", "SNAPPY", "ZSTD", "expands_past"]

GZIP, SNAPPY, LZ4, ZSTD = 1, 2, 3, 4
# The most unpacked bytes per compressed byte. (Snappy states its size; for zstd see below.)
_RATIO = {GZIP: 1032, LZ4: 256}
_INTO = {
    GZIP: cramjam.gzip.decompress_into,
    LZ4: cramjam.lz4.decompress_into,
    ZSTD: cramjam.zstd.decompress_into,
}

# RFC 8878: a frame is a head, blocks of at most 128 KiB each, and perhaps a checksum.
_ZSTD_MAGIC, _SKIPPABLE, _SKIPPABLE_MASK = 0xFD2FB528, 0x184D2A50, 0xFFFFFFF0
_WORD = struct.Struct("<I")
_SINGLE_SEGMENT, _CHECKSUM = 0x20, 0x04
_DICTIONARY_BYTES, _CONTENT_SIZE_BYTES = (0, 1, 2, 4), (0, 2, 4, 8)
_BLOCK_HEAD, _BLOCK_MOST = 3, 128 * 1024
_RAW, _REPEATED = 0, 1

# The format of Java's snappy: a head of 16 bytes, then blocks, each with its length before it.
_XERIAL, _XERIAL_HEAD, _XERIAL_LENGTH = b"\x82SNAPPY\0", 16, struct.Struct(">I")


def expands_past(codec: int, data: bytes, most: int) -> bool:
    """Return whether ``data``, compressed with ``codec``, is more than ``most`` bytes unpacked.

    It is unpacked only if the codec could expand it so far, and then only up to ``most`` bytes.
    """
    if codec == SNAPPY:
        return _snappy_size(data) > most
    likely = _zstd_most(data) if codec == ZSTD else len(data) * _RATIO.get(codec, 1)
    if likely <= most or codec not in _INTO:
        return False
    try:
        _INTO[codec](data, bytearray(most))
    except cramjam.DecompressionError:
        return True  # or the data are broken: they can't be read in either case
    return False


def _snappy_size(data: bytes) -> int:
    """Return the unpacked size in bytes that snappy's blocks declare; snappy refuses wrong ones."""
    total = 0
    try:
        if len(data) <= _XERIAL_HEAD or not data.startswith(_XERIAL):
            return _snappy_block(data, 0)
        at = _XERIAL_HEAD
        while at < len(data):
            (size,) = _XERIAL_LENGTH.unpack_from(data, at)
            at += _XERIAL_LENGTH.size
            total += _snappy_block(data, at)
            at += size
    except (IndexError, struct.error):
        pass  # broken: its unpacking will say so
    return total


def _snappy_block(data: bytes, at: int) -> int:
    """Return the unpacked size in bytes that the block at ``at`` declares, in up to 32 bits."""
    size = shift = 0
    while True:
        byte = data[at]
        at += 1
        size |= (byte & 0x7F) << shift
        if byte < 0x80 or shift >= 28:  # noqa: PLR2004 - the last has no high bit
            return size
        shift += 7


def _zstd_most(data: bytes) -> int:
    """Return the largest unpacked size in bytes of zstd frames, by the heads of their blocks."""
    total = at = 0
    try:
        while at < len(data):
            (magic,) = _WORD.unpack_from(data, at)
            at += _WORD.size
            if magic & _SKIPPABLE_MASK == _SKIPPABLE:
                at += _WORD.size + _WORD.unpack_from(data, at)[0]
                continue
            if magic != _ZSTD_MAGIC:
                return total
            at, size = _frame(data, at)
            total += size
    except (IndexError, struct.error):
        pass  # broken: its unpacking will say so
    return total


def _frame(data: bytes, at: int) -> tuple[int, int]:
    """Return the end of the frame whose head begins at ``at``, and its largest unpacked size."""
    descriptor = data[at]
    single = bool(descriptor & _SINGLE_SEGMENT)
    at += 1 + (0 if single else 1) + _DICTIONARY_BYTES[descriptor & 3]
    at += _CONTENT_SIZE_BYTES[descriptor >> 6] or int(single)
    total, last = 0, False
    while not last:
        head = int.from_bytes(data[at : at + _BLOCK_HEAD], "little")
        if at + _BLOCK_HEAD > len(data):
            raise IndexError(at)
        last, kind, size = bool(head & 1), head >> 1 & 3, head >> 3
        at += _BLOCK_HEAD + (1 if kind == _REPEATED else size)
        total += size if kind in (_RAW, _REPEATED) else _BLOCK_MOST
    return at + (4 if descriptor & _CHECKSUM else 0), total
