"""One connection to Redis: send commands, read their replies, one trip, nothing sent twice."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from typing import Any, cast

import hiredis
from redis.asyncio import Connection
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from transport.redis.errors import is_refusal, translate

__all__ = ["Command", "Line", "Reply"]

Command = tuple[str | bytes | int, ...]
Reply = Any
"""What the server said: bytes, int, list, None, or the exception redis-py made of an error."""

_pack = cast("Callable[[Command], bytes]", hiredis.pack_command)  # its stub knows tuples of one


class Line:
    """A redis-py connection, used by one task at a time."""

    def __init__(self, connection: Connection, *, timeout: float, connect_timeout: float) -> None:
        self._connection = connection
        self._timeout = timeout
        self._connect_timeout = connect_timeout

    @property
    def is_open(self) -> bool:
        """Whether it is connected, as far as is known."""
        return bool(self._connection.is_connected)

    async def open(self) -> None:
        """Connect, if it is not, or if the server hung up since the last trip.

        Raises:
            TransportUnavailable: no connection could be made.
        """
        connection = self._connection
        if connection.is_connected:
            # Something to read before anything was asked means that the server closed it.
            with contextlib.suppress(RedisConnectionError):
                if not await connection.can_read():
                    return
            await self.hang_up()
        try:
            async with asyncio.timeout(self._connect_timeout):
                await connection.connect()  # type: ignore[no-untyped-call]
        except (RedisError, OSError) as error:
            await self.hang_up()
            raise translate(error) from error
        except BaseException:
            await self.hang_up()
            raise

    async def exchange(self, commands: Sequence[Command], *, block: float = 0.0) -> list[Reply]:
        """Send ``commands`` in one go and return their replies, one each.

        ``block`` is how many seconds a command may rightly keep the server waiting. A command
        whose reply did not arrive has redis-py's ConnectionError or TimeoutError in its place: it
        may have been executed.
        """
        replies: list[Reply] = []
        lost: Exception
        seconds = self._timeout + block
        try:
            async with asyncio.timeout(seconds):
                packed = [_pack(command) for command in commands]
                await self._connection.send_packed_command(packed, check_health=False)
                read = self._connection.read_response
                for _ in commands:
                    try:
                        replies.append(await read())
                    except ResponseError as refusal:
                        replies.append(refusal)
        except TimeoutError:
            lost = RedisTimeoutError(f"no reply within {seconds:g} s")
        except (RedisError, OSError) as error:
            lost = error
            if is_refusal(error):  # redis-py hangs up on LOADING and NOAUTH
                replies.append(error)
                lost = RedisConnectionError(f"hung up after {error}")
        except BaseException:
            # Cancelled: the replies that are still to come must not answer the next command.
            await self.hang_up()
            raise
        else:
            return replies
        await self.hang_up()
        replies.extend([lost] * (len(commands) - len(replies)))
        return replies

    async def hang_up(self) -> None:
        """Close at once; :meth:`open` connects anew."""
        await self._connection.disconnect(nowait=True)

    async def close(self) -> None:
        """Close in good order."""
        with contextlib.suppress(RedisError, OSError):
            await self._connection.disconnect()
