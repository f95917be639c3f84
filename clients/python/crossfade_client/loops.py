"""What the asynchronous client has in each event loop: connections, and a limit of requests."""

from __future__ import annotations

import math
import threading

import anyio
import httpx
from anyio.lowlevel import current_token

from crossfade_client.connection import HttpClient

__all__ = ["InLoop", "Loops"]


class InLoop:
    """The httpx client of one event loop, and its slots for requests under way."""

    def __init__(
        self, loop: object, http: HttpClient[httpx.AsyncClient], limits: httpx.Limits
    ) -> None:
        self.loop = loop
        self.http = http
        # httpx's own queue takes time that is quadratic in its length, and takes it from the event
        # loop: of 2,000 messages sent at once, none would be acknowledged in time.
        self.slots = anyio.CapacityLimiter(limits.max_connections or math.inf)


class Loops:
    """Gives each event loop its own httpx client: a connection works in the loop that made it.

    A program may run several loops one after the other (``asyncio.run`` in each task of a worker),
    or several at once, in threads.

    Args:
        limits: The limits of connections of each httpx client.
        given: A client of the caller's, to be used in every loop instead. The caller closes it.

    Raises:
        ValueError: A proxy variable of the environment is not valid, or needs a package.
    """

    def __init__(self, limits: httpx.Limits, given: httpx.AsyncClient | None) -> None:
        first = HttpClient(httpx.AsyncClient, limits, given)
        self._limits = limits
        self._given = first if first.is_given else None
        self._unused = [first]
        # A thread runs one loop at a time. With the next one its httpx client is dropped, and with
        # the thread the last; neither can be closed, as their loop no longer runs.
        self._of_thread = threading.local()

    def here(self) -> InLoop:
        """Return what the running event loop has."""
        loop = current_token()
        found: InLoop | None = getattr(self._of_thread, "in_loop", None)
        if found is None or found.loop != loop:
            found = self._of_thread.in_loop = InLoop(loop, self._http(), self._limits)
        return found

    async def close(self) -> None:
        """Close the connections of the running event loop, unless the client is the caller's."""
        if self._given is None:
            await self.here().http.latest.aclose()

    def _http(self) -> HttpClient[httpx.AsyncClient]:
        if self._given is not None:
            return self._given
        try:
            return self._unused.pop()  # in one step: loops of other threads may ask now
        except IndexError:
            return HttpClient(httpx.AsyncClient, self._limits, None)
