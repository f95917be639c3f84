"""Everything a transport may raise.

    TransportError
    ├── TransportUnavailable   the log can't be reached or take writes now: back off, retry
    │   ├── TopicMissing       a stream, topic or group is gone: recreated at next use
    │   └── PartlyUnavailable  some partitions take no writes now, the others do
    ├── AppendUnknown          sent, no answer came, may stand in the log: retry, same key
    ├── PartitionLost          another owner has this partition now: drop the batch
    ├── DecodeError            these bytes are no envelope of ours: dead-letter them
    └── ConfigurationError     a setting can't work: correct the variable it names

Each adapter turns its client's exceptions into these in one place and chains the cause.
"""

from __future__ import annotations

__all__ = [
    "AppendUnknown",
    "ConfigurationError",
    "DecodeError",
    "PartitionLost",
    "PartlyUnavailable",
    "TopicMissing",
    "TransportError",
    "TransportUnavailable",
]


class TransportError(Exception):
    """Root of the tree. Catch it to handle any failure of a transport."""


class TransportUnavailable(TransportError):  # noqa: N818 - a state of the world, not a mistake
    """The log can't be reached, or can't take writes now. Nothing was appended.

    Remedy: back off and retry; the server's state is an operator's matter.
    """


class TopicMissing(TransportUnavailable):
    """A stream, topic or consumer group that existed is gone.

    Remedy: reopening recreates it at the beginning. Find out who removed it: records that were in
    it are lost, which ``stream_loss_detected_total`` counts.
    """


class PartlyUnavailable(TransportUnavailable):
    """The server of some partitions can't take writes now; those of the others take them.

    Remedy: none for who asks; the server that the message names is an operator's matter.
    """


class AppendUnknown(TransportError):  # noqa: N818 - the outcome is what is unknown
    """The append was sent and no answer came, so the record may or may not stand in the log.

    Remedy: retry with the same idempotency key; it can't double the row.
    """


class PartitionLost(TransportError):  # noqa: N818 - a state of the world, not a mistake
    """Another owner has this partition now; nothing of this claim counts any longer.

    Remedy: drop the batch in hand. The new owner reads the same records again.
    """


class DecodeError(TransportError):
    """The bytes are not an envelope this version can read.

    Remedy: dead-letter the record with its bytes intact; redrive it once a version that can read
    it runs.
    """


class ConfigurationError(TransportError):
    """A setting can't work as given. The message names the variable, the value and the remedy."""
