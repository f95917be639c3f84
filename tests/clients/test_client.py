"""The Python client, synchronous and asynchronous, against the real service."""

from __future__ import annotations

import asyncio
import ssl
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider

import crossfade
from crossfade import (
    BatchLimits,
    ConflictError,
    DeadLetteredError,
    ForbiddenError,
    InvalidRequestError,
    KeyConflictError,
    NewMessage,
    NotFoundError,
    NotSentError,
    ProblemError,
    Retry,
    TooLargeError,
    TraceContext,
    UnauthenticatedError,
    UnexpectedAnswerError,
    UnreachableError,
    WaitTimeoutError,
)
from crossfade_client.errors import problem_class
from crossfade_client.retry import RETRIED
from tests.support.certificates import self_signed

from .conftest import API_KEY, ITEMS_IN_A_BATCH, PRODUCER_KEY, Make, Site

NOBODY = "00000000-0000-8000-8000-000000000001"


async def test_a_message_is_accepted_persisted_and_read(make: Make, conversation: str) -> None:
    client = await make()
    message = NewMessage(
        conversation,
        "alice",
        "\u041f\u0440\u0438\u0432\u0456\u0442 \U0001f44b",
        "text/plain",
        ("bob", "c"),
    )
    ack = await client.send(message, correlation_id="order-7")
    assert not ack.idempotent_hit
    assert ack.correlation_id == "order-7"
    stored = await client.wait(ack.message_id)
    assert stored.state == "persisted"
    assert stored.persisted_at
    assert stored.accepted_at == ack.accepted_at
    assert stored.content == message.content
    assert stored.recipient_ids == message.recipient_ids
    assert (stored.content_type, stored.client_message_id) == (
        "text/plain",
        message.client_message_id,
    )
    (position,) = stored.positions
    assert position.transport == "redis"
    again = await client.send(message)
    assert again.idempotent_hit
    assert (again.message_id, again.accepted_at) == (ack.message_id, ack.accepted_at)
    assert again.state == "persisted"


async def test_bytes_and_long_text_come_back_as_they_were_sent(
    make: Make, conversation: str
) -> None:
    client = await make()
    data = bytes(range(256)) * 1000
    message = NewMessage(conversation, "alice", data, "image/png")
    ack = await client.send(message)
    stored = await client.wait(ack.message_id)
    assert stored.content is None
    assert stored.payload is not None
    assert (stored.payload.bytes, stored.payload.content_type) == (256_000, "image/png")
    assert await client.content(ack.message_id) == data
    assert (await client.send(message)).idempotent_hit

    text = "größer " * 20_000  # more than a row or a JSON body takes
    ack = await client.send(NewMessage(conversation, "alice", text.encode(), "text/plain"))
    assert (await client.wait(ack.message_id)).content is None
    assert (await client.content(ack.message_id)).decode() == text
    ack = await client.send(NewMessage(conversation, "alice", "small"))
    assert await client.content(ack.message_id) == b"small"
    with pytest.raises(NotFoundError):
        await client.content(NOBODY)
    with pytest.raises(TypeError, match=r"use send\(\)"):
        await client.send_batch([message])


async def test_each_new_message_has_a_key_of_its_own(make: Make, conversation: str) -> None:
    one, two = (NewMessage(conversation, "alice", "same") for _ in range(2))
    assert one.client_message_id != two.client_message_id
    client = await make()
    assert (await client.send(one)).message_id != (await client.send(two)).message_id


async def test_another_body_for_a_key_is_refused_at_once(make: Make, conversation: str) -> None:
    client = await make()
    await client.send(NewMessage(conversation, "alice", "one", client_message_id="k"))
    with pytest.raises(KeyConflictError) as raised:
        await client.send(NewMessage(conversation, "alice", "two", client_message_id="k"))
    error = raised.value
    assert (error.status, error.type) == (422, "/problems/idempotency-conflict")
    assert error.attempts == 1
    assert not error.maybe_accepted
    assert make.statuses == [202, 422]


