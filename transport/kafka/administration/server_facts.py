"""Facts about a Kafka cluster, which tells its clients neither its version nor its time."""

from __future__ import annotations

from aiokafka.admin import AIOKafkaAdminClient

from transport.kafka.connection.client_pool import ClientPool
from transport.kafka.connection.connection import Connector
from transport.server_facts import ServerFacts, is_far
from transport.settings import TransportSettings

__all__ = ["server_facts"]


async def server_facts(
    admins: ClientPool[AIOKafkaAdminClient], connector: Connector, settings: TransportSettings
) -> ServerFacts:
    """Return the number of brokers, their certificates, and a distant one without TLS, if any.

    Raises:
        TransportUnavailable: no broker can be reached.
    """
    described = await admins.ask(lambda admin: admin.describe_cluster())
    nodes = [(broker["host"], broker["port"]) for broker in described["brokers"]]
    brokers = len(nodes)
    far = None
    if "SSL" not in settings.kafka_security_protocol:
        far = next((host for host, _ in nodes if is_far(host)), None)
    return ServerFacts(
        version=f"Kafka, {brokers} {'brokers' if brokers > 1 else 'broker'}",
        unencrypted=far,
        certificates=await connector.certificates(nodes),
    )
