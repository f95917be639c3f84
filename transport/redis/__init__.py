"""The log on Redis Streams, for Redis 7.0 or later and Valkey 8 or later.

Follow an append: ``transport`` -> ``publish`` -> ``functions`` (and ``lua/``, where it is decided)
-> ``connections`` -> ``connection``. Follow a delivery: ``consumer`` takes a lease through
``membership`` and yields a ``claim``, which reads its ``inbox`` when ``append_notifier`` rings.
``keys`` has every name in Redis; ``errors`` every failure of the client.
"""

from transport.redis.transport import RedisTransport

__all__ = ["RedisTransport"]
