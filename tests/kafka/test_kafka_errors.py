"""Every error of the client has a meaning of ours."""

from __future__ import annotations

import inspect

import pytest
from aiokafka import errors as kafka

from transport.errors import (
    AppendUnknown,
    ConfigurationError,
    TopicMissing,
    TransportError,
    TransportUnavailable,
)
from transport.kafka.client.errors import MEANING, append_error, translate

_ALL = [
    cls
    for _, cls in inspect.getmembers(kafka, inspect.isclass)
    if issubclass(cls, Exception) and cls.__module__ == kafka.__name__
]


def test_no_error_of_the_client_is_without_a_meaning() -> None:
    assert len(_ALL) > 90
    assert [cls.__name__ for cls in _ALL if cls not in MEANING] == []


# BrokerResponseError is only a base: it has no number, and can't be printed.
_RAISED = [cls for cls in _ALL if cls is not kafka.BrokerResponseError]


@pytest.mark.parametrize("cls", _RAISED, ids=lambda cls: cls.__name__)
def test_each_is_told_with_its_cause(cls: type[Exception]) -> None:
    cause = cls()
    for told in (translate(cause), translate(cause, starting=True), append_error(cause)):
        assert isinstance(told, TransportError)
        assert told.__cause__ is cause
        assert cls.__name__ in str(told)


@pytest.mark.parametrize(
    ("cause", "meaning"),
    [
        (kafka.KafkaConnectionError(), TransportUnavailable),
        (kafka.NotEnoughReplicasError(), TransportUnavailable),
        (kafka.UnknownTopicOrPartitionError(), TopicMissing),
        (kafka.IllegalGenerationError(), TransportUnavailable),
        (kafka.TopicAuthorizationFailedError(), TransportUnavailable),
        (TimeoutError(), TransportUnavailable),
        (ConnectionResetError(), TransportUnavailable),
    ],
    ids=repr,
)
def test_what_running_parts_are_told(cause: Exception, meaning: type[TransportError]) -> None:
    assert type(translate(cause)) is meaning


def test_a_number_that_the_client_does_not_know_is_an_outage() -> None:
    assert type(translate(kafka.for_code(9999)())) is TransportUnavailable


def test_what_only_an_operator_can_mend_stops_the_start_and_is_an_outage_later() -> None:
    refusal = kafka.SaslAuthenticationFailed()
    assert type(translate(refusal, starting=True)) is ConfigurationError
    assert type(translate(refusal)) is TransportUnavailable


@pytest.mark.parametrize(
    ("cause", "meaning"),
    [
        (kafka.KafkaConnectionError(), AppendUnknown),
        (kafka.RequestTimedOutError(), AppendUnknown),
        (kafka.OutOfOrderSequenceNumber(), AppendUnknown),
        (kafka.NotEnoughReplicasAfterAppendError(), AppendUnknown),
        (kafka.MessageSizeTooLargeError(), TransportError),
        (kafka.TopicAuthorizationFailedError(), TransportUnavailable),
    ],
    ids=repr,
)
def test_an_append_is_unknown_unless_it_surely_did_not_happen(
    cause: Exception, meaning: type[TransportError]
) -> None:
    assert type(append_error(cause)) is meaning