async def test_a_faulty_field_is_named_with_its_remedy(make: Make) -> None:
    client = await make()
    with pytest.raises(InvalidRequestError) as raised:
        await client.send(NewMessage("", "alice", "x"))
    error = raised.value
    assert error.field == "conversationId"
    assert (error.status, error.title) == (422, "Some fields can't be accepted")
    assert error.fields[0].remedy
    assert error.remedy == error.fields[0].remedy
    assert "conversationId" in str(error)
    assert error.correlation_id


async def test_half_a_character_is_refused_before_it_is_sent(make: Make) -> None:
    client = await make()
    with pytest.raises(ValueError, match="surrogate"):
        await client.send(NewMessage("c", "alice", "\ud800"))
    assert make.statuses == []


async def test_a_message_that_is_too_large_is_not_tried_twice(make: Make) -> None:
    client = await make()
    with pytest.raises(TooLargeError) as raised:
        await client.send(NewMessage("c", "alice", "x" * (2 << 20)))
    assert raised.value.attempts == 1


async def test_a_key_that_is_missing_or_unknown(make: Make) -> None:
    for key in ("", "cf_unknown"):
        client = await make(api_key=key)
        with pytest.raises(UnauthenticatedError) as raised:
            await client.send(NewMessage("c", "alice", "x"))
        assert raised.value.attempts == 1
    assert make.statuses == [401, 401]


async def test_what_a_key_may_not_do(make: Make) -> None:
    client = await make(api_key=PRODUCER_KEY)
    with pytest.raises(ForbiddenError) as raised:
        await client.message(NOBODY)
    assert "'read'" in raised.value.detail
    assert raised.value.attempts == 1


async def test_a_message_that_does_not_exist(make: Make) -> None:
    client = await make()
    with pytest.raises(NotFoundError):
        await client.message(NOBODY)
    with pytest.raises(NotFoundError):
        await client.give_receipt(NOBODY, "bob", "read")
    with pytest.raises(WaitTimeoutError) as raised:
        await client.wait(NOBODY, timeout=1.5)
    assert raised.value.state is None
    assert isinstance(raised.value, TimeoutError)
    assert isinstance(raised.value.__cause__, NotFoundError)


async def test_waiting_for_a_dead_letter_ends_with_its_reason(
    make: Make, site: Site, conversation: str
) -> None:
    client = await make()
    rule = "ALTER TABLE messages ADD CONSTRAINT no_poison CHECK (content <> 'poison')"
    await site.pool.execute(rule)
    try:
        ack = await client.send(NewMessage(conversation, "alice", "poison"))
        with pytest.raises(DeadLetteredError) as raised:
            await client.wait(ack.message_id)
    finally:
        await site.pool.execute("ALTER TABLE messages DROP CONSTRAINT no_poison")
    letter = raised.value.message.dead_letter
    assert letter is not None
    assert "no_poison" in str(raised.value)
    assert raised.value.message.content == "poison"
    with pytest.raises(ConflictError):
        await client.give_receipt(ack.message_id, "bob", "read")


async def test_a_conversation_is_read_page_by_page_and_on_from_a_cursor(
    make: Make, conversation: str
) -> None:
    client = await make()
    contents = [str(number) for number in range(25)]
    results = await client.send_batch([NewMessage(conversation, "alice", c) for c in contents])
    await client.wait(results[-1].ack.message_id)
    found = [message async for message in client.messages(conversation, page_size=10)]
    assert [message.content for message in found] == contents
    assert {message.state for message in found} == {"persisted"}
    pages = [page async for page in client.pages(conversation, page_size=10)]
    assert [len(page.items) for page in pages] == [10, 10, 5]
    assert [page.has_more for page in pages] == [True, True, False]
    later = await client.send(NewMessage(conversation, "alice", "later"))
    await client.wait(later.message_id)
    rest = [
        message.content async for message in client.messages(conversation, after=pages[-1].next)
    ]
    assert rest == ["later"]
    page = await client.page(conversation, after=pages[0].next, limit=2)
    assert [message.content for message in page.items] == ["10", "11"]
    assert [message async for message in client.messages("nobody's")] == []
    with pytest.raises(InvalidRequestError):
        await client.page(conversation, after="not a cursor")


