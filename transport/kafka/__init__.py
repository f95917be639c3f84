"""The log on Apache Kafka: topic ``msg.stream``, dead letters on ``msg.dlq``.

The log ``kafka@32`` has ``msg.stream.32`` and ``msg.dlq.32``, and ``.32`` behind its groups' names.

``transport.py`` puts the parts together. Follow an append: ``appender.py`` ->
``producer/producer.py``. Follow a delivery, in ``delivery/``: ``consumer.py`` is a member of a
group, ``membership.py`` its life with one Kafka client, ``fetching.py`` moves records into claims,
and ``claim.py`` is one partition of it. ``group/`` has what Kafka keeps of a group, and ``loss/``
notices a log that is not the one that was read.
"""

from transport.kafka.transport import KafkaTransport

__all__ = ["KafkaTransport"]
