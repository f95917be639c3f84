"""The translation of aiokafka's errors to the transport's errors, in one place.

Each class of ``aiokafka.errors`` has a row in ``MEANING``. A test looks for missing rows, so a new
release of aiokafka can't bring an error that we don't know.
"""

from __future__ import annotations

from aiokafka import errors as kafka

from transport.errors import (
    AppendUnknown,
    ConfigurationError,
    TopicMissing,
    TransportError,
    TransportUnavailable,
)
from transport.tls_refusals import certificate_refusal

__all__ = [
    "MEANING",
    "InvalidRecordError",
    "append_error",
    "install",
    "translate",
]


class InvalidRecordError(kafka.BrokerResponseError):  # type: ignore[misc]
    """The topic does not take a record of the batch (KIP-467); aiokafka (0.14) lacks it."""

    errno = 87
    message = "INVALID_RECORD"


_ADDED = (InvalidRecordError,)


_NETWORK = "Kafka can't be reached: check KAFKA_BOOTSTRAP_SERVERS, and that it runs"
_AUTHORITIES, _OWN = "KAFKA_SSL_CAFILE", "KAFKA_SSL_CERTFILE"
_SLOW = "Kafka did not answer in time"
_LEADER = "a partition has no leader now"
_COORDINATOR = "the group's coordinator is not ready"
_REPLICAS = "too few replicas are in step (min.insync.replicas)"
_DISK = "Kafka can't write to its disk"
_PROTOCOL = "Kafka gave an unexpected answer"
_REFUSED = "Kafka refused the request"
_SEQUENCE = "the producer's sequence is broken; it is being rebuilt"
_MEMBERS = "the group has members, of another program"
_ACL = "Kafka's access rules forbid it: allow our user the topics and the groups"
# A producer id requires Write on any topic, or IdempotentWrite on the cluster (KIP-679).
_ACL_TO_WRITE = "Kafka's access rules forbid it: allow our user Write on the topics"
_AUTH = (
    "Kafka refused our credentials: check KAFKA_SASL_USERNAME and KAFKA_SASL_PASSWORD (or its "
    "file), or with OAUTHBEARER the token's audience, scope and time"
)
_SASL = "Kafka's listener speaks another SASL: check KAFKA_SECURITY_PROTOCOL, KAFKA_SASL_MECHANISM"
_TOO_OLD = "this Kafka is too old"
_GROUP = (
    "the group is used by another kind of client: give that program a group of its own, or set "
    "KAFKA_GROUP_PREFIX"
)
_SIZE = "a record is larger than the topic allows (max.message.bytes)"
_RECORD = (
    "the topic does not take a record: set its cleanup.policy to delete (with compact, each record "
    "needs a key), and have its schemas not checked"
)
_TIME = "the topic does not take a record's time: set message.timestamp.type to LogAppendTime"
_TOPIC = "Kafka can't make the topic as configured: check KAFKA_TOPIC, KAFKA_REPLICATION_FACTOR"
_TRANSACTION = "Kafka answered about a transaction, which we do not use"
_TOKEN = "Kafka answered about a delegation token, which we do not use"  # noqa: S105 - prose
_GONE = "the topic is gone"

