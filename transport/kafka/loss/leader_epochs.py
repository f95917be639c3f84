"""The end offset of a leader epoch in a log, by the request OffsetForLeaderEpoch (KIP-101).

Each election of a partition's leader raises the leader epoch, and a broker keeps the offset at
which each epoch began in its log. So a log that lost its tail tells exactly where the loss began:
the epoch of the last record that we read now ends before that record (KIP-320). aiokafka (0.14)
lacks this request.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import NoError, for_code
from aiokafka.protocol.api import RequestStruct, Response
from aiokafka.protocol.types import Array, Int16, Int32, Int64, Schema, String

from transport.kafka.client.requests import OneVersion
from transport.kafka.connection.client_pool import ClientPool
from transport.kafka.loss.identity import describe_topic

__all__ = ["LeaderEpochs"]

_OFFSET_FOR_LEADER_EPOCH = 23
_VERSION = 3
_CONSUMER, _ANY_LEADER = -1, -1


class _EpochEndsResponse(Response):  # type: ignore[misc] # aiokafka is not typed
    API_KEY = _OFFSET_FOR_LEADER_EPOCH
    API_VERSION = _VERSION
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        (
            "topics",
            Array(
                ("topic", String("utf-8")),
                (
                    "partitions",
                    Array(
                        ("error_code", Int16),
                        ("partition", Int32),
                        ("leader_epoch", Int32),
                        ("end_offset", Int64),
                    ),
                ),
            ),
        ),
    )


class _EpochEndsRequest(RequestStruct):  # type: ignore[misc]
    API_KEY = _OFFSET_FOR_LEADER_EPOCH
    API_VERSION = _VERSION
    RESPONSE_TYPE = _EpochEndsResponse
    SCHEMA = Schema(
        ("replica_id", Int32),
        (
            "topics",
            Array(
                ("topic", String("utf-8")),
                (
                    "partitions",
                    Array(
                        ("partition", Int32),
                        ("current_leader_epoch", Int32),
                        ("leader_epoch", Int32),
                    ),
                ),
            ),
        ),
    )


class LeaderEpochs:
    """Asks the leaders of partitions for the ends of leader epochs."""

    def __init__(self, admin: ClientPool[AIOKafkaAdminClient]) -> None:
        self._admin = admin

    async def ends(self, topic: str, epochs: Mapping[int, int]) -> Mapping[int, int]:
        """Return, for each partition, the offset at which its epoch in ``epochs`` ends now.

        If the log has no records of that epoch, this is the end of the last earlier one. A
        partition is absent if its log knows no epoch that late.

        Raises:
            TransportUnavailable: Kafka can't say now.
        """
        if not epochs:
            return {}
        return await self._admin.ask(lambda admin: _ends(admin, topic, epochs))


async def _ends(
    admin: AIOKafkaAdminClient, topic: str, epochs: Mapping[int, int]
) -> Mapping[int, int]:
    leaders = (await describe_topic(admin, topic)).leaders
    by_node: dict[int | None, dict[int, int]] = defaultdict(dict)
    for partition, epoch in epochs.items():
        # If there is no leader, any node answers with an error, and the pool asks again.
        leader = leaders.get(partition)
        by_node[leader.node if leader else None][partition] = epoch
    found: dict[int, int] = {}
    for node, of in by_node.items():
        query = [(partition, _ANY_LEADER, epoch) for partition, epoch in of.items()]
        request = OneVersion(_EpochEndsRequest, _CONSUMER, [(topic, query)])
        answer: Any = await admin._send_request(request, node)  # noqa: SLF001
        for _topic, partitions in answer.topics:
            for code, partition, _epoch, end in partitions:
                error = for_code(code)
                if error is not NoError:
                    raise error(f"{topic}-{partition}")
                if end >= 0:
                    found[partition] = end
    return found
