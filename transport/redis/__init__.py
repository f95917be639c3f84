"""The log on Redis Streams, for Redis 7.0 or later and Valkey.

Follow an append: ``transport`` -> ``append/publish`` -> ``client/functions`` (and ``lua/``, where
it is decided) -> ``client/connections`` -> ``connection/connection``. Follow a delivery, in
``delivery/``: ``consumer`` takes a lease through ``membership`` and yields a ``claim``, which reads
its ``inbox`` when ``append_notifier`` rings. ``keys`` has every name in Redis, and
``connection/errors`` every failure. Where a server lost records, ``rescue/`` appends them again.
"""

from transport.redis.transport import RedisTransport

__all__ = ["RedisTransport"]