@pytest.mark.parametrize("name", [".", "..", "a/b", "a b?c=d#e%2F", "\u202eabc", "x" * 256])
async def test_a_conversation_may_have_any_name(make: Make, name: str) -> None:
    client = await make()
    ack = await client.send(NewMessage(name, make.kind, "there"))
    await client.wait(ack.message_id)
    found = [message.message_id async for message in client.messages(name)]
    assert ack.message_id in found


async def test_receipts_are_given_once_and_listed(make: Make, conversation: str) -> None:
    client = await make()
    ack = await client.send(NewMessage(conversation, "alice", "x"))
    await client.wait(ack.message_id)
    first = await client.give_receipt(ack.message_id, "bob", "delivered")
    assert not first.idempotent_hit
    again = await client.give_receipt(ack.message_id, "bob", "delivered")
    assert again.at == first.at
    assert again.idempotent_hit
    await client.give_receipt(ack.message_id, "bob", "read", correlation_id="seen")
    with pytest.raises(InvalidRequestError):
        await client.give_receipt(ack.message_id, "bob", "eaten")


async def test_a_batch_is_cut_to_what_the_service_takes_and_names_each_error(
    make: Make, site: Site, conversation: str
) -> None:
    client = await make()
    messages = [NewMessage(conversation, "alice", str(n)) for n in range(2 * ITEMS_IN_A_BATCH + 7)]
    messages[3] = NewMessage(conversation, "", "no sender")
    messages[ITEMS_IN_A_BATCH] = NewMessage(conversation, "alice", "x" * 70_000)
    results = await client.send_batch(messages)
    assert [result.message for result in results] == messages
    faulty = {place: result.error for place, result in enumerate(results) if result.error}
    assert set(faulty) == {3, ITEMS_IN_A_BATCH}
    assert all(isinstance(error, InvalidRequestError) for error in faulty.values())
    assert [error.field for error in faulty.values()] == ["senderId", "content"]
    sent = [message.content for place, message in enumerate(messages) if place not in faulty]
    assert await site.rows(conversation, len(sent)) == sent
    assert 422 in make.statuses  # told that it was too many, and by how much


async def test_a_batch_is_cut_by_its_size(make: Make, conversation: str) -> None:
    client = await make(batch_limits=BatchLimits(items=150, size=1_000))
    results = await client.send_batch([NewMessage(conversation, "a", "x" * 100) for _ in range(20)])
    assert all(result.ack for result in results)
    assert make.statuses == [207] * 7  # three fit into one
    assert await client.send_batch([]) == []


async def test_what_comes_after_a_refused_request_is_left_out(make: Make) -> None:
    client = await make(api_key="cf_unknown", batch_limits=BatchLimits(items=2))
    results = await client.send_batch([NewMessage("c", "alice", str(n)) for n in range(5)])
    kinds = [type(result.error) for result in results]
    assert kinds == [UnauthenticatedError] * 2 + [NotSentError] * 3
    assert isinstance(results[-1].error.__cause__, UnauthenticatedError)
    assert make.statuses == [401]


async def test_opentelemetrys_span_is_continued(make: Make, conversation: str) -> None:
    client = await make()
    tracer = TracerProvider().get_tracer("tests")
    with tracer.start_as_current_span("order") as span:
        ack = await client.send(NewMessage(conversation, "alice", "traced"))
    stored = await client.wait(ack.message_id)
    assert stored.trace_id == trace.format_trace_id(span.get_span_context().trace_id)


