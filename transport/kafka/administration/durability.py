"""The durability of an acknowledged append, as the topic's configuration says."""

from __future__ import annotations

from typing import Any

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import NoError, for_code

from transport.durability import Durability
from transport.kafka.client.errors import translate
from transport.kafka.connection.client_pool import ClientPool

__all__ = ["durability"]

_SEVERAL = 2
_ASKED = ("min.insync.replicas", "flush.messages", "unclean.leader.election.enable")


async def durability(admins: ClientPool[AIOKafkaAdminClient], topic: str) -> Durability:
    """Return the faults that an acknowledged append survives (our producer asks for ``acks=all``).

    They are unknown if our user may not read the topic's configuration.

    Raises:
        TransportUnavailable: Kafka can't be reached, or has no such topic yet.
    """
    resource = ConfigResource(ConfigResourceType.TOPIC, topic, configs=dict.fromkeys(_ASKED, ""))

    async def ask(admin: AIOKafkaAdminClient) -> tuple[dict[str, Any], Any]:
        (described,) = await admin.describe_topics([topic])
        (response,) = await admin.describe_configs([resource])
        return described, response

    described, response = await admins.ask(ask)
    if (error := for_code(described["error_code"])) is not NoError:
        raise translate(error(topic))
    replicas = min(len(partition["replicas"]) for partition in described["partitions"])
    ((code, message, _kind, _name, entries),) = response.resources
    if for_code(code) is not NoError:
        return Durability(None, None, None, {"replicas": str(replicas), "config": str(message)})
    figures = {entry[0]: entry[1] for entry in entries}
    # Only copies that must exist count: an append waits for min.insync.replicas. With fewer
    # replicas than that, no append is taken at all.
    copies = min(int(figures["min.insync.replicas"]), replicas)
    clean = figures["unclean.leader.election.enable"] == "false"
    return Durability(
        crash=True,  # the page cache outlives the process
        power=int(figures["flush.messages"]) == 1,
        disk=copies >= _SEVERAL and clean,
        figures={**figures, "replicas": str(replicas), "acks": "all"},
    )
