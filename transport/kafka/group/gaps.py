"""Offsets that were looked through and have no record: what was aborted, and markers.

Looking through an aborted transaction of a gigabyte takes many seconds, so it is done once and in
parts: what one look has passed is remembered for the next.
"""

from __future__ import annotations

from typing import NamedTuple

from aiokafka.structs import TopicPartition

__all__ = ["Gaps", "TopicEpoch"]


class TopicEpoch(NamedTuple):
    """Identity of a log. Under another leader epoch its offsets may hold other records."""

    topic_id: str
    leader_epoch: int


class _Gap(NamedTuple):
    start: int
    end: int
    history: TopicEpoch


class Gaps:
    """The gap of each partition that was found last. Nothing below it is ever asked again."""

    def __init__(self) -> None:
        self._gaps: dict[TopicPartition, _Gap] = {}

    def end(self, at: TopicPartition, start: int, history: TopicEpoch) -> int:
        """Return the first offset from ``start`` on that may have a record."""
        gap = self._gaps.get(at)
        if gap is None or gap.history != history or not gap.start <= start <= gap.end:
            return start
        return gap.end

    def note(self, at: TopicPartition, start: int, end: int, history: TopicEpoch) -> None:
        """Remember that no record stands from ``start`` on and below ``end``."""
        gap = self._gaps.get(at)
        if gap is not None and gap.history == history and gap.start <= start <= gap.end:
            start = gap.start
        if end > start:
            self._gaps[at] = _Gap(start, end, history)
