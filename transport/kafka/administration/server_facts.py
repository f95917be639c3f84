"""Facts of a Kafka cluster. It tells clients no version and no time."""

from __future__ import annotations

from aiokafka.admin import AIOKafkaAdminClient

from transport.kafka.connection.client_pool import ClientPool
from transport.server_facts import ServerFacts, is_far
from transport.settings import TransportSettings

__all__ = ["server_facts"]


async def server_facts(
    admins: ClientPool[AIOKafkaAdminClient], settings: TransportSettings
) -> ServerFacts:
    """Return them.

    Raises:
        TransportUnavailable: no broker can be reached.
    """
    described = await admins.ask(lambda admin: admin.describe_cluster())
    brokers = len(described["brokers"])
    far = None
    if "SSL" not in settings.kafka_security_protocol:
        far = next((b["host"] for b in described["brokers"] if is_far(b["host"])), None)
    return ServerFacts(
        version=f"Kafka, {brokers} {'brokers' if brokers > 1 else 'broker'}", unencrypted=far
    )