# An error's class is looked up first, then its base classes, in the order of inheritance.
MEANING: dict[type[BaseException], tuple[type[TransportError], str]] = {
    kafka.KafkaError: (TransportUnavailable, _REFUSED),
    kafka.BrokerResponseError: (TransportUnavailable, _REFUSED),
    kafka.KafkaProtocolError: (TransportUnavailable, _PROTOCOL),
    # connections and answers
    kafka.KafkaConnectionError: (TransportUnavailable, _NETWORK),
    kafka.NoBrokersAvailable: (TransportUnavailable, _NETWORK),
    kafka.NodeNotReadyError: (TransportUnavailable, _NETWORK),
    kafka.KafkaUnavailableError: (TransportUnavailable, _NETWORK),
    kafka.BrokerNotAvailableError: (TransportUnavailable, _NETWORK),
    kafka.MetadataEmptyBrokerList: (TransportUnavailable, _NETWORK),
    kafka.ListenerNotFound: (TransportUnavailable, _NETWORK),
    kafka.KafkaTimeoutError: (TransportUnavailable, _SLOW),
    kafka.RequestTimedOutError: (TransportUnavailable, _SLOW),
    kafka.Cancelled: (TransportUnavailable, _SLOW),
    kafka.TooManyInFlightRequests: (TransportUnavailable, _SLOW),
    kafka.QuotaViolationError: (TransportUnavailable, "Kafka's quota is used up"),
    kafka.CorrelationIdError: (TransportUnavailable, _PROTOCOL),
    kafka.CorruptRecordException: (TransportUnavailable, "a record came back damaged"),
    kafka.UnknownError: (TransportUnavailable, _PROTOCOL),
    kafka.NoError: (TransportUnavailable, _PROTOCOL),
    kafka.InvalidRequestError: (TransportUnavailable, _PROTOCOL),
    kafka.InvalidFetchRequestError: (TransportUnavailable, _PROTOCOL),
    kafka.FetchSessionIdNotFound: (TransportUnavailable, _PROTOCOL),
    kafka.InvalidFetchSessionEpoch: (TransportUnavailable, _PROTOCOL),
    kafka.IllegalArgumentError: (TransportUnavailable, _PROTOCOL),
    kafka.UnsupportedForMessageFormatError: (TransportUnavailable, _PROTOCOL),
    kafka.UnsupportedCodecError: (TransportUnavailable, "a record's compression is unknown to us"),
    # leaders and replicas
    kafka.StaleMetadata: (TransportUnavailable, _LEADER),
    kafka.LeaderNotAvailableError: (TransportUnavailable, _LEADER),
    kafka.NotLeaderForPartitionError: (TransportUnavailable, _LEADER),
    kafka.ReplicaNotAvailableError: (TransportUnavailable, _LEADER),
    kafka.StaleControllerEpochError: (TransportUnavailable, _LEADER),
    kafka.StaleLeaderEpochCodeError: (TransportUnavailable, _LEADER),
    kafka.NotControllerError: (TransportUnavailable, _LEADER),
    kafka.ReassignmentInProgress: (TransportUnavailable, _LEADER),
    kafka.NotEnoughReplicasError: (TransportUnavailable, _REPLICAS),
    kafka.NotEnoughReplicasAfterAppendError: (TransportUnavailable, _REPLICAS),
    kafka.InvalidRequiredAcksError: (TransportUnavailable, _PROTOCOL),
    kafka.KafkaStorageError: (TransportUnavailable, _DISK),
    kafka.LogDirNotFound: (TransportUnavailable, _DISK),
    kafka.OffsetOutOfRangeError: (TransportUnavailable, "the log no longer has this offset"),
    kafka.NoOffsetForPartitionError: (TransportUnavailable, _PROTOCOL),
    # groups
    kafka.GroupLoadInProgressError: (TransportUnavailable, _COORDINATOR),
    kafka.GroupCoordinatorNotAvailableError: (TransportUnavailable, _COORDINATOR),
    kafka.NotCoordinatorForGroupError: (TransportUnavailable, _COORDINATOR),
    kafka.NonEmptyGroup: (TransportUnavailable, _GROUP),
    kafka.GroupIdNotFound: (TransportUnavailable, _COORDINATOR),
    kafka.MemberIdRequired: (TransportUnavailable, _COORDINATOR),
    kafka.OffsetMetadataTooLargeError: (TransportUnavailable, _PROTOCOL),
    kafka.InvalidCommitOffsetSizeError: (TransportUnavailable, _PROTOCOL),
    kafka.CommitFailedError: (TransportUnavailable, _MEMBERS),
    kafka.IllegalStateError: (TransportUnavailable, _PROTOCOL),
    kafka.IllegalGenerationError: (TransportUnavailable, _MEMBERS),
    kafka.UnknownMemberIdError: (TransportUnavailable, _MEMBERS),
    kafka.RebalanceInProgressError: (TransportUnavailable, _MEMBERS),
    # clients that are closed, and producers that must be rebuilt
    kafka.ConsumerStoppedError: (TransportUnavailable, "the consumer was closed"),
    kafka.IllegalOperation: (TransportUnavailable, _PROTOCOL),
    kafka.ProducerClosed: (TransportUnavailable, "the producer was closed"),
    kafka.ProducerFenced: (TransportUnavailable, _SEQUENCE),
    kafka.OutOfOrderSequenceNumber: (TransportUnavailable, _SEQUENCE),
    kafka.DuplicateSequenceNumber: (TransportUnavailable, _SEQUENCE),
    kafka.InvalidProducerEpoch: (TransportUnavailable, _SEQUENCE),
    kafka.InvalidProducerIdMapping: (TransportUnavailable, _SEQUENCE),
    kafka.UnknownProducerId: (TransportUnavailable, _SEQUENCE),
    kafka.InvalidTxnState: (TransportUnavailable, _TRANSACTION),
    kafka.InvalidTransactionTimeout: (TransportUnavailable, _TRANSACTION),
    kafka.ConcurrentTransactions: (TransportUnavailable, _TRANSACTION),
    kafka.TransactionCoordinatorFenced: (TransportUnavailable, _TRANSACTION),
    kafka.OperationNotAttempted: (TransportUnavailable, _TRANSACTION),
    kafka.DelegationTokenAuthDisabled: (TransportUnavailable, _TOKEN),
    kafka.DelegationTokenNotFound: (TransportUnavailable, _TOKEN),
    kafka.DelegationTokenOwnerMismatch: (TransportUnavailable, _TOKEN),
    kafka.DelegationTokenRequestNotAllowed: (TransportUnavailable, _TOKEN),
    kafka.DelegationTokenAuthorizationFailed: (TransportUnavailable, _TOKEN),
    kafka.DelegationTokenExpired: (TransportUnavailable, _TOKEN),
    kafka.InvalidPrincipalType: (TransportUnavailable, _TOKEN),
    # topics
    kafka.UnknownTopicOrPartitionError: (TopicMissing, _GONE),
    kafka.TopicAlreadyExistsError: (TransportUnavailable, _REFUSED),
    kafka.InvalidTimestampError: (TransportUnavailable, _TIME),
    InvalidRecordError: (TransportUnavailable, _RECORD),
    # one record's own fault
    kafka.MessageSizeTooLargeError: (TransportError, _SIZE),
    kafka.RecordTooLargeError: (TransportError, _SIZE),
    kafka.RecordListTooLargeError: (TransportError, _SIZE),
    # an operator's hand is needed
    kafka.KafkaConfigurationError: (ConfigurationError, _REFUSED),
    kafka.InvalidConfigurationError: (ConfigurationError, _TOPIC),
    kafka.InvalidTopicError: (ConfigurationError, _TOPIC),
    kafka.InvalidPartitionsError: (ConfigurationError, _TOPIC),
    kafka.InvalidReplicationFactorError: (ConfigurationError, _TOPIC),
    kafka.InvalidReplicationAssignmentError: (ConfigurationError, _TOPIC),
    kafka.PolicyViolationError: (ConfigurationError, _TOPIC),
    kafka.TopicAuthorizationFailedError: (ConfigurationError, _ACL),
    kafka.GroupAuthorizationFailedError: (ConfigurationError, _ACL),
    kafka.ClusterAuthorizationFailedError: (ConfigurationError, _ACL_TO_WRITE),
    kafka.TransactionalIdAuthorizationFailed: (ConfigurationError, _ACL),
    kafka.AuthenticationFailedError: (ConfigurationError, _AUTH),
    kafka.SaslAuthenticationFailed: (ConfigurationError, _AUTH),
    kafka.AuthenticationMethodNotSupported: (ConfigurationError, _SASL),
    kafka.UnsupportedSaslMechanismError: (ConfigurationError, _SASL),
    kafka.IllegalSaslStateError: (ConfigurationError, _SASL),
    kafka.SecurityDisabled: (ConfigurationError, _SASL),
    kafka.InvalidSessionTimeoutError: (ConfigurationError, _GROUP),
    kafka.InvalidGroupIdError: (ConfigurationError, _GROUP),
    kafka.InconsistentGroupProtocolError: (ConfigurationError, _GROUP),
    kafka.UnsupportedVersionError: (ConfigurationError, _TOO_OLD),
    kafka.IncompatibleBrokerVersion: (ConfigurationError, _TOO_OLD),
    kafka.UnrecognizedBrokerVersion: (ConfigurationError, _TOO_OLD),
    # not the client's own
    OSError: (TransportUnavailable, _NETWORK),
    TimeoutError: (TransportUnavailable, _SLOW),
}

