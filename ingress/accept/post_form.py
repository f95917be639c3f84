"""``POST /api/messages`` as ``multipart/form-data``: content of any kind and size, streamed.

The part ``message`` is the message's JSON without its content, and comes first. The part
``content`` is the content. Up to a megabyte of it stays in memory; larger content is streamed to
the payload store while it comes. So even a very large body takes little memory.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from hashlib import sha256

from ingress.accept.bodies import Disconnected
from ingress.accept.content_part import ContentPart
from ingress.accept.context import AcceptContext
from ingress.accept.post_message import PostMessage
from ingress.accept.submission import Submission
from ingress.accept.time_slices import TimeSlices
from ingress.accept.uploads import Uploads
from ingress.schema.json_faults import repeated
from ingress.schema.problems import (
    MEDIA,
    TIMED_OUT,
    TOO_LARGE,
    FieldError,
    Problem,
)
from ingress.schema.requests import CONTENT_TYPE_LENGTH
from ingress.schema.validation_errors import field_problem
from ingress.web import asgi as wire
from ingress.web import digests
from ingress.web.asgi import Receive, Send, problem_answer, respond
from ingress.web.auth import ApiKey
from ingress.web.headers import Headers, RequestContext, by_name, correlation_id, idempotency_key
from ingress.web.inflate import coding_of
from ingress.web.multipart import FormReader, PartEnd, PartHead, is_form
from otel.tracing.requests import CLIENT_GONE

__all__ = ["PostForm"]

_STEP = 16 * 1024
"""Bytes of one parsing step; other requests may have a turn between two steps."""
_SLOWEST = 32 * 1024
"""The slowest rate, in bytes a second, at which a client may send after INGRESS_BODY_TIMEOUT_MS."""
_CLOSE = {"Connection": "close"}
_FIELD_TEXT = {"message": "the message's JSON, without content", "content": "the content"}
_HAS_CONTENT = FieldError(
    "content",
    "stands in the part message",
    "Take it out there; send the part content.",
)
_REPEATED = repeated("content").detail
"""The parser's error if the part ``message`` has a ``content`` beside the one added here."""


class PostForm:
    """Serves ``POST /api/messages`` if there is a payload store. It passes JSON on to ``post``.

    Args:
        post: Serves JSON, and has the steps that forms share with it.
        context: The parts that a message passes on its way in.
        uploads: Writes to the payload store.
        seconds: How long a client may be silent, and how long a body may take beyond the time that
            its size allows at 32 KiB/s.
    """

    def __init__(
        self, post: PostMessage, context: AcceptContext, uploads: Uploads, *, seconds: float
    ) -> None:
        self._post = post
        self._context = context
        self._uploads = uploads
        self._most = uploads.store.settings.ingress_max_payload_bytes
        self._seconds = seconds
        self._slices = TimeSlices()

    async def __call__(self, scope: wire.Scope, receive: Receive, send: Send) -> None:
        """Accept one message. Answer when it is durable."""
        headers = by_name(scope["headers"])
        if not is_form(headers):
            await self._post(scope, receive, send)
            return
        trace = self._post.begin(headers)
        correlation: str | None = None
        status = CLIENT_GONE
        try:
            correlation = correlation_id(headers)
            key = self._context.admit(headers)
            context = RequestContext(correlation, trace)
            message = await self._read(headers, receive, context, key)
            if message.verdict is None:
                await self._context.commits.submit((message,))
                self._uploads.take_back((message,))
            status, given, ack = self._post.answer(message, correlation)
            found = [(b"content-type", b"application/json"), (b"x-correlation-id", given)]
            await respond(send, status, found, ack)
        except Problem as problem:
            status = problem.kind.status
            await respond(send, *problem_answer(problem, correlation))
        except Disconnected:
            return
        finally:
            if trace.request is not None:
                trace.request.end(status, correlation)

    async def _read(
        self, headers: Headers, receive: Receive, context: RequestContext, key: ApiKey | None
    ) -> Submission:
        """Return the message. Large content is in the store; small text is in the message.

        Raises:
            Problem: The body is not a valid message, is too large or too slow, or the store can't
                take its content.
            Disconnected: The client is gone.
        """
        if coding_of(headers) is not None:
            raise Problem(MEDIA, "Send multipart/form-data as it is, without Content-Encoding.")
        length = headers.get(b"content-length", b"")
        if length.isdigit() and int(length) > self._most + self._post.limit:
            raise self._too_large()
        form = _Form(self, headers, context, key)
        try:
            with self._context.bodies.share() as share:
                async for data in self._pieces(receive):
                    uploaded = await self._slices.run(form.steps(data))
                    share.take(form.held - share.size)
                    share.check()
                    if uploaded:
                        await form.upload(b"".join(uploaded))
                return await form.message()
        except BaseException:
            form.abandon()
            raise

    async def _pieces(self, receive: Receive) -> AsyncIterator[bytes]:
        received, waited, more = 0, 0.0, True
        while more:
            began = time.monotonic()
            try:
                left = self._seconds + received / _SLOWEST - waited
                async with asyncio.timeout(min(self._seconds, left)):
                    event = await receive()
            except TimeoutError as error:
                detail = (
                    f"Nothing came for {self._seconds:g} s, or less than {_SLOWEST} bytes a second."
                )
                raise Problem(TIMED_OUT, detail, headers=_CLOSE) from error
            waited += time.monotonic() - began
            if event["type"] != "http.request":
                raise Disconnected
            data = event.get("body", b"")
            received += len(data)
            if received > self._most + self._post.limit:
                raise self._too_large()
            yield data
            more = event.get("more_body", False)

    def begin(
        self, data: bytes, headers: Headers, context: RequestContext, key: ApiKey | None
    ) -> Submission:
        """Return the submission of the part ``message``, checked, and still without content.

        Raises:
            Problem: The message can't be accepted.
        """
        inner = data.strip()
        if inner.startswith(b"{"):
            # Add the one member that the part lacks, so that the usual checks and texts apply.
            rest = inner[1:].lstrip()
            data = b'{"content":""' + (b"" if rest.startswith(b"}") else b",") + rest
        try:
            message = self._context.intake.message(data, context, idempotency_key(headers))
        except Problem as problem:
            if problem.detail == _REPEATED:
                raise field_problem([_HAS_CONTENT]) from problem
            raise
        if key is not None:
            message.admit(key)
        return message

    def content(self, message: Submission) -> ContentPart:
        """Return the receiver of the content of ``message``."""
        return ContentPart(self._uploads, message)

    def check(self, size: int, most: int | None = None) -> None:
        """Check the size of a part.

        Args:
            size: The part's size so far, in bytes.
            most: The limit of the part ``message``; ``None`` for the part ``content``.

        Raises:
            Problem: The part is too large (413).
        """
        if most is None and size > self._most:
            raise self._too_large()
        if most is not None and size > most:
            raise Problem(
                TOO_LARGE,
                f"The part message has more than {most} bytes (INGRESS_MAX_BODY_BYTES).",
                headers=_CLOSE,
            )

    @property
    def message_bytes(self) -> int:
        """The largest size of the part ``message``, in bytes."""
        return self._post.limit

    def _too_large(self) -> Problem:
        return Problem(
            TOO_LARGE,
            f"The content has more than {self._most} bytes (INGRESS_MAX_PAYLOAD_BYTES).",
            headers=_CLOSE,
        )


