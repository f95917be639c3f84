"""The assignor of our groups: it gives the partitions of our topic to our own members only.

A program that joins our group by mistake, with an assignor of the same name (``roundrobin``), got
its share of the partitions, and their records waited as long as it ran. Kafka hands each member's
metadata to the one that leads the group, and ours have a mark there. A leader that is no member of
ours shares with itself all the same: ``GroupMember.is_ours`` is for telling that.

Workers of versions before the mark are recognized by their client id. They store what they own, so
during a rolling restart they keep their share.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Mapping

from aiokafka.cluster import ClusterMetadata
from aiokafka.coordinator.assignors.roundrobin import RoundRobinPartitionAssignor
from aiokafka.coordinator.protocol import (
    ConsumerProtocol,
    ConsumerProtocolMemberAssignment,
    ConsumerProtocolMemberMetadata,
)

__all__ = ["OwnMembersAssignor", "install", "is_ours", "is_workers_name"]

log = logging.getLogger(__name__)

_MARK = b"crossfade"
_WORKERS_NAME = re.compile(r".+-\d+-[0-9a-f]{6}")
_SUFFIX = len("-00000000-0000-0000-0000-000000000000")


def is_ours(metadata: ConsumerProtocolMemberMetadata) -> bool:
    """Return whether a member with this metadata is one of ours."""
    return bool(metadata.user_data == _MARK)


def is_workers_name(client_id: str) -> bool:
    """Return whether this is the client id of a worker of any version: host-pid-random."""
    return _WORKERS_NAME.fullmatch(client_id) is not None


def _is_foreign(member_id: str, metadata: ConsumerProtocolMemberMetadata) -> bool:
    """Return whether a member is no worker of this version or of an earlier one.

    The broker appends a UUID to the client id. For a static member it appends that to the instance
    id instead, so that such a worker of an earlier version is not recognized.
    """
    return not (is_ours(metadata) or is_workers_name(member_id[:-_SUFFIX]))


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
    """Round robin, among our own members, those of an earlier version included."""

    @classmethod
    def assign(
        cls, cluster: ClusterMetadata, members: Mapping[str, ConsumerProtocolMemberMetadata]
    ) -> dict[str, ConsumerProtocolMemberAssignment]:
        """See ``AbstractPartitionAssignor``."""
        strangers = {name: found for name, found in members.items() if _is_foreign(name, found)}
        if not strangers:
            return super().assign(cluster, members)  # type: ignore[no-any-return]
        own = (found for name, found in members.items() if name not in strangers)
        ours = {topic for found in own for topic in found.subscription}
        log.warning(
            "Members of our group are no known workers, and get no partitions: give another "
            "program a group of its own, and restart a static member (KAFKA_GROUP_INSTANCE_ID) of "
            "an earlier version",
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
