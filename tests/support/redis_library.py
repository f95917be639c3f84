"""Another program's code in the library of functions that bears Crossfade's name."""

from __future__ import annotations

from redis.asyncio import Redis

__all__ = ["OTHER_FUNCTION", "answers_append", "replace_library"]

OTHER_FUNCTION = "redis.register_function(PREFIX .. 'other', function() return 1 end)"
"""Code that has none of Crossfade's functions."""


def answers_append(value: str) -> str:
    """Return code whose functions answer each append with ``value``, an expression of Lua."""
    return f"redis.register_function(PREFIX .. 'append', function() return {value} end)"


async def replace_library(client: Redis, code: str) -> None:
    """Replace the code of each library that the server has with ``code``."""
    found = await client.execute_command("FUNCTION", "LIST")
    assert found
    for library in found:
        fields = (
            library if isinstance(library, dict) else dict(zip(*[iter(library)] * 2, strict=True))
        )
        name = fields[b"library_name"].decode()
        text = f"#!lua name={name}\nlocal PREFIX = '{name}_'\n{code}"
        await client.execute_command("FUNCTION", "LOAD", "REPLACE", text)
