"""The log on Redis Streams, for Redis 7.0 or later and Valkey.

Follow an append: ``transport`` -> ``append/publish`` -> ``client/functions`` (and ``lua/``, where
it is decided) -> ``client/connections`` -> ``connection/connection``. Follow a read:
``transport`` -> ``delivery/waiting_reads``, which returns what ``append/own_appends`` keeps, or
reads when ``delivery/append_notifier`` rings. ``delivery/published_positions`` shows how far the
records are settled, and trims. ``keys`` has every name in Redis, and ``connection/errors`` every
failure. Where a server lost records, ``rescue/`` appends them again.
"""

from transport.redis.transport import RedisTransport

__all__ = ["RedisTransport"]
