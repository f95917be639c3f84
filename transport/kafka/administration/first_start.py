"""The first start on a Kafka that has no topics of ours yet, foreseen without making them."""

from __future__ import annotations

from collections.abc import Sequence

from aiokafka.admin import AIOKafkaAdminClient

from transport.durability import Durability
from transport.first_start import FirstStart
from transport.kafka.administration.rights import lacking_rights
from transport.kafka.administration.topics import TopicSpec, foresee_topics
from transport.kafka.connection.client_pool import ClientPool

__all__ = ["first_start"]

_SEVERAL = 2


async def first_start(
    admins: ClientPool[AIOKafkaAdminClient], specs: Sequence[TopicSpec], groups: Sequence[str]
) -> FirstStart:
    """Return the durability of topics that Kafka would make, and our user's rights on ``groups``.

    Kafka tells rights on topics once there are topics, so rights are told only if some lack.
    Whether an append would survive a power cut is unknown: the brokers' own settings say when they
    flush.

    Raises:
        ConfigurationError: Kafka would refuse to make the topics.
        TransportUnavailable: Kafka can't be reached, or can't say now.
    """
    await admins.ask(lambda admin: foresee_topics(admin, specs))
    rights = await admins.ask(lambda admin: lacking_rights(admin, [], groups))
    replicas = min(spec.replicas for spec in specs)
    in_sync = min(int(spec.config["min.insync.replicas"]) for spec in specs)
    return FirstStart(
        durability=Durability(
            crash=True,
            power=None,
            disk=min(replicas, in_sync) >= _SEVERAL,
            figures={"replicas": str(replicas), "min.insync.replicas": str(in_sync)},
        ),
        rights=rights if rights and rights.needed else None,
    )
