"""The log on Apache Kafka: topic ``msg.stream``, dead letters on ``msg.dlq``.

:mod:`~transport.kafka.transport` puts the parts together. Appending is in
:mod:`~transport.kafka.appender`, over a :mod:`~transport.kafka.producer`; a group's member is a
:mod:`~transport.kafka.consumer`, whose life with one Kafka client is a
:mod:`~transport.kafka.membership`, and whose partitions are :mod:`~transport.kafka.claim` objects.
"""

from transport.kafka.transport import KafkaTransport

__all__ = ["KafkaTransport"]
