"""What an acknowledgement of this Kafka is worth, from the topic's own configuration."""

from __future__ import annotations

from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import KafkaError, NoError, for_code

from transport.durability import Durability
from transport.errors import TransportUnavailable
from transport.kafka.closing import discard_admin
from transport.kafka.connection import Connector
from transport.kafka.errors import translate
from transport.settings import TransportSettings

__all__ = ["durability"]

_SEVERAL = 2
_ASKED = ("min.insync.replicas", "flush.messages", "unclean.leader.election.enable")


async def durability(settings: TransportSettings) -> Durability:
    """Return what an acknowledged append survives (our producer asks for ``acks=all``).

    Unknown where the topic's configuration may not be read.

    Raises:
        TransportUnavailable: Kafka can't be reached, or has no such topic yet.
    """
    connector = Connector(settings)
    admin = await connector.admin()
    try:
        (topic,) = await admin.describe_topics([settings.kafka_topic])
        if (error := for_code(topic["error_code"])) is not NoError:
            raise translate(error(settings.kafka_topic))
        resource = ConfigResource(
            ConfigResourceType.TOPIC, settings.kafka_topic, configs=dict.fromkeys(_ASKED, "")
        )
        (response,) = await admin.describe_configs([resource])
    except KafkaError as error:
        raise translate(error) from error
    except (OSError, TimeoutError) as error:
        raise TransportUnavailable(f"Kafka does not answer: {error}") from error
    finally:
        await discard_admin(admin)
    replicas = min(len(partition["replicas"]) for partition in topic["partitions"])
    ((code, message, _kind, _name, entries),) = response.resources
    if for_code(code) is not NoError:
        return Durability(None, None, None, {"replicas": str(replicas), "config": str(message)})
    told = {entry[0]: entry[1] for entry in entries}
    # More copies than must answer are luck; fewer replicas than must answer take no append at all.
    copies = min(int(told["min.insync.replicas"]), replicas)
    clean = told["unclean.leader.election.enable"] == "false"
    return Durability(
        crash=True,  # the page cache outlives the process
        power=int(told["flush.messages"]) == 1,
        disk=copies >= _SEVERAL and clean,
        figures={**told, "replicas": str(replicas), "acks": "all"},
    )
