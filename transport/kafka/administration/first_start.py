"""The first start on a Kafka that has no topics of ours yet, foreseen without making them."""

from __future__ import annotations

from collections.abc import Sequence

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import NoError, for_code

from transport.durability import Durability
from transport.first_start import FirstStart
from transport.kafka.administration.rights import lacking_rights
from transport.kafka.administration.topics import TopicSpec, foresee_topics
from transport.kafka.connection.client_pool import ClientPool

__all__ = ["first_start"]

_SEVERAL = 2
_FLUSHES = "log.flush.interval.messages"  # what a topic without a setting of its own gets


async def first_start(
    admins: ClientPool[AIOKafkaAdminClient], specs: Sequence[TopicSpec], groups: Sequence[str]
) -> FirstStart:
    """Return the durability of topics that Kafka would make, and our user's rights on ``groups``.

    Kafka tells rights on topics once there are topics, so rights are told only if some lack.
    Whether an append would survive a power cut is unknown if our user may not read the settings of
    the brokers.

    Raises:
        ConfigurationError: Kafka would refuse to make the topics.
        TransportUnavailable: Kafka can't be reached, or can't say now.
    """
    await admins.ask(lambda admin: foresee_topics(admin, specs))
    rights = await admins.ask(lambda admin: lacking_rights(admin, [], groups))
    replicas = min(spec.replicas for spec in specs)
    in_sync = min(int(spec.config["min.insync.replicas"]) for spec in specs)
    flushes = await admins.ask(_flushes)
    return FirstStart(
        durability=Durability(
            crash=True,
            power=None if flushes is None else flushes == 1,
            disk=min(replicas, in_sync) >= _SEVERAL,
            figures={
                "replicas": str(replicas),
                "min.insync.replicas": str(in_sync),
                **({} if flushes is None else {_FLUSHES: str(flushes)}),
            },
        ),
        rights=rights if rights and rights.needed else None,
    )


async def _flushes(admin: AIOKafkaAdminClient) -> int | None:
    """Return after how many records the laziest broker flushes; ``None`` if that is not told."""
    cluster = await admin.describe_cluster()
    brokers = [
        ConfigResource(ConfigResourceType.BROKER, str(broker["node_id"]), configs={_FLUSHES: ""})
        for broker in cluster["brokers"]
    ]
    figures: list[int] = []
    for response in await admin.describe_configs(brokers):
        for code, _message, _kind, _name, entries in response.resources:
            if for_code(code) is not NoError:
                return None
            figures += [int(entry[1]) for entry in entries if entry[1] is not None]
    return max(figures, default=None)
