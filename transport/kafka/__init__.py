"""The log on Apache Kafka: topic ``msg.stream``, dead letters on ``msg.dlq``.

``transport.py`` puts the parts together. Follow an append: ``appender.py`` -> ``producer.py``.
Follow a delivery: ``consumer.py`` is a member of a group, ``membership.py`` its life with one Kafka
client, and ``claim.py`` one partition of it.
"""

from transport.kafka.transport import KafkaTransport

__all__ = ["KafkaTransport"]
