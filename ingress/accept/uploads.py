"""Uploads of large content to the payload store, before its message joins a group commit.

So a group commit never waits for the store, and a slow store does not delay messages with small
content. If no message follows an upload (the append failed, the process died, the body was a
conflict), no record refers to the object; ``crossfade payloads sweep`` removes it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from hashlib import sha256
from typing import Any

import structlog

from ingress.accept.fair_sharing import FairRoom, FairSlots
from ingress.accept.group_commit import GroupCommit
from ingress.accept.repeats import Repeats
from ingress.accept.submission import Stored, Submission
from ingress.schema.problems import INTERNAL, OVERLOADED, PAYLOADS_UNAVAILABLE, Problem
from ingress.schema.retry_after import AWAY
from otel.metrics import Metrics
from otel.tracing.context import sampled_trace_id
from persistence.payloads.errors import PayloadError
from persistence.payloads.metrics import PayloadMetrics
from persistence.payloads.store import PayloadStore
from persistence.payloads.upload import PayloadUpload
from transport.message.payload import Payload, payload_key
from transport.outage_watch import OutageWatch

__all__ = ["Uploads"]

_log = structlog.get_logger(__name__)

_AT_ONCE = 64
_TRY_AGAIN = 500
"""Problems with this status or above may pass: clients send the message again."""
_STREAMS = 16
"""The most streamed uploads at once. Each takes some 10 MiB of memory. One API key gets half."""


class Uploads:
    """Uploads content that is over the threshold. One for each process.

    No API key can take all memory or all concurrent uploads; see ``fair_sharing``.

    Args:
        store: The payload store.
        commits: Commits messages after their upload.
        repeats: Says which messages need no upload.
        held_bytes: The most bytes that wait for the store.
        metrics: The process's metrics.
        outages: Decides which failed uploads are logged.
    """

    def __init__(
        self,
        store: PayloadStore,
        commits: GroupCommit,
        repeats: Repeats,
        *,
        held_bytes: int,
        metrics: Metrics,
        outages: OutageWatch | None = None,
    ) -> None:
        self.store = store
        self._commits = commits
        self._repeats = repeats
        self._threshold = store.settings.payload_threshold_bytes
        self._row_bytes = store.settings.payload_row_bytes
        # An upload may wait for its slot as long as it may take itself.
        self._patience = 2 * store.settings.payload_timeout_ms / 1000
        self._slots = FairSlots(_AT_ONCE)
        self._held = FairRoom(held_bytes)
        self._streams = FairRoom(_STREAMS)
        self._seconds = metrics.of(PayloadMetrics).upload
        self._tasks: set[asyncio.Task[None]] = set()
        self._outages = outages or OutageWatch()
        self.withheld: str | None = None
        """The reason why nothing may be uploaded now, or ``None``."""

    @property
    def streams(self) -> int:
        """The number of streamed uploads that are under way or being abandoned."""
        return self._streams.held

    def wants(self, message: Submission) -> bool:
        """Return whether the content of ``message`` has to go to the store."""
        content, most = message.request.content, self._threshold
        # A character is at most 4 bytes of UTF-8, so short text need not be encoded to be measured.
        return len(content) * 4 > most and (len(content) > most or len(content.encode()) > most)

    def fits_row(self, payload: Payload) -> bool:
        """Return whether the row gets a copy of text of this size."""
        return payload.bytes <= self._row_bytes

    def hand_in(self, message: Submission, decided: Callable[[], None]) -> None:
        """Upload the content, then hand the message to the group commit.

        ``decided`` is called as ``GroupCommit.hand_in`` says, also if the upload fails.
        """
        self._run(self._hand_in(message, decided))

    async def _hand_in(self, message: Submission, decided: Callable[[], None]) -> None:
        if await self.upload((message,)):
            try:
                self._commits.hand_in((message,), partial(self._decided, message, decided))
            except Problem as problem:
                message.verdict = problem
            else:
                return
        decided()

    def _decided(self, message: Submission, decided: Callable[[], None]) -> None:
        self.take_back((message,))
        decided()

    async def submit(self, messages: Sequence[Submission]) -> None:
        """Upload the large contents, then commit the messages in their order."""
        if accepted := await self.upload(messages):
            await self._commits.submit(accepted)
            self.take_back(accepted)

    def take_back(self, messages: Sequence[Submission]) -> None:
        """Delete, in the background, uploaded content of repeats whose messages were erased."""
        keys = [
            message.payload.key
            for message in messages
            if message.payload is not None
            and isinstance(message.verdict, Stored)
            and message.verdict.state == "erased"
        ]
        if keys:
            self._run(self._take_back(keys))

    async def _take_back(self, keys: Sequence[str]) -> None:
        try:
            await self.store.delete(keys)
        except PayloadError as error:
            _log.warning(
                "Content of an erased message was sent again, and is in the payload store: run "
                "`crossfade payloads sweep`",
                error=str(error),
            )

    async def upload(self, messages: Sequence[Submission]) -> list[Submission]:
        """Upload large contents; return the messages that can be committed, in their order.

        The other messages have their verdict: they are repeats, or the upload failed, or that of a
        message before them in their conversation did.
        """
        large = [message for message in messages if self.wants(message)]
        if len(large) == 1:
            await self._upload(large[0])
        elif large:
            async with asyncio.TaskGroup() as uploads:
                for message in large:
                    uploads.create_task(self._upload(message))
        if len(messages) > 1:
            _hold_back(messages)
        return [message for message in messages if message.verdict is None]

    async def _upload(self, message: Submission) -> None:
        data = message.request.content.encode()
        digest = sha256(data).hexdigest()
        payload = Payload(
            payload_key(message.message_id, digest), len(data), digest, message.fingerprint()
        )
        try:
            await self.place(message, payload, data)
        except Problem as problem:
            message.verdict = problem
        except Exception:  # noqa: BLE001 - must not cancel the uploads of the others
            _log.exception(
                "Upload failed: unhandled exception; the client is answered 500", **_named(message)
            )
            message.verdict = Problem(INTERNAL, "The content was not uploaded.")
        else:
            message.refer_to(payload, keep=self.fits_row(payload))

    async def place(self, message: Submission, payload: Payload, data: bytes) -> None:
        """Store a message's content under its key, unless the message turns out to be a repeat.

        Raises:
            Problem: The store can't take the content, or too much waits for the store (503).
        """
        if not self._held.has_some_for(message.api_key_name):
            detail = f"{self._held.held} bytes of content wait for the payload store."
            raise Problem(OVERLOADED, detail, headers=AWAY)
        self._held.take(message.api_key_name, len(data))
        try:
            known = await self._repeats.decide(message, payload.fingerprint)
            if message.verdict is not None or (known and await self._has(payload)):
                return
            with _traced(message, time.time_ns(), len(data)):
                await self._attempt(
                    message, lambda: self._put(message.api_key_name, payload.key, data)
                )
        finally:
            self._held.give_back(message.api_key_name, len(data))

    async def is_decided(self, message: Submission) -> bool:
        """Return whether a message has a row; then it has its verdict and needs no upload."""
        await self._repeats.decide(message, None)
        return message.verdict is not None

    async def _has(self, payload: Payload) -> bool:
        """Return whether the store has the complete payload, and messages may refer to it."""
        return self.withheld is None and all(await self.store.have_several([payload]))

    async def _put(self, client: str | None, key: str, data: bytes) -> None:
        async with asyncio.timeout(self._patience), self._slots.slot(client):
            await self.store.put(key, data)

    async def _attempt(self, message: Submission, call: Callable[[], Awaitable[None]]) -> None:
        """Run a write to the store, and measure its time.

        Raises:
            Problem: The store can't take the content (503).
        """
        if self.withheld is not None:
            raise Problem(PAYLOADS_UNAVAILABLE, self.withheld, headers=AWAY)
        began = time.perf_counter()
        try:
            await call()
        except (PayloadError, TimeoutError) as error:
            if self._outages.failed():
                _log.warning(
                    "Upload failed: messages with large content are answered 503 until the "
                    "payload store takes it",
                    error=str(error) or "no answer in time",
                    **_named(message),
                )
            raise Problem(
                PAYLOADS_UNAVAILABLE,
                "The payload store did not take the content. Retry with the same key.",
                headers=AWAY,
            ) from error
        self._seconds.observe(time.perf_counter() - began)
        if past := self._outages.succeeded():
            _log.info(
                "Upload succeeded: the payload store takes content again",
                seconds=past.seconds,
                uploads=past.failures,
            )

    def begin(self, message: Submission) -> PayloadUpload:
        """Begin a streamed upload. ``commit`` or ``abandon`` ends it.

        Raises:
            Problem: Too many are under way, of all clients or of the message's API key (503).
        """
        if not self._streams.has_some_for(message.api_key_name):
            detail = f"{self.streams} large bodies are being uploaded."
            headers = {**AWAY, "Connection": "close"}  # the rest of the body is not read
            raise Problem(OVERLOADED, detail, headers=headers)
        upload = PayloadUpload(self.store, message.message_id)
        self._streams.take(message.api_key_name, 1)
        return upload

    async def write(self, message: Submission, upload: PayloadUpload, data: bytes) -> None:
        """Upload the next bytes of a message's content.

        Raises:
            Problem: The store can't take them (503). The caller has to abandon the upload.
        """
        try:
            await self._attempt(message, lambda: upload.write(data))
        except Problem as problem:
            _note(message, upload.began, upload.size, problem)
            raise

    async def commit(self, message: Submission, upload: PayloadUpload, key: str) -> None:
        """Complete an upload: its content is durable under ``key`` then.

        Raises:
            Problem: The store can't take it (503). The caller has to abandon the upload.
        """
        with _traced(message, upload.began, upload.size):
            await self._attempt(message, lambda: upload.commit(key))
        self._streams.give_back(message.api_key_name, 1)

    def abandon(self, message: Submission, upload: PayloadUpload) -> None:
        """Remove an upload's objects in the background, so that the client does not wait."""
        self._run(self._abandon(message.api_key_name, upload))

    async def _abandon(self, client: str | None, upload: PayloadUpload) -> None:
        try:
            await upload.abandon()
        finally:
            self._streams.give_back(client, 1)

    def _run(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """Wait until every upload under way has ended."""
        while self._tasks:
            await asyncio.wait(self._tasks)


def _hold_back(messages: Sequence[Submission]) -> None:
    """Refuse messages behind one of their conversation that its client will send again."""
    refused: set[str] = set()
    for message in messages:
        conversation, verdict = message.request.conversation_id, message.verdict
        if isinstance(verdict, Problem):
            if verdict.kind.status >= _TRY_AGAIN:
                refused.add(conversation)
        elif verdict is None and conversation in refused:
            message.verdict = Problem(
                PAYLOADS_UNAVAILABLE,
                "The content of a message before it in its conversation was not taken. Retry both.",
                headers=AWAY,
            )


def _named(message: Submission) -> dict[str, str]:
    """Return the message's ids for a log line."""
    ids = {"message_id": message.message_id, "correlation_id": message.correlation_id}
    trace_id = sampled_trace_id(message.traceparent)
    return ids if trace_id is None else {**ids, "trace_id": trace_id}


@contextmanager
def _traced(message: Submission, began: int, size: int) -> Iterator[None]:
    """Record the upload in the ``with`` block, and its error, in the message's trace."""
    try:
        yield
    except BaseException as error:
        _note(message, began, size, error)
        raise
    _note(message, began, size, None)


def _note(message: Submission, began: int, size: int, error: BaseException | None) -> None:
    if message.trace is not None:
        cause = error.__cause__ if isinstance(error, Problem) else None
        message.trace.uploaded(began, size, cause or error)
