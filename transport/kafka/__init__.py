"""The log on Apache Kafka: topic ``msg.stream``, dead letters on ``msg.dlq``.

The log ``kafka@32`` has ``msg.stream.32`` and ``msg.dlq.32``, and ``.32`` behind its groups' names.

``transport.py`` puts the parts together. Follow an append: ``appender.py`` ->
``producer/producer.py``. Follow a delivery, in ``delivery/``: ``consumer.py`` is a member of a
group, ``membership.py`` runs it with one Kafka client, ``fetching.py`` moves records into claims,
and ``claim.py`` is the claim of one partition. ``group/`` reads and writes a group's state in
Kafka, and ``loss/`` notices a topic that was made anew or lost records.
"""

from transport.kafka.transport import KafkaTransport

__all__ = ["KafkaTransport"]
