"""Kafka against the public suite, unchanged."""

from __future__ import annotations

import pytest

from compose.local.kafka import KafkaServer
from tests.kafka.kafka_backend import backend_on
from transport.conformance import *  # noqa: F403
from transport.conformance import Backend
from transport.settings import TransportSettings


@pytest.fixture(params=["kafka", "kafka.eu@3"])
def backend(
    kafka_server: KafkaServer, kafka_settings: TransportSettings, request: pytest.FixtureRequest
) -> Backend:
    elsewhere = kafka_settings.model_copy(update={"kafka_bootstrap_servers": "127.0.0.1:1"})
    if request.param == "kafka.eu@3":
        return backend_on(
            kafka_server, elsewhere.with_labels({"eu": kafka_settings}), request.param
        )
    return backend_on(kafka_server, kafka_settings)
