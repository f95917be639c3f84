"""Claiming: makes the claims of assigned partitions, and retries until Kafka answers."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import NamedTuple

import msgspec
from aiokafka.structs import TopicPartition

from transport.backoff import Backoff
from transport.errors import PartitionLost, TransportUnavailable
from transport.kafka.delivery.claim import KafkaClaim, Owner
from transport.kafka.delivery.continuity import Continuity
from transport.kafka.group.commits import Commits
from transport.kafka.group.context import GroupContext
from transport.kafka.group.groups import Committed
from transport.kafka.group.position import group_position
from transport.kafka.loss.mark import next_epoch
from transport.kafka.loss.tails import TailLoss

__all__ = ["Claiming"]

log = logging.getLogger(__name__)

_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 2.0


class _FirstCommit(NamedTuple):
    """The first commit of a claim, which may have succeeded, and the loss that it records."""

    committed: Committed
    tail_loss: TailLoss | None


class Claiming:
    """Makes the claims of one member.

    Args:
        owner: The membership that the claims belong to.
        context: The group and its topic.
        continuity: Finds logs that went back.
        commits: Commits the claims' first offsets.
        ready: Called with each claim.
        failed: Called with an error after which no retry helps.
    """

    def __init__(
        self,
        owner: Owner,
        context: GroupContext,
        *,
        continuity: Continuity,
        commits: Commits,
        ready: Callable[[KafkaClaim], None],
        failed: Callable[[BaseException], None],
    ) -> None:
        self._owner = owner
        self._context = context
        self._source = context.source
        self._continuity = continuity
        self._commits = commits
        self._ready = ready
        self._failed = failed
        self._tasks: set[asyncio.Task[None]] = set()
        self._first_commits: dict[int, _FirstCommit] = {}

    def start(self, partitions: Iterable[int]) -> None:
        """Claim ``partitions`` in the background, until ``cancel``."""
        task = asyncio.create_task(self._until_claimed(list(partitions)))
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    async def cancel(self) -> None:
        """Stop claiming; return when no attempt is under way."""
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        self._first_commits.clear()

    def _ended(self, task: asyncio.Task[None]) -> None:
        """Report an unexpected error: the partitions would be ours, but remain unread."""
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._failed(error)

    async def _until_claimed(self, partitions: list[int]) -> None:
        backoff = Backoff(_FIRST_PAUSE, _LONGEST_PAUSE)
        told = ""
        while True:
            try:
                claims = await self._claim(partitions)
            except (PartitionLost, TransportUnavailable) as error:
                # Retry: until the group revokes the partitions, which ends this task, no other
                # member will read them.
                if told != (told := str(error)):
                    log.warning("Partitions not claimed; will retry", extra={"error": told})
                await asyncio.sleep(backoff.next())
            else:
                break
        for claim in claims:
            self._ready(claim)

    async def _claim(self, partitions: Sequence[int]) -> list[KafkaClaim]:
        """Raise the epoch of ``partitions`` by a commit in our generation; return their claims."""
        context, source = self._context, self._source
        where = [source.at(partition) for partition in sorted(partitions)]
        await context.reader.include([at for at in where if at.partition >= source.partitions])
        count = max(source.partitions, *(partition + 1 for partition in partitions))
        topic, committed = await asyncio.gather(
            context.ids.describe(source.name),
            context.groups.committed(context.group, source.name, count),
        )
        self._note_succeeded_commits(partitions, committed)
        # Asked after the commits, so that a commit beyond the end means that the log lost records.
        begins, ends = await asyncio.gather(
            context.reader.begins(where), context.reader.ends(where)
        )
        tail_losses = await self._continuity.tail_losses(partitions, committed, topic)
        marks: dict[int, Committed] = {}
        for at in where:
            now = group_position(
                committed.get(at.partition),
                topic_id=topic.id,
                begin=begins[at],
                end=ends[at],
                lost_before=max(
                    context.losses.before(at.partition, topic.id),
                    self._continuity.lost_before(at.partition),
                ),
                tail_loss=tail_losses.get(at),
            )
            mark = msgspec.structs.replace(
                now.mark, epoch=next_epoch(now.mark.epoch), topic_id=topic.id
            )
            marks[at.partition] = Committed(now.offset, mark)
            self._first_commits[at.partition] = _FirstCommit(
                marks[at.partition], tail_losses.get(at)
            )
        await self._commits.commit(marks)
        self._claimed(partitions, tail_losses)
        return [
            KafkaClaim(self._owner, topic=source.topic, partition=partition, start=start, mark=mark)
            for partition, (start, mark) in marks.items()
        ]

    def _note_succeeded_commits(
        self, partitions: Iterable[int], committed: Mapping[int, Committed]
    ) -> None:
        """Find unanswered commits that succeeded, so that no loss is counted twice."""
        for partition in partitions:
            first = self._first_commits.get(partition)
            if first is None or committed.get(partition) != first.committed:
                continue
            at, tail_loss = self._source.at(partition), first.tail_loss
            self._claimed([partition], {} if tail_loss is None else {at: tail_loss})

    def _claimed(
        self, partitions: Collection[int], tail_losses: Mapping[TopicPartition, TailLoss]
    ) -> None:
        for partition in partitions:
            self._first_commits.pop(partition, None)
        self._continuity.claimed(partitions, tail_losses)
