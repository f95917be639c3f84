"""A client to hurt the service under: many conversations, retries, repeats, conflicts, receipts.

Most conversations have one writer that sends its next message only when the last one was
acknowledged, so that "sent after" is exact; some have several writers at once. Every attempt goes
into the :class:`~tests.faults.history.History`, through an ingress chosen at random.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Protocol, Self

import httpx

from tests.faults.history import Attempt, History, Kind, Outcome
from tests.support.eventually import eventually
from transport.identity import idempotency_key

__all__ = ["Load", "Target"]

_SETTLE_SECONDS = 40.0


class Target(Protocol):
    """An ingress. ``up`` is false while the test has it stopped: a client would know another."""

    name: str

    @property
    def url(self) -> str: ...

    @property
    def up(self) -> bool: ...


class Load:
    """``async with`` runs it: leaving stops new messages, and retries what is not yet answered.

    ``pause`` is the mean of a writer's rest between messages, in seconds. ``patience`` is the share
    of messages that are retried until they are acknowledged; the rest stay unknown. A ``plain``
    load sends messages and nothing else: no repeats, conflicts or receipts.
    """

    def __init__(
        self,
        history: History,
        targets: Sequence[Target],
        *,
        run: str,
        seed: int = 0,
        conversations: int = 24,
        crowded: int = 4,
        pause: float = 0.04,
        patience: float = 0.9,
        timeout: float = 2.0,
        plain: bool = False,
    ) -> None:
        self.history = history
        self.acknowledged = 0
        self.in_flight = 0
        self._targets = targets
        self.run = run
        self._random = random.Random(seed)
        self._writers = [(f"{run}-c{n}", "w") for n in range(conversations)]
        # Crowded conversations have three writers, whose requests overlap.
        self._writers += [(f"{run}-crowd{n}", w) for n in range(crowded) for w in "xyz"]
        self._pause = pause
        self._patience = patience
        self._timeout = timeout
        self._plain = plain
        self._closing = asyncio.Event()
        self._give_up = float("inf")
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        self._client = httpx.AsyncClient(
            timeout=self._timeout,
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=None),
            trust_env=False,
            verify=False,
        )
        self._tasks = [asyncio.create_task(self._write(*writer)) for writer in self._writers]
        return self

    async def __aexit__(self, kind: type[BaseException] | None, *exc: object) -> None:
        self._closing.set()
        self._give_up = time.monotonic() + _SETTLE_SECONDS
        if kind is not None:
            for task in self._tasks:
                task.cancel()
        results = await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._client.aclose()
        failures = [r for r in results if isinstance(r, Exception)]
        if failures and kind is None:
            raise failures[0]

    @property
    def conversations(self) -> list[str]:
        """The ids of the conversations it writes to."""
        return sorted({conversation for conversation, _ in self._writers})

    async def goes_on(self, messages: int = 100, within: float = 30.0) -> None:
        """Return once this many more messages have been acknowledged."""
        goal = self.acknowledged + messages
        await eventually(lambda: self._may_go_on() and self.acknowledged >= goal, timeout=within)

    def _may_go_on(self) -> bool:
        # A writer that broke is a broken test: say so at once and not after a time-out.
        for task in self._tasks:
            if task.done() and not task.cancelled() and (error := task.exception()):
                raise error
        return True

    async def _write(self, conversation: str, writer: str) -> None:
        number = 0
        while not self._closing.is_set():
            number += 1
            await self._message(conversation, f"{writer}{number}")
            rest = self._random.expovariate(1 / self._pause)
            await asyncio.sleep(min(rest, 10 * self._pause))

    async def _message(self, conversation: str, client_id: str) -> None:
        patient = self._random.random() < self._patience
        body = {
            "conversationId": conversation,
            "senderId": "sender",
            "content": f"{conversation}/{client_id}/a",
            "contentType": "text",
            "clientMessageId": client_id,
            "recipientIds": ["reader"],
        }
        attempt = await self._until_answered(lambda: self._post(body), patient=patient)
        if attempt.outcome is Outcome.OK:
            self.acknowledged += 1
            if not self._plain:
                await self._afterwards(body, attempt)

    async def _afterwards(self, body: dict[str, Any], first: Attempt) -> None:
        """Now and then: repeat it, claim its key for another body, or send a receipt for it."""
        dice = self._random.random()
        if dice < 0.06:
            await self._post(body)
        elif dice < 0.09:
            await self._post({**body, "content": body["content"][:-1] + "b"})
        elif dice < 0.12:
            other = {**body, "clientMessageId": body["clientMessageId"] + "-race"}
            content = f"{body['content'][:-2]}-race/"
            await asyncio.gather(
                *(self._post({**other, "content": content + version}) for version in "ab")
            )
        elif dice < 0.24:
            await self._until_answered(lambda: self._receipt(first), patient=True)

    async def _until_answered(
        self, send: Callable[[], Awaitable[Attempt]], *, patient: bool
    ) -> Attempt:
        while True:
            attempt = await send()
            answered = attempt.outcome is Outcome.OK or (attempt.status or 0) in range(400, 500)
            given_up = not patient and attempt.outcome is Outcome.UNKNOWN
            if answered or given_up or time.monotonic() > self._give_up:
                return attempt
            await asyncio.sleep(self._random.uniform(0.02, 0.25))

    async def _post(self, body: dict[str, Any]) -> Attempt:
        key = idempotency_key(body["senderId"], body["conversationId"], body["clientMessageId"])
        attempt = Attempt(
            key=key, conversation=body["conversationId"], content=body["content"], sent=0.0
        )
        return await self._send(attempt, "/api/messages", body)

    async def _receipt(self, message: Attempt) -> Attempt:
        body = {"userId": "reader", "state": "delivered"}
        attempt = Attempt(
            kind=Kind.RECEIPT,
            key=f"{message.message_id}/delivered/reader",
            conversation=message.conversation,
            content="",
            sent=0.0,
        )
        return await self._send(attempt, f"/api/messages/{message.message_id}/receipts", body)

    async def _send(self, attempt: Attempt, path: str, body: dict[str, Any]) -> Attempt:
        target = self._random.choice([t for t in self._targets if t.up] or self._targets)
        attempt.via = target.name
        self.history.begin(attempt)
        self.in_flight += 1
        attempt.sent = time.monotonic()
        try:
            response = await self._client.post(target.url + path, json=body)
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout) as error:
            attempt.outcome, attempt.detail = Outcome.FAILED, repr(error)  # never left the client
        except httpx.TransportError as error:
            attempt.detail = repr(error)
        else:
            _judge(attempt, response)
        finally:
            attempt.ended = time.monotonic()
            self.in_flight -= 1
        return attempt


def _judge(attempt: Attempt, response: httpx.Response) -> None:
    attempt.status = response.status_code
    attempt.retry_after = response.headers.get("retry-after")
    if response.status_code >= 500:
        attempt.detail = response.text[:500]
    elif response.status_code >= 400:
        attempt.outcome, attempt.detail = Outcome.FAILED, response.text[:500]
    else:
        answer = response.json()
        attempt.outcome = Outcome.OK
        attempt.message_id = answer["messageId"]
        attempt.accepted_at = answer.get("acceptedAt")
        attempt.hit = answer.get("idempotentHit")
