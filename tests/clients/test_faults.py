"""Whatever happens on the way, a message that was sent once is one row, in its place."""

from __future__ import annotations

import asyncio
import contextlib

import httpx
import pytest

from crossfade import (
    AsyncClient,
    Client,
    NewMessage,
    NoAnswerError,
    OutcomeUnknownError,
    Retry,
    UnavailableError,
    UnreachableError,
)
from tests.support.eventually import eventually

from .conftest import API_KEY, Make, Site

ONE = b"POST /api/messages HTTP"
MANY = b"POST /api/messages:batch"


def _message(conversation: str, content: str = "once") -> NewMessage:
    return NewMessage(conversation, "alice", content)


async def test_a_lost_reply_is_asked_for_again_with_the_same_key(
    make: Make, site: Site, conversation: str
) -> None:
    client = await make()
    lost = site.front.lost_replies
    site.front.lose_reply_to(ONE)
    ack = await client.send(_message(conversation))
    assert site.front.lost_replies == lost + 1
    assert ack.idempotent_hit
    assert await site.rows(conversation, 1) == ["once"]
    assert (await client.wait(ack.message_id)).accepted_at == ack.accepted_at


async def test_an_answer_that_comes_too_late_is_asked_for_again(
    make: Make, site: Site, conversation: str
) -> None:
    client = await make(timeout=2.0)  # enough for the second attempt on a busy machine
    site.front.hold(ONE)
    sending = asyncio.create_task(client.send(_message(conversation)))
    await site.front.held.wait()
    ack = await sending
    site.front.release()  # the first attempt arrives after its repeat was answered
    assert not ack.idempotent_hit
    again = await client.send(_message(conversation, "second"))
    await client.wait(again.message_id)
    assert await site.rows(conversation) == ["once", "second"]


async def test_a_503_is_tried_again_until_the_log_is_back(
    make: Make, site: Site, conversation: str
) -> None:
    client = await make()
    site.log.refuse()
    site.log.reset()
    sending = asyncio.create_task(client.send(_message(conversation)))

    async def refused() -> bool:
        return 503 in make.statuses

    await eventually(refused)
    assert not sending.done()
    site.log.heal()
    ack = await sending
    assert set(make.statuses) <= {503, 202, 200}
    assert (await client.wait(ack.message_id)).state == "persisted"
    assert await site.rows(conversation) == ["once"]


async def test_a_log_that_stays_away_is_an_error_that_says_whether_it_may_be_stored(
    make: Make, site: Site, conversation: str
) -> None:
    client = await make(retry=Retry(deadline=1.5))
    site.log.refuse()
    site.log.reset()
    message = _message(conversation)
    with pytest.raises(UnavailableError) as raised:
        await client.send(message)
    error = raised.value
    assert error.type.startswith("/problems/")
    assert error.correlation_id
    assert error.retry_after
    assert "same key" in error.remedy
    # Whether nothing was enqueued is known only where each answer said so.
    assert error.maybe_accepted or not isinstance(error, OutcomeUnknownError)
    site.log.heal()
    ack = await (await make()).send(message)
    await client.wait(ack.message_id)
    assert await site.rows(conversation) == ["once"]


@pytest.mark.parametrize(
    "make", [pytest.param("sync", marks=pytest.mark.chaos), "async"], indirect=True
)
async def test_a_killed_service_is_found_again_and_every_message_is_one_row_in_order(
    make: Make, site: Site, conversation: str
) -> None:
    client = await make()
    contents = [f"{number}" for number in range(30)]
    restarting: asyncio.Task[None] | None = None
    for content in contents:
        if content == "10":
            restarting = asyncio.create_task(_restart(site))
        await client.send(_message(conversation, content))
    assert restarting is not None
    await restarting
    assert await site.rows(conversation, len(contents)) == contents


async def _restart(site: Site) -> None:
    await site.service.kill()
    await site.service.start()


async def test_one_message_sent_many_times_at_once_is_one_row(
    make: Make, site: Site, conversation: str
) -> None:
    client = await make()
    message = _message(conversation)
    acks = await asyncio.gather(*(client.send(message) for _ in range(10)))
    assert len({(ack.message_id, ack.accepted_at) for ack in acks}) == 1
    assert sum(not ack.idempotent_hit for ack in acks) == 1
    await client.wait(acks[0].message_id)
    assert await site.rows(conversation) == ["once"]


async def test_a_thousand_messages_sent_at_once_are_acknowledged(
    site: Site, conversation: str
) -> None:
    messages = [_message(conversation, f"{number}") for number in range(1_000)]
    async with AsyncClient(site.url, api_key=API_KEY) as client:
        acks = await asyncio.gather(*(client.send(message) for message in messages))
    assert len({ack.message_id for ack in acks}) == len(messages)


async def test_a_message_that_waits_for_a_connection_was_not_sent(
    site: Site, conversation: str
) -> None:
    one = httpx.Limits(max_connections=1)
    once = Retry(attempts=1)
    site.front.black_hole()
    before = site.front.connections
    async with AsyncClient(site.url, limits=one, retry=once, timeout=0.2) as client:
        reading = asyncio.create_task(client.content("any", timeout=60.0))
        await eventually(lambda: site.front.connections > before)
        with pytest.raises(UnreachableError, match="1 requests were under way") as raised:
            await client.send(_message(conversation))
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
    assert not raised.value.maybe_accepted