class _Form:
    """Reads one form: its message, its content, and their digests."""

    def __init__(
        self, route: PostForm, headers: Headers, context: RequestContext, key: ApiKey | None
    ) -> None:
        self._route = route
        self._headers = headers
        self._context = context
        self._key = key
        self._reader = FormReader(headers)
        self._announced = digests.announced(headers)
        self._whole = sha256()
        self._part: PartHead | None = None
        self._json = bytearray()
        self._message: Submission | None = None
        self._content: ContentPart | None = None
        self._content_headers: Headers = {}

    @property
    def held(self) -> int:
        """Bytes of the body that are in memory."""
        return len(self._json) + (self._content.held if self._content else 0)

    def steps(self, data: bytes) -> Iterator[bytes | None]:
        """Parse the next bytes of the body in short steps; yield the bytes to upload."""
        for start in range(0, len(data), _STEP):
            step = data[start : start + _STEP]
            if self._announced:
                self._whole.update(step)
            for event in self._reader.feed(step):
                match event:
                    case PartHead():
                        self._begin(event)
                    case PartEnd():
                        self._end()
                    case bytes():
                        yield self._take(event)
            yield None

    async def upload(self, data: bytes) -> None:
        """Upload the bytes that ``steps`` yielded."""
        if self._content is not None:
            await self._content.upload(data)

    async def message(self) -> Submission:
        """Return the message with its content. Call this when the whole body has come.

        Raises:
            Problem: A part is missing, a digest differs, or the store can't take the content.
        """
        self._reader.end()
        digests.check(self._announced, self._whole.digest())
        if self._message is None or self._content is None:
            missing = "message" if self._message is None else "content"
            raise field_problem(
                [FieldError(missing, "is missing", f"Send the part: {_FIELD_TEXT[missing]}.")]
            )
        expected = digests.announced(self._content_headers)
        digests.check(expected, bytes.fromhex(self._content.digest.sha256))
        content_type = _content_type(self._content_headers)
        await self._content.finish(content_type)
        return self._message

    def abandon(self) -> None:
        """Remove the uploaded content of a body that is not accepted."""
        if self._content is not None:
            self._content.abandon()

    def _begin(self, part: PartHead) -> None:
        self._part = part
        known = {"message": self._message is None, "content": self._content is None}
        if not known.get(part.name, False):
            shown = part.name[:80] or "(part)"
            what = "is not a known part" if part.name not in known else "comes twice"
            raise field_problem([FieldError(shown, what, "Send the parts message and content.")])
        if part.name == "content":
            if self._message is None:
                raise field_problem(
                    [FieldError("content", "comes before message", "Send message first.")]
                )
            self._content = self._route.content(self._message)
            self._content_headers = part.headers

    def _take(self, data: bytes) -> bytes | None:
        if self._content is not None:
            self._route.check(self._content.digest.bytes + len(data))
            return self._content.take(data)
        self._route.check(len(self._json) + len(data), self._route.message_bytes)
        self._json += data
        return None

    def _end(self) -> None:
        if self._content is None:
            self._message = self._route.begin(
                bytes(self._json), self._headers, self._context, self._key
            )


def _content_type(headers: Headers) -> str | None:
    """Return the media type of the part ``content``, if the part has one.

    Raises:
        Problem: The media type is empty, too long, or has characters outside ASCII.
    """
    given = headers.get(b"content-type")
    if given is None:
        return None
    if not (1 <= len(given) <= CONTENT_TYPE_LENGTH and given.isascii() and b"\0" not in given):
        raise field_problem(
            [
                FieldError(
                    "content",
                    f"has a Content-Type that is not 1 to {CONTENT_TYPE_LENGTH} ASCII characters",
                    "Send a media type such as image/png.",
                )
            ]
        )
    return given.decode("ascii")
