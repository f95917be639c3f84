"""Kafka against the public suite, unchanged."""

from __future__ import annotations

import pytest

from compose.local.kafka import KafkaServer
from tests.kafka.kafka_backend import backend_on
from transport.conformance import *  # noqa: F403
from transport.conformance import Backend
from transport.settings import TransportSettings


@pytest.fixture
def backend(kafka_server: KafkaServer, kafka_settings: TransportSettings) -> Backend:
    return backend_on(kafka_server, kafka_settings)