async def test_a_lost_reply_to_a_batch_doubles_nothing(
    make: Make, site: Site, conversation: str
) -> None:
    client = await make()
    lost = site.front.lost_replies
    site.front.lose_reply_to(MANY)
    contents = [f"{number}" for number in range(100)]
    results = await client.send_batch([_message(conversation, content) for content in contents])
    assert site.front.lost_replies == lost + 1
    assert [result.message.content for result in results] == contents
    assert all(result.ack.idempotent_hit for result in results)
    assert await site.rows(conversation, 100) == contents


async def test_a_batch_waits_for_the_log_and_keeps_its_order(
    make: Make, site: Site, conversation: str
) -> None:
    client = await make()
    site.log.refuse()
    site.log.reset()
    contents = [f"{number}" for number in range(450)]
    sending = asyncio.create_task(client.send_batch([_message(conversation, c) for c in contents]))

    async def refused() -> bool:
        return 503 in make.statuses or 207 in make.statuses

    await eventually(refused)
    site.log.heal()
    results = await sending
    assert [result.error for result in results if result.error] == []
    assert await site.rows(conversation, 450) == contents


async def test_a_service_that_is_not_there_is_an_error_and_nothing_was_sent(make: Make) -> None:
    client = await make("http://127.0.0.1:1", retry=Retry(deadline=0.3))
    with pytest.raises(UnreachableError) as raised:
        await client.send(_message("nobody"))
    assert raised.value.attempts > 1
    assert not raised.value.maybe_accepted
    assert "base URL" in raised.value.remedy


async def test_no_answer_at_all_ends_with_the_deadline(
    make: Make, site: Site, conversation: str
) -> None:
    client = await make(retry=Retry(deadline=1.0), timeout=0.4)
    site.front.black_hole()
    with pytest.raises(NoAnswerError) as raised:
        await client.send(_message(conversation))
    assert raised.value.attempts >= 2
    assert raised.value.maybe_accepted


async def test_a_complete_answer_counts_although_it_was_long_under_way(
    site: Site, conversation: str
) -> None:
    """The limits of ``Client`` are for each step, and there may be many, each of them in time."""
    requests: list[bytes] = []

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        requests.append(await reader.readuntil(b"}"))
        for _ in range(5):
            writer.write(b"HTTP/1.1 102 Processing\r\n\r\n")
            await asyncio.sleep(0.5)
        answers, service = await asyncio.open_connection("127.0.0.1", site.front.port)
        service.write(requests[-1])
        writer.write(await answers.readuntil(b"}"))
        service.close()
        writer.close()

    server = await asyncio.start_server(relay, "127.0.0.1", 0)
    async with server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        with Client(url, api_key=API_KEY, timeout=2.0, retry=Retry(attempts=1)) as client:
            ack = await asyncio.to_thread(client.send, _message(conversation))
    assert (ack.state, len(requests)) == ("pending", 1)
    assert await site.rows(conversation, 1) == ["once"]


async def test_an_answer_that_never_ends_is_given_up() -> None:
    async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"}")
        writer.write(b"HTTP/1.1 202 Accepted\r\n\r\n")
        with contextlib.suppress(ConnectionError):
            while True:
                writer.write(b" ")
                await writer.drain()
                await asyncio.sleep(0.05)
        writer.close()

    server = await asyncio.start_server(drip, "127.0.0.1", 0)
    async with server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        client = Client(url, timeout=0.5, retry=Retry(attempts=1))
        with client, pytest.raises(NoAnswerError, match="took too long") as raised:
            await asyncio.to_thread(client.send, _message("drips"))
    assert raised.value.maybe_accepted


async def test_a_cancelled_call_is_repeated_with_the_same_message(
    site: Site, make: Make, conversation: str
) -> None:
    if make.kind == "sync":
        return  # a thread is not cancelled
    client = await make()
    message = _message(conversation)
    site.front.hold(ONE)
    sending = asyncio.create_task(client.send(message))
    await site.front.held.wait()
    sending.cancel()
    await asyncio.gather(sending, return_exceptions=True)
    site.front.release()
    ack = await client.send(message)
    await client.wait(ack.message_id)
    assert await site.rows(conversation) == ["once"]


@pytest.mark.parametrize("steps", [0, 1, 2, 3, 5])
async def test_a_call_cancelled_at_the_end_of_its_answer_keeps_no_connection(
    steps: int, site: Site, conversation: str
) -> None:
    """Such as by a time limit that ends when the answer comes: its connection is for the next."""
    loop = asyncio.get_running_loop()
    sending: asyncio.Task[object] | None = None

    async def cancel(_: httpx.Response) -> None:
        _after(loop, steps, sending)

    one = httpx.Limits(max_connections=1)
    hooks = {"response": [cancel]}
    async with httpx.AsyncClient(limits=one, event_hooks=hooks) as http:
        client = AsyncClient(
            site.url, api_key=API_KEY, retry=Retry(attempts=1), limits=one, http=http
        )
        sending = asyncio.create_task(client.send(_message(conversation)))
        await asyncio.gather(sending, return_exceptions=True)
        sending = None
        await client.send(_message(conversation, "next"))
    assert await site.rows(conversation, 2) == ["once", "next"]


def _after(loop: asyncio.AbstractEventLoop, steps: int, task: asyncio.Task[object] | None) -> None:
    """Cancel a task after so many steps of the event loop."""
    if task is None:
        return
    if steps == 0:
        task.cancel()
    else:
        loop.call_soon(_after, loop, steps - 1, task)
