"""The log on Apache Kafka: topic ``msg.stream``, dead letters on ``msg.dlq``.

The log ``kafka@32`` has ``msg.stream.32`` and ``msg.dlq.32``, and ``.32`` behind its groups' names.

``transport.py`` puts the parts together. Follow an append: ``appender.py`` ->
``producer/producer.py``. Follow a read: ``read_ahead/read_ahead.py`` continues where the last one
ended, ``read_ahead/fetcher.py`` fetches ahead of it, ``read_ahead/fetch_intake.py`` takes the
answers in, and ``reader.py`` reads without that. ``group/`` shows positions as a group's, and
``loss/`` notices a topic that was made anew or lost records.
"""

from transport.kafka.transport import KafkaTransport

__all__ = ["KafkaTransport"]
