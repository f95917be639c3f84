"""The assignor of our groups: it gives the partitions of our topic to our own members only.

A program that joins our group by mistake, with an assignor of the same name (``roundrobin``), got
its share of the partitions, and their records waited as long as it ran. Kafka hands each member's
metadata to the one that leads the group, and ours have a mark there. A leader that is no member of
ours shares with itself all the same: ``GroupMember.is_ours`` is for telling that.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping

from aiokafka.cluster import ClusterMetadata
from aiokafka.coordinator.assignors.roundrobin import RoundRobinPartitionAssignor
from aiokafka.coordinator.protocol import (
    ConsumerProtocol,
    ConsumerProtocolMemberAssignment,
    ConsumerProtocolMemberMetadata,
)

__all__ = ["OwnMembersAssignor", "install", "is_ours"]

log = logging.getLogger(__name__)

_MARK = b"crossfade"


def is_ours(metadata: ConsumerProtocolMemberMetadata) -> bool:
    """Return whether a member with this metadata is one of ours."""
    return bool(metadata.user_data == _MARK)


class _AnyMetadata(ConsumerProtocolMemberMetadata):  # type: ignore[misc] # aiokafka is not typed
    """The metadata of a member; if it can't be decoded, that of one that wants no topic.

    An error would end our client each time that it leads the group and assigns.
    """

    @classmethod
    def decode(cls, data: bytes) -> ConsumerProtocolMemberMetadata:
        try:
            return super().decode(data)
        except ValueError:
            return cls(0, [], b"")


class OwnMembersAssignor(RoundRobinPartitionAssignor):  # type: ignore[misc] # aiokafka is not typed
    """Round robin, among our own members."""

    @classmethod
    def assign(
        cls, cluster: ClusterMetadata, members: Mapping[str, ConsumerProtocolMemberMetadata]
    ) -> dict[str, ConsumerProtocolMemberAssignment]:
        """See ``AbstractPartitionAssignor``."""
        strangers = {name: found for name, found in members.items() if not is_ours(found)}
        if not strangers:
            return super().assign(cluster, members)  # type: ignore[no-any-return]
        own = (found for found in members.values() if is_ours(found))
        ours = {topic for found in own for topic in found.subscription}
        log.warning(
            "Members of our group are no workers of this version, and get no partitions: give "
            "another program a group of its own",
            extra={"members": sorted(strangers)},
        )
        others = {name: _without(found, ours) for name, found in strangers.items()}
        return super().assign(cluster, {**members, **others})  # type: ignore[no-any-return]

    @classmethod
    def metadata(cls, topics: Iterable[str]) -> ConsumerProtocolMemberMetadata:
        """See ``AbstractPartitionAssignor``."""
        return ConsumerProtocolMemberMetadata(cls.version, list(topics), _MARK)


def _without(
    metadata: ConsumerProtocolMemberMetadata, topics: Iterable[str]
) -> ConsumerProtocolMemberMetadata:
    kept = [topic for topic in metadata.subscription if topic not in topics]
    return ConsumerProtocolMemberMetadata(metadata.version, kept, metadata.user_data)


def install() -> None:
    """Have the members of this process take any metadata of others."""
    ConsumerProtocol.METADATA = _AnyMetadata
