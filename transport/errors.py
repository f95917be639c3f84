"""The errors that a transport may raise.

    TransportError
    ├── TransportUnavailable   the log can't be reached or take writes now: back off, retry
    │   ├── TopicMissing       a stream, topic or group is gone: recreated at next use
    │   ├── PartlyUnavailable  some partitions take no writes now, the others do
    │   ├── Unreadable         it takes writes, and this process can't read it
    │   └── Unwritable         it can be read and drained, and takes no appends
    ├── AppendUnknown          sent, no answer came, may be in the log: retry, same key
    ├── DecodeError            these bytes are no envelope of ours: dead-letter them
    └── ConfigurationError     a setting can't work: correct the variable it names

Each adapter translates its client's exceptions to these in one place, and chains the cause.
"""

from __future__ import annotations

__all__ = [
    "AppendUnknown",
    "ConfigurationError",
    "DecodeError",
    "PartlyUnavailable",
    "TopicMissing",
    "TransportError",
    "TransportUnavailable",
    "Unreadable",
    "Unwritable",
    "one_line",
]


class TransportError(Exception):
    """The base class. Catch it to handle any failure of a transport."""


class TransportUnavailable(TransportError):  # noqa: N818 - a state of the world, not a mistake
    """The log can't be reached, or can't take writes now. Nothing was appended.

    Remedy: back off and retry. An operator has to look after the server.
    """


class TopicMissing(TransportUnavailable):
    """A stream, topic or consumer group that existed is gone.

    Remedy: it is made again when the log is reopened. Find out who removed it: its records are
    lost, and ``stream_loss_detected_total`` counts them.
    """


class PartlyUnavailable(TransportUnavailable):
    """The servers of some partitions can't take writes now; those of the others can.

    Remedy: none for the caller. An operator has to look after the server that the message names.
    """


class Unreadable(TransportUnavailable):
    """The log takes writes, and this process can't read it now.

    Remedy: none for the caller. An operator has to do what the message says.
    """


class Unwritable(TransportUnavailable):
    """The log takes no appends now: it is full, or lacks replicas. Workers can read and drain it.

    Remedy: none for the caller. An operator has to do what the message says.
    """


class AppendUnknown(TransportError):  # noqa: N818 - the outcome is what is unknown
    """The append was sent and no answer came, so the record may or may not be in the log.

    Remedy: retry with the same idempotency key. There will be only one row.
    """


class DecodeError(TransportError):
    """The bytes are not an envelope that this version can read.

    Remedy: dead-letter the record with intact bytes. Redrive it once a version runs that can read
    it.
    """


class ConfigurationError(TransportError):
    """A setting can't work. The message names the variable, the value and the remedy."""


def one_line(error: BaseException, *, empty: str = "") -> str:
    """Return the text of any error in one line.

    Args:
        error: The error. The texts of servers often have several lines.
        empty: The text for an error that has none, such as a timeout; by default its class's name.
    """
    return " ".join(str(error).split()) or empty or type(error).__name__