# With these errors the batch is surely not in the log: the broker refused it before it wrote.
_NOT_APPENDED = (
    kafka.MessageSizeTooLargeError,
    kafka.RecordListTooLargeError,
    kafka.TopicAuthorizationFailedError,
    kafka.ClusterAuthorizationFailedError,
    kafka.InvalidTimestampError,
    InvalidRecordError,
    kafka.InvalidTopicError,
    kafka.PolicyViolationError,
    kafka.ProducerClosed,
)


def translate(error: BaseException, *, starting: bool = False) -> TransportError:
    """Return the transport's error for ``error``, with ``error`` as its cause.

    A ``TransportError`` is returned unchanged. An error that only an operator can mend is a
    ``ConfigurationError`` while ``starting``, which ends the start. Later, if rights were taken
    away for example, it is an outage: it is retried.
    """
    if isinstance(error, TransportError):
        return error
    meaning, remedy = _meaning(error)
    remedy = certificate_refusal(error, authorities=_AUTHORITIES, own=_OWN) or remedy
    if meaning is ConfigurationError and not starting:
        meaning = TransportUnavailable
    translated = meaning(f"{remedy} ({_name(error)})")
    translated.__cause__ = error
    return translated


def append_error(error: BaseException, *, resent: bool = False) -> TransportError:
    """Translate an error that came in place of an acknowledgement.

    The result is an ``AppendUnknown`` unless the batch was surely not appended. If it was
    ``resent``, an earlier attempt may have been.
    """
    if isinstance(error, TransportError) or (isinstance(error, _NOT_APPENDED) and not resent):
        return translate(error)
    translated = AppendUnknown(
        f"{_meaning(error)[1]}; the records may stand in the log ({_name(error)})"
    )
    translated.__cause__ = error
    return translated


def install() -> None:
    """Make every client of this process know the errors that aiokafka lacks."""
    kafka.kafka_errors.update({added.errno: added for added in _ADDED})


def _meaning(error: BaseException) -> tuple[type[TransportError], str]:
    for cls in type(error).__mro__:
        if cls in MEANING:
            return MEANING[cls]
    return TransportUnavailable, "unexpected failure"


def _name(error: BaseException) -> str:
    text = str(error)
    name = type(error).__name__
    return text if name in text else f"{name}: {text}".removesuffix(": ")
