"""Gaps: ranges of offsets that were searched and have no record, only aborted ones or markers.

Searching an aborted transaction of a gigabyte takes many seconds. So it is done once and in parts:
each look continues where the last one ended.
"""

from __future__ import annotations

from typing import NamedTuple

from aiokafka.structs import TopicPartition

__all__ = ["Gaps", "TopicEpoch"]


class TopicEpoch(NamedTuple):
    """The identity of a log. Under another leader epoch, its offsets may have other records."""

    topic_id: str
    leader_epoch: int


class _Gap(NamedTuple):
    start: int
    end: int
    history: TopicEpoch


class Gaps:
    """The last gap found in each partition. Offsets below it are never asked for again."""

    def __init__(self) -> None:
        self._gaps: dict[TopicPartition, _Gap] = {}

    def end(self, at: TopicPartition, start: int, history: TopicEpoch) -> int:
        """Return the first offset from ``start`` on that may have a record, by the known gap."""
        gap = self._gaps.get(at)
        if gap is None or gap.history != history or not gap.start <= start <= gap.end:
            return start
        return gap.end

    def note(self, at: TopicPartition, start: int, end: int, history: TopicEpoch) -> None:
        """Remember that there is no record from ``start`` on, below ``end``."""
        gap = self._gaps.get(at)
        if gap is not None and gap.history == history and gap.start <= start <= gap.end:
            start = gap.start
        if end > start:
            self._gaps[at] = _Gap(start, end, history)
