"""Rights that our user lacks in Redis, found by commands that change nothing.

Redis checks a user's rights first. So it refuses a command on a missing key just as it would refuse
one on a real key. ``ACL DRYRUN`` would need a right of its own.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from transport.redis.cluster.primary import ServerPool
from transport.redis.connection.connection import Command
from transport.redis.connection.rights import LEAST
from transport.rights import LackingRights

__all__ = ["lacking_rights", "probes"]

_FORBIDDEN = re.compile(r"no permissions|NOPERM", re.IGNORECASE)


def probes(name: str) -> Mapping[str, Sequence[Command]]:
    """Return the commands that probe each right, for the log whose streams begin with ``name``.

    Left out are rights that opening a connection or the log already uses, and commands that would
    change something.
    """
    stream, key = f"{name}:rights", f"{{{name}}}:rights"
    return {
        "+@stream": (
            ("XADD", stream, "NOMKSTREAM", "*", "a", "b"),
            ("XACK", stream, "a", "0-1"),
            ("XRANGE", stream, "-", "+", "COUNT", 1),
            ("XTRIM", stream, "MAXLEN", 0),
        ),
        "+@hash": (("HGET", key, "a"), ("HDEL", key, "a")),
        "+@sortedset": (("ZADD", key, "XX", 0, "a"), ("ZRANGE", key, 0, 0), ("ZREM", key, "a")),
        "+get": (("GET", key),),
        "+set": (("SET", key, "1", "XX", "PX", 1),),
        "+exists": (("EXISTS", key),),
        "+del": (("DEL", key),),
        "+unlink": (("UNLINK", key),),
        "+type": (("TYPE", key),),
        "+expire": (("EXPIRE", key, 1),),
        "+pexpire": (("PEXPIRE", key, 1),),
        "+pttl": (("PTTL", key),),
        "+time": (("TIME",),),
        "+fcall": (("FCALL", "crossfade_none", 0),),
        "+info": (("INFO", "server"),),
        "+role": (("ROLE",),),
        "+wait": (("WAIT", 0, 1),),
        "+config|get": (("CONFIG", "GET", "appendonly"),),
        "+client|id": (("CLIENT", "ID"),),
        "+client|unblock": (("CLIENT", "UNBLOCK", 0),),
        "+evalsha": (("EVALSHA", "0" * 40, 0),),
        "+scan": (("SCAN", 0, "COUNT", 1),),
        "+memory|usage": (("MEMORY", "USAGE", key),),
    }


async def lacking_rights(servers: Iterable[ServerPool], name: str) -> LackingRights:
    """Return the rights that our user lacks on any of ``servers``, for streams named ``name``.

    Raises:
        TransportUnavailable: a server can't be reached.
    """
    asked = [(right, command) for right, some in probes(name).items() for command in some]
    lacking: dict[str, None] = {}
    for server in servers:
        replies = await server.exchange([command for _, command in asked])
        for (right, _), reply in zip(asked, replies, strict=True):
            if isinstance(reply, Exception) and _FORBIDDEN.search(str(reply)):
                lacking[right] = None
    least = LEAST.split()
    return LackingRights(
        needed=[right for right in lacking if right in least],
        useful=[right for right in lacking if right not in least],
    )
