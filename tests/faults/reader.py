"""A client that follows conversations page by page while they are written."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping, Sequence
from typing import Self

import httpx

from tests.faults.load import Target

__all__ = ["Reader"]

_REST = 0.05
_LIMIT = 7  # small, so that there are many page borders


class Reader:
    """Reads on from its cursors until the block ends; :meth:`catch_up` reads what is left."""

    def __init__(self, targets: Sequence[Target], conversations: Sequence[str]) -> None:
        self.seen: dict[str, list[str]] = {conversation: [] for conversation in conversations}
        self._targets = targets
        self._cursors: dict[str, str] = {}
        self._random = random.Random(1)

    async def __aenter__(self) -> Self:
        self._client = httpx.AsyncClient(timeout=2.0, trust_env=False, verify=False)
        self._task = asyncio.create_task(self._follow())
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        await self._client.aclose()

    async def catch_up(self) -> Mapping[str, Sequence[str]]:
        """Read to the end of every conversation; return the ids each was seen to have."""
        async with httpx.AsyncClient(timeout=10.0, trust_env=False, verify=False) as client:
            for conversation in self.seen:
                while await self._page(client, conversation):
                    pass
        return self.seen

    async def _follow(self) -> None:
        while True:
            for conversation in self.seen:
                try:
                    await self._page(self._client, conversation)
                except httpx.TransportError:  # an ingress that was killed: read on from another
                    await asyncio.sleep(_REST)
            await asyncio.sleep(_REST)

    async def _page(self, client: httpx.AsyncClient, conversation: str) -> bool:
        """Read one page; return whether it held anything."""
        target = self._random.choice([t for t in self._targets if t.up] or list(self._targets))
        parameters = {"limit": str(_LIMIT)}
        if cursor := self._cursors.get(conversation):
            parameters["after"] = cursor
        url = f"{target.url}/api/conversations/{conversation}/messages"
        response = await client.get(url, params=parameters)
        if response.status_code == 503:  # the database is away
            return False
        page = response.raise_for_status().json()
        self.seen[conversation] += [item["messageId"] for item in page["items"]]
        if page["next"]:
            self._cursors[conversation] = page["next"]
        return bool(page["items"])
