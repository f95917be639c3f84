"""The log on Redis Streams, for Redis 7.0 or later and Valkey 8 or later.

Follow an append: ``transport`` -> ``publish`` -> ``functions`` (and ``lua/``, where it is decided)
-> ``connections`` -> ``line``. Follow a delivery: ``consumer`` takes a lease through
``membership`` and yields a ``claim``, which reads its ``inbox`` when the ``doorbell`` rings.
``keys`` has every name in Redis; ``errors`` every failure of the client.
"""

from transport.redis.transport import RedisTransport

__all__ = ["RedisTransport"]
