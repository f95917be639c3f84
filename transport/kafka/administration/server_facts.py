"""Facts about a Kafka cluster, which tells its clients neither its version nor its time."""

from __future__ import annotations

from aiokafka.admin import AIOKafkaAdminClient

from transport.kafka.connection.client_pool import ClientPool
from transport.server_facts import ServerFacts, is_far
from transport.settings import TransportSettings

__all__ = ["server_facts"]


async def server_facts(
    admins: ClientPool[AIOKafkaAdminClient], settings: TransportSettings
) -> ServerFacts:
    """Return the number of brokers, and a distant one that is reached without TLS, if any.

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
