"""A log of another label and number of partitions: the part of the suite where its name counts.

A name decides topics, groups, partitions and the identity. What is delivered to whom depends on
none of these, and is tried under the plain name (``test_kafka_conformance.py``).
"""

from __future__ import annotations

import pytest

from compose.local.kafka import KafkaServer
from tests.kafka.kafka_backend import backend_on
from transport.conformance.backend import Backend
from transport.conformance.groups import *  # noqa: F403
from transport.conformance.identity import *  # noqa: F403
from transport.conformance.progress import *  # noqa: F403
from transport.conformance.publishing import *  # noqa: F403
from transport.conformance.removal import *  # noqa: F403
from transport.settings import TransportSettings


@pytest.fixture
def backend(kafka_server: KafkaServer, kafka_settings: TransportSettings) -> Backend:
    elsewhere = kafka_settings.model_copy(update={"kafka_bootstrap_servers": "127.0.0.1:1"})
    return backend_on(kafka_server, elsewhere.with_labels({"eu": kafka_settings}), "kafka.eu@3")
