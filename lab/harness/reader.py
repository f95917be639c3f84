"""A client that reads conversations page by page while messages are added to them."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Mapping, Sequence
from typing import Self
from urllib.parse import urlencode

from lab.harness.load import Target
from lab.load.client import Client

__all__ = ["PageReader"]

_FOUND, _AWAY = 200, 503  # 503: the database does not answer
_REST = 0.05
_LIMIT = 7  # items per page; few, so that there are many page borders


class PageReader:
    """Reads the conversations' next pages until the block ends; ``catch_up`` reads the rest.

    ``rest`` is the time between two looks, in seconds.
    """

    def __init__(
        self, targets: Sequence[Target], conversations: Sequence[str], *, rest: float = _REST
    ) -> None:
        self.seen: dict[str, list[str]] = {conversation: [] for conversation in conversations}
        self._targets = targets
        self._rest = rest
        self._cursors: dict[str, str] = {}
        self._random = random.Random(1)

    async def __aenter__(self) -> Self:
        self._client = Client(2.0)
        self._task = asyncio.create_task(self._follow())
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        await self._client.close()

    async def catch_up(self, within: float = 60.0) -> Mapping[str, Sequence[str]]:
        """Read to the end of every conversation; return the message ids read, by conversation.

        Raises:
            ConnectionError: No page could be read for ``within`` seconds.
        """
        client = Client(10.0)
        left = list(self.seen)
        last = time.monotonic()
        while left:
            try:
                if not await self._page(client, left[-1]):
                    left.pop()
                last = time.monotonic()
            except ConnectionError:
                if time.monotonic() > last + within:
                    raise
                await asyncio.sleep(_REST)
        await client.close()
        return self.seen

    async def _follow(self) -> None:
        while True:
            for conversation in self.seen:
                try:
                    await self._page(self._client, conversation)
                except ConnectionError:  # the ingress was killed, or has no database: try another
                    await asyncio.sleep(_REST)
            await asyncio.sleep(self._rest)

    async def _page(self, client: Client, conversation: str) -> bool:
        """Read one page; return whether it had items. Raise ConnectionError if there is none."""
        target = self._random.choice([t for t in self._targets if t.up] or list(self._targets))
        parameters = {"limit": str(_LIMIT)}
        if cursor := self._cursors.get(conversation):
            parameters["after"] = cursor
        url = f"{target.url}/api/conversations/{conversation}/messages?{urlencode(parameters)}"
        response = await client.get(url)
        if response.status == _AWAY:
            raise ConnectionError(f"{url}: {response.status} {response.text}")
        if response.status != _FOUND:
            raise RuntimeError(f"{url}: {response.status} {response.text}")
        page = response.json()
        self.seen[conversation] += [item["messageId"] for item in page["items"]]
        if page["next"]:
            self._cursors[conversation] = page["next"]
        return bool(page["items"])
