"""A load for the tests of faults: many conversations, retries, repeats, conflicts, receipts.

Most conversations have one writer. It sends its next message only after the last one was
acknowledged, and through another ingress. So it is certain which message was sent after which, and
the order spans processes. Some conversations have several writers at once. Every attempt is
recorded in the ``ClientHistory``.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, NamedTuple, Protocol, Self

import msgspec

from lab.harness.history import ClientAttempt, ClientHistory, Outcome, RequestKind
from lab.harness.large_content import LargeContent
from lab.harness.proxy import SERVED_BY
from lab.harness.waiting import wait_until
from lab.load.arrivals import gaps
from lab.load.client import Client, NeverSentError, UnansweredError
from lab.load.connection import HttpAnswer
from lab.load.form import Form
from lab.load.turns import turns
from transport.message.identity import idempotency_key

__all__ = ["PLAIN", "Load", "LoadOptions", "Mix", "Target", "acknowledges"]

_SETTLE_SECONDS = 40.0
_OLD_KEPT = 300
_PROXY = "proxy"
_AS_FORM = 0.5


class Target(Protocol):
    """An ingress."""

    name: str
    phase: int | None
    """The migration phase that it runs; ``None`` without a migration."""

    @property
    def url(self) -> str:
        """The URL of its API."""

    @property
    def up(self) -> bool:
        """Whether clients should use it: false while it is stopped on purpose."""


class Mix(NamedTuple):
    """The shares of acknowledged messages that get a follow-up request; the rest get none."""

    repeat: float = 0.06
    """The same request once more."""
    old: float = 0.03
    """A repeat of a message from earlier in the run."""
    other_body: float = 0.03
    """The same key with another body."""
    race: float = 0.03
    """Two bodies for one new key at once: one becomes a row, one is refused or dead-lettered."""
    receipt: float = 0.12
    """A receipt for the message."""


PLAIN = Mix(repeat=0, old=0, other_body=0, race=0, receipt=0)


class LoadOptions(msgspec.Struct, kw_only=True, frozen=True):
    """The requests of a load, and their rate."""

    run: str
    """Prefix of every conversation's name."""
    seed: int = 0
    conversations: int = 24
    """Conversations with one writer each."""
    crowded: int = 4
    """Conversations with three writers each, whose requests overlap."""
    pause: float = 0.04
    """Mean seconds between two messages of a writer."""
    catch_up: bool = False
    """Whether a late writer sends the messages that were due meanwhile, as fast as answers come."""
    patience: float = 0.9
    """The share of messages that are retried until they are acknowledged; the rest stay unknown."""
    timeout: float = 2.0
    """Time limit of a request, in seconds."""
    mix: Mix = Mix()
    proxy: str | None = None
    """URL of a proxy that gets all requests; its answers name the ingress (``SERVED_BY``)."""
    large: float = 0.0
    """Share of bodies with large content: JSON or a form, from 2 kB to more than 1 MB."""

    def writers(self) -> list[tuple[str, str]]:
        """Return the conversation and the name of each writer."""
        writers = [(f"{self.run}-c{n}", "w") for n in range(self.conversations)]
        writers += [(f"{self.run}-crowd{n}", w) for n in range(self.crowded) for w in "xyz"]
        return writers


async def acknowledges(count: Callable[[], int], messages: int, within: float) -> None:
    """Wait until ``messages`` more messages are acknowledged.

    Args:
        count: Returns the number of acknowledged messages so far.
        messages: How many more to wait for.
        within: Seconds to wait for the next one.

    Raises:
        StuckError: none was acknowledged for that time.
    """
    seen = count()
    goal = seen + messages
    while seen < goal:
        await wait_until(
            lambda: count() > seen,  # noqa: B023 - awaited here
            within=within,
            otherwise=lambda: f"{goal - seen} of {messages} were not acknowledged",  # noqa: B023
        )
        seen = count()


