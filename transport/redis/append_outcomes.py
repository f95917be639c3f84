"""What the answers to appends mean."""

from __future__ import annotations

from collections.abc import Sequence

from redis.exceptions import ResponseError

from transport.contract import Appended, Envelope, Outcome, Remembered
from transport.errors import AppendUnknown, TransportError, TransportUnavailable
from transport.redis.connection import Reply
from transport.redis.errors import is_refusal, translate
from transport.redis.own_appends import Run

__all__ = ["doubted", "left_behind", "outcomes_of", "remembered", "told_apart"]

# Of a key that is not there any more, in a slot on its way: met in the midst of the call.
_NOT_HERE = "non local key"
_FOUND, _REFUSED = ord("="), ord("!")


def remembered(value: bytes) -> Remembered:
    """Parse the value that ``append`` wrote under a message id."""
    offset, accepted_at, fingerprint, correlation_id = value.decode().split(" ", 3)
    return Remembered(offset, accepted_at, fingerprint, correlation_id)


def told_apart(
    items: Sequence[bytes], envelopes: Sequence[Envelope], runs: dict[int, Run]
) -> list[bytes]:
    """Return the ids without those of the records before; note what stands next to each other."""
    bare = list(items)
    for index, item in enumerate(items):
        if item[0] == _FOUND or item[0] == _REFUSED:
            continue
        before, told, offset = item.rpartition(b"<")
        envelope = envelopes[index]
        if told:
            bare[index] = offset
            runs[envelope.partition] = Run(before.decode(), [envelope], [offset.decode()])
        elif run := runs.get(envelope.partition):
            run.envelopes.append(envelope)
            run.offsets.append(item.decode())
    return bare


def left_behind() -> AppendUnknown:
    """Return what is known of a record whose server was replaced before it answered.

    A primary that hung may take it after the rescue, in which nobody could report it.
    """
    return AppendUnknown("Redis failed over while the append was under way: retry")


def doubted(outcome: Outcome, doubt: AppendUnknown) -> Outcome:
    """Return what is known of a record that too few replicas have."""
    return outcome if isinstance(outcome, TransportError) else doubt


def outcomes_of(reply: Reply, count: int) -> Sequence[Outcome]:
    """Return what became of the ``count`` records of a call."""
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
