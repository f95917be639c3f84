"""Appending: one round trip for a whole tick, one function call per partition in it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from redis.exceptions import ResponseError

from transport.contract import Appended, Envelope, Outcome, Remembered
from transport.envelope import HEADER_CORRELATION_ID
from transport.errors import AppendUnknown, TransportError, TransportUnavailable
from transport.redis.connections import Connections
from transport.redis.errors import is_refusal, translate
from transport.redis.functions import Functions
from transport.redis.keys import Log
from transport.redis.line import Reply
from transport.redis.records import FIELD_BODY, FIELD_KEY

__all__ = ["Publisher", "remembered"]

_FOUND, _REFUSED = ord("="), ord("!")
# The server does nothing else during a call: at some 5 us a record, this bounds it to a few ms.
_RECORDS_PER_CALL = 1000


class Publisher:
    """Appends to one log's partitions, and remembers for ``seconds`` what it appended."""

    def __init__(self, functions: Functions, log: Log, *, seconds: int) -> None:
        self._functions = functions
        self._streams = log.streams
        self._memories = [log.memory(p) for p in range(len(log.streams))]
        self._seconds = seconds

    async def publish(self, envelopes: Sequence[Envelope], *, remember: bool) -> list[Outcome]:
        """Append in order; see :meth:`transport.contract.Transport.publish`."""
        outcomes: list[Outcome | None] = [None] * len(envelopes)
        waiting: dict[int, list[int]] = {}
        for i, envelope in enumerate(envelopes):
            if envelope.partition in waiting:
                waiting[envelope.partition].append(i)
            else:
                waiting[envelope.partition] = [i]
        while waiting:
            # A partition's next call is sent when its last has answered: calls that are resent
            # because the library was missing could otherwise change places.
            turn = {p: indexes[:_RECORDS_PER_CALL] for p, indexes in waiting.items()}
            waiting = {
                p: rest for p, indexes in waiting.items() if (rest := indexes[_RECORDS_PER_CALL:])
            }
            await self._turn(envelopes, turn, outcomes, remember=remember)
        return outcomes  # type: ignore[return-value]  # every index stood in some turn

    async def _turn(
        self,
        envelopes: Sequence[Envelope],
        turn: Mapping[int, Sequence[int]],
        outcomes: list[Outcome | None],
        *,
        remember: bool,
    ) -> None:
        seconds = self._seconds if remember else 0
        commands = [
            self._command(partition, [envelopes[i] for i in indexes], seconds)
            for partition, indexes in turn.items()
        ]
        try:
            replies = await self._functions.exchange(commands)
        except TransportError as error:
            replies = [error] * len(commands)
        for indexes, reply in zip(turn.values(), replies, strict=True):
            for i, outcome in zip(indexes, _outcomes(reply, len(indexes)), strict=True):
                outcomes[i] = outcome

    def _command(
        self, partition: int, envelopes: Sequence[Envelope], seconds: int
    ) -> tuple[str | bytes | int, ...]:
        keys = [self._streams[partition]]
        if seconds:
            memory = self._memories[partition]
            keys += [memory + envelope.message_id for envelope in envelopes]
        arguments: list[str | bytes | int] = [seconds]
        for e in envelopes:
            headers = e.headers
            arguments += (
                f"{e.accepted_at} {e.fingerprint} {headers.get(HEADER_CORRELATION_ID, '')}",
                2 * len(headers) + 4,
                FIELD_KEY,
                e.key,
                FIELD_BODY,
                e.body,
            )
            for header in headers.items():
                arguments += header
        return self._functions.command("append", keys, *arguments)

    async def recall(
        self, connections: Connections, wanted: Mapping[int, Sequence[str]]
    ) -> dict[str, Remembered]:
        """Return what is remembered of message ids, which come by partition.

        Raises:
            TransportUnavailable: the log can't be asked now.
        """
        commands = [
            ("MGET", *(self._memories[partition] + identifier for identifier in identifiers))
            for partition, identifiers in wanted.items()
        ]
        found: dict[str, Remembered] = {}
        replies = await connections.exchange(commands)
        for identifiers, reply in zip(wanted.values(), replies, strict=True):
            if isinstance(reply, Exception):
                raise translate(reply)
            for identifier, value in zip(identifiers, reply, strict=True):
                if value is not None:
                    found[identifier] = remembered(value)
        return found


def remembered(value: bytes) -> Remembered:
    """Return what ``append`` wrote under a message id."""
    offset, accepted_at, fingerprint, correlation_id = value.decode().split(" ", 3)
    return Remembered(offset, accepted_at, fingerprint, correlation_id)


def _outcomes(reply: Reply, count: int) -> Sequence[Outcome]:
    if type(reply) is list:
        return [
            _refusal(item)
            if item[0] == _REFUSED
            else remembered(item[1:])
            if item[0] == _FOUND
            else Appended(item.decode())
            for item in reply
        ]
    if isinstance(reply, TransportError) or is_refusal(reply):
        return [translate(reply)] * count  # refused before it began
    unknown = AppendUnknown(f"the append was sent and no answer came ({reply})")
    unknown.__cause__ = reply
    return [unknown] * count


def _refusal(item: bytes) -> TransportError:
    error = translate(ResponseError(item[1:].decode("utf-8", "replace")))
    return error if isinstance(error, TransportUnavailable) else TransportUnavailable(str(error))