class Load:
    """A load that runs during ``async with``.

    Leaving the block starts no new messages, and retries those without an answer, for 40 seconds
    at most.

    Args:
        history: Gets every attempt.
        targets: The ingresses.
        options: The requests and their rate.
        ended: Called with each attempt when it has ended.
    """

    def __init__(
        self,
        history: ClientHistory,
        targets: Sequence[Target],
        options: LoadOptions,
        ended: Callable[[ClientAttempt], None] = lambda _: None,
    ) -> None:
        self.history = history
        self.acknowledged = 0
        self.answered = 0
        """Number of requests that were answered as they should be."""
        self.unanswered = 0
        """Number of requests that were not."""
        self.options = options
        self._targets = targets
        self._ended = ended
        self._random = random.Random(options.seed)
        self._writers = options.writers()
        self._large = LargeContent(options.large)
        self._last_via: dict[str, str] = {}
        self._old: list[dict[str, Any]] = []
        self._closing = asyncio.Event()
        self._give_up = float("inf")
        self.tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        self._client = Client(self.options.timeout)
        self.tasks = [asyncio.create_task(self._write(*writer)) for writer in self._writers]
        return self

    async def __aexit__(self, kind: type[BaseException] | None, *exc: object) -> None:
        self._closing.set()
        self._give_up = time.monotonic() + _SETTLE_SECONDS
        if kind is not None:
            for task in self.tasks:
                task.cancel()
        results = await asyncio.gather(*self.tasks, return_exceptions=True)
        await self._client.close()
        failures = [r for r in results if isinstance(r, Exception)]
        if failures and kind is None:
            raise failures[0]

    @property
    def conversations(self) -> list[str]:
        """The ids of the conversations that the load writes to."""
        return sorted({conversation for conversation, _ in self._writers})

    async def goes_on(self, messages: int = 100, within: float = 120.0) -> None:
        """Wait until this many more messages are acknowledged.

        Raises:
            StuckError: none was acknowledged for ``within`` seconds.
        """
        await acknowledges(self._count, messages, within)

    def _count(self) -> int:
        # A writer's exception is a bug of the test: raise it at once and not after a time-out.
        for task in self.tasks:
            if task.done() and not task.cancelled() and (error := task.exception()):
                raise error
        return self.acknowledged

    async def _write(self, conversation: str, writer: str) -> None:
        options = self.options
        rests = gaps(1 / options.pause, "poisson", f"{options.seed}{conversation}{writer}")
        number = 0
        async for due in turns(rests, self._closing, catch_up=options.catch_up):
            number += 1
            await self._message(conversation, writer, f"{writer}{number}", due)

    async def _message(self, conversation: str, writer: str, client_id: str, due: float) -> None:
        patient = self._random.random() < self.options.patience
        body = {
            "conversationId": conversation,
            "senderId": writer,
            "content": f"{conversation}/{client_id}/a",
            "contentType": "text",
            "clientMessageId": client_id,
            "recipientIds": ["reader"],
        }
        attempt = await self._until_answered(lambda: self._post(body, due), patient=patient)
        if attempt.outcome is Outcome.OK:
            self.acknowledged += 1
            await self._afterwards(body, attempt)
            self._keep(body)

    async def _afterwards(self, body: dict[str, Any], first: ClientAttempt) -> None:
        """Send a follow-up request for some messages, as ``Mix`` has it."""
        mix = self.options.mix
        chosen = self._random.choices(range(len(mix) + 1), [*mix, 1 - sum(mix)])
        match chosen[0]:
            case 0:
                await self._post(body)
            case 1 if self._old:
                await self._post(self._random.choice(self._old))
            case 2:
                await self._post({**body, "content": body["content"][:-1] + "b"})
            case 3:
                other = {**body, "clientMessageId": body["clientMessageId"] + "-race"}
                content = f"{body['content'][:-2]}-race/"
                await asyncio.gather(
                    *(self._post({**other, "content": content + version}) for version in "ab")
                )
            case 4:
                await self._until_answered(lambda: self._receipt(first), patient=True)

    def _keep(self, body: dict[str, Any]) -> None:
        """Keep a uniform sample of all messages of the run, for repeats (reservoir sampling)."""
        if len(self._old) < _OLD_KEPT:
            self._old.append(body)
        elif self._random.random() < _OLD_KEPT / self.acknowledged:
            self._old[self._random.randrange(_OLD_KEPT)] = body

    async def _until_answered(
        self, send: Callable[[], Awaitable[ClientAttempt]], *, patient: bool
    ) -> ClientAttempt:
        while True:
            attempt = await send()
            answered = attempt.outcome is Outcome.OK or (attempt.status or 0) in range(400, 500)
            given_up = not patient and attempt.outcome is Outcome.UNKNOWN
            if answered or given_up or time.monotonic() > self._give_up:
                return attempt
            await asyncio.sleep(self._random.uniform(0.02, 0.25))

    async def _post(self, body: dict[str, Any], due: float | None = None) -> ClientAttempt:
        key = idempotency_key(body["senderId"], body["conversationId"], body["clientMessageId"])
        content = self._large.of(body["content"])
        attempt = ClientAttempt(
            key=key,
            client=body["senderId"],
            conversation=body["conversationId"],
            content=content.name,
            due=due,
            sent=0.0,
        )
        # A retry may be a form after JSON, or the reverse: it is the same message.
        as_form = content.data is not None and self._random.random() < _AS_FORM
        request = content.request(body, as_form=as_form)
        return await self._send(attempt, "/api/messages", request)

    async def _receipt(self, message: ClientAttempt) -> ClientAttempt:
        body = {"userId": "reader", "state": "delivered"}
        attempt = ClientAttempt(
            kind=RequestKind.RECEIPT,
            key=f"{message.message_id}/delivered/reader",
            client="reader",
            conversation=message.conversation,
            content="",
            sent=0.0,
        )
        return await self._send(attempt, f"/api/messages/{message.message_id}/receipts", body)

    def _another(self, conversation: str) -> Target:
        """Return an ingress that is up; not the conversation's last one, if another is up."""
        up = [t for t in self._targets if t.up] or list(self._targets)
        last = self._last_via.get(conversation)
        chosen = self._random.choice([t for t in up if t.name != last] or up)
        self._last_via[conversation] = chosen.name
        return chosen

    def _served(self, attempt: ClientAttempt, response: HttpAnswer) -> None:
        """Set the ingress that answered: the last one that the proxy tried."""
        address = response.headers.get(SERVED_BY, "").rpartition(",")[2].strip()
        for target in self._targets:
            if address and target.url.endswith(f"//{address}"):
                attempt.via, attempt.phase = target.name, target.phase

    async def _send(
        self, attempt: ClientAttempt, path: str, body: dict[str, Any] | Form
    ) -> ClientAttempt:
        if proxy := self.options.proxy:
            url, attempt.via = proxy, _PROXY
        else:
            target = self._another(attempt.conversation)
            url, attempt.via, attempt.phase = target.url, target.name, target.phase
        self.history.begin(attempt)
        attempt.sent = time.monotonic()
        try:
            response = await self._client.post(url + path, body)
        except NeverSentError as error:
            attempt.outcome, attempt.detail = Outcome.FAILED, str(error)
        except UnansweredError as error:
            attempt.detail = str(error)
        else:
            if proxy:
                self._served(attempt, response)
            _judge(attempt, response)
        finally:
            attempt.ended = time.monotonic()
            self.answered += attempt.answered
            self.unanswered += not attempt.answered
            self._ended(attempt)
        return attempt


def _judge(attempt: ClientAttempt, response: HttpAnswer) -> None:
    attempt.status = response.status
    attempt.retry_after = response.headers.get("retry-after")
    if response.status >= 500:
        attempt.detail = response.text[:500]
    elif response.status >= 400:
        attempt.outcome, attempt.detail = Outcome.FAILED, response.text[:500]
    else:
        answer = response.json()
        attempt.outcome = Outcome.OK
        attempt.message_id = answer["messageId"]
        attempt.accepted_at = answer.get("acceptedAt")
        attempt.hit = answer.get("idempotentHit")
