"""Translate the server's replies to appends into outcomes."""

from __future__ import annotations

from collections.abc import Sequence

from redis.exceptions import ResponseError

from transport.contract import Appended, Envelope, Outcome, Remembered
from transport.errors import AppendUnknown, TransportError, TransportUnavailable
from transport.redis.append.own_appends import Run
from transport.redis.connection.connection import Reply
from transport.redis.connection.errors import is_refusal, translate
from transport.redis.records import is_later

__all__ = ["doubted", "left_behind", "outcomes_of", "remembered", "told_apart"]

# The error of a call whose key's slot moved to another server while the call ran.
_NOT_HERE = "non local key"
_FOUND, _REFUSED = ord("="), ord("!")


def remembered(value: bytes) -> Remembered:
    """Parse the value that ``append`` wrote under a message id."""
    offset, accepted_at, fingerprint, correlation_id = value.decode().split(" ", 3)
    return Remembered(offset, accepted_at, fingerprint, correlation_id)


def told_apart(
    items: Sequence[bytes], envelopes: Sequence[Envelope], runs: dict[int, Run]
) -> list[bytes]:
    """Return the ids alone, and add each record to the run of its partition.

    The server names the record before another one where a run begins. A run whose ids are not later
    is of a stream that was deleted, and began anew on a clock that was behind: it has to be read.

    Args:
        items: the replies, one for each envelope.
        envelopes: the records, in the order of the call.
        runs: by partition, the records that stand next to each other; changed here.
    """
    bare = list(items)
    for index, item in enumerate(items):
        if item[0] == _FOUND or item[0] == _REFUSED:
            continue
        named, told, own = item.rpartition(b"<")
        envelope = envelopes[index]
        if told:
            bare[index] = own
            before, offset = named.decode(), own.decode()
            if is_later(offset, before):
                runs[envelope.partition] = Run(before, [envelope], [offset])
        elif run := runs.get(envelope.partition):
            run.envelopes.append(envelope)
            run.offsets.append(item.decode())
    return bare


def left_behind() -> AppendUnknown:
    """Return the outcome of a record whose server was replaced before it answered.

    The old primary may have hung, and append the record after the rescue is over. No process
    could report it as lost by then.
    """
    return AppendUnknown("Redis failed over while the append was under way: retry")


def doubted(outcome: Outcome, doubt: AppendUnknown) -> Outcome:
    """Return ``doubt`` for a record that was appended, since too few replicas confirmed it.

    A record that was refused keeps its error.
    """
    return outcome if isinstance(outcome, TransportError) else doubt


def outcomes_of(reply: Reply, count: int) -> Sequence[Outcome]:
    """Return the outcomes of the ``count`` records of a call, in their order."""
    if type(reply) is list:
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
    unknown = AppendUnknown(f"the append was sent and no answer came ({reply})")
    unknown.__cause__ = reply
    return [unknown] * count


def _refusal(item: bytes) -> TransportError:
    error = translate(ResponseError(item[1:].decode("utf-8", "replace")))
    return error if isinstance(error, TransportUnavailable) else TransportUnavailable(str(error))
