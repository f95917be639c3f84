"""The outcomes of appends, made of the server's replies."""

from __future__ import annotations

from collections.abc import Sequence

from redis.exceptions import ResponseError

from transport.contract import Appended, Outcome, Remembered
from transport.errors import AppendUnknown, TransportError, TransportUnavailable
from transport.redis.connection.connection import Reply
from transport.redis.connection.errors import is_refusal, translate

__all__ = [
    "failover_error",
    "foreign_reply",
    "outcomes_of",
    "remembered",
    "unconfirmed_outcome",
]

# The error of a call whose key's slot moved to another server while the call ran.
_NOT_HERE = "non local key"
_FOUND, _REFUSED = ord("="), ord("!")


def remembered(value: bytes) -> Remembered:
    """Parse the value that ``append`` wrote under a message id."""
    offset, accepted_at, fingerprint, correlation_id = value.decode().split(" ", 3)
    return Remembered(offset, accepted_at, fingerprint, correlation_id)


def failover_error() -> AppendUnknown:
    """Return the outcome of a record whose server was replaced while the append was under way.

    A hung primary may append the record after the rescue has ended. No process could report that
    record as lost.
    """
    return AppendUnknown("Redis failed over while the append was under way: retry")


def foreign_reply(reply: Reply, library: str) -> AppendUnknown:
    """Return the outcome of records whose call has a reply that no function of Crossfade gives."""
    return AppendUnknown(
        f"Redis answered an append with {reply!r:.80}, which is no reply to it: if another program "
        f"replaced the functions, FUNCTION DELETE {library}, and they are loaded again"
    )


def unconfirmed_outcome(outcome: Outcome, doubt: AppendUnknown) -> Outcome:
    """Return ``doubt`` for an appended or repeated record, since too few replicas confirmed it.

    A refused record keeps its own error.
    """
    return outcome if isinstance(outcome, TransportError) else doubt


def outcomes_of(reply: Reply, count: int) -> Sequence[Outcome]:
    """Return the outcomes of the ``count`` records of a call, in their order.

    Raises:
        TypeError, ValueError, IndexError: the reply is none of an append.
    """
    if type(reply) is list:
        if len(reply) != count:
            raise ValueError(f"{len(reply)} answers for {count} records")
        return [
            _refusal(item)
            if item[0] == _REFUSED
            else remembered(item[1:])
            if item[0] == _FOUND
            else Appended(item.decode())
            for item in reply
        ]
    if isinstance(reply, TransportError) or (is_refusal(reply) and _NOT_HERE not in str(reply)):
        return [translate(reply)] * count  # refused before it began
    if not isinstance(reply, Exception):
        raise TypeError("neither a list nor an error")
    unknown = AppendUnknown(f"the append was sent and no answer came ({reply})")
    unknown.__cause__ = reply
    return [unknown] * count


def _refusal(item: bytes) -> TransportError:
    error = translate(ResponseError(item[1:].decode("utf-8", "replace")))
    return error if isinstance(error, TransportUnavailable) else TransportUnavailable(str(error))