async def test_a_trace_context_can_be_given(make: Make, conversation: str) -> None:
    client = await make()
    given = TraceContext("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "a=b")
    ack = await client.send(NewMessage(conversation, "alice", "traced"), trace=given)
    assert (await client.wait(ack.message_id)).trace_id == "0af7651916cd43dd8448eb211c80319c"


async def test_something_else_that_answers_is_named(make: Make, site: Site) -> None:
    client = await make(f"{site.url}/docs#".rstrip("#"), retry=Retry(attempts=1))
    with pytest.raises(ProblemError) as raised:  # a path of the service, but no API
        await client.message(NOBODY)
    assert isinstance(raised.value, NotFoundError)
    metrics = await make(f"http://127.0.0.1:{site.service.metrics_port}/metrics?x".split("?")[0])
    with pytest.raises((UnexpectedAnswerError, ProblemError)) as foreign:
        await metrics.message(NOBODY)
    assert "Crossfade" in str(foreign.value) or isinstance(foreign.value, UnexpectedAnswerError)


async def test_every_problem_type_has_its_error_and_the_retried_are_the_passing(
    make: Make, site: Site
) -> None:
    async with httpx.AsyncClient(headers={"X-API-Key": API_KEY}) as http:
        kinds = (await http.get(f"{site.url}/problems")).json()["items"]
    assert len(kinds) > 15
    for kind in kinds:
        error = problem_class(kind["type"].rpartition("/")[2], kind["status"])
        assert error is not ProblemError
        assert error.usual_remedy
        assert (kind["status"] in RETRIED) == ("etr" in kind["remedy"].replace("resend", "")), kind


def test_the_client_imports_nothing_of_the_service() -> None:
    program = (
        "import sys, crossfade_client; from crossfade import AsyncClient, Client; "
        "heavy = {'transport', 'otel', 'persistence', 'ingress', 'compose', 'migration_guide', "
        "'pydantic', 'fastapi', 'sqlalchemy', 'redis', 'aiokafka', 'opentelemetry', 'msgspec'}; "
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_everything_public_is_exported_once() -> None:
    assert sorted(crossfade.__all__, key=str.lower) == sorted(set(crossfade.__all__), key=str.lower)
    for name in crossfade.__all__:
        assert getattr(crossfade, name).__doc__, name


def test_every_error_says_its_remedy() -> None:
    errors = [getattr(crossfade, name) for name in crossfade.__all__ if name.endswith("Error")]
    kinds = [kind for kind in errors if issubclass(kind, Exception)]
    for kind in kinds:
        if kind not in {crossfade.CrossfadeError, ProblemError}:
            assert "Remedy:" in kind.__doc__, kind


async def test_a_certificate_that_is_not_trusted_is_told_at_once(
    make: Make, tmp_path: Path
) -> None:
    made = self_signed(tmp_path)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(made.certificate, made.key)

    async def hang_up(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    server = await asyncio.start_server(hang_up, "127.0.0.1", 0, ssl=context)
    async with server:
        client = await make(f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}")
        with pytest.raises(UnreachableError, match="certificate") as raised:
            await client.message(NOBODY)
    assert raised.value.attempts == 1


@pytest.mark.parametrize(
    "url",
    [
        "localhost:3000",
        "ftp://x",
        "",
        "http://",
        "http://x?y",
        "http://a b",
        "http://[x]",
        "http://[/]",
        "http://x]",
        "http://%41",
        "http://x:y",
    ],
)
def test_a_base_url_that_can_not_be_one(url: str) -> None:
    if not url:
        assert "localhost:3000" in repr(crossfade.Client(url))
        return
    with pytest.raises(ValueError, match="base URL"):
        crossfade.Client(url)


def test_the_environment_names_service_and_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CROSSFADE_URL", "http://elsewhere:1/prefix/")
    monkeypatch.setenv("CROSSFADE_API_KEY", "cf_secret")
    client = crossfade.Client()
    assert repr(client) == "Client('http://elsewhere:1/prefix')"
    with pytest.raises(ValueError, match="printable") as raised:
        crossfade.Client(api_key="cf_\nsecret")
    assert "cf_" not in str(raised.value)
