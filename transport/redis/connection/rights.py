"""The rights that our Redis user needs, in the form of ``ACL SETUSER``.

All commands of these categories name their keys, so the key patterns restrict each to our keys.
They could not restrict ``+@write``, which contains ``FLUSHALL``.
"""

from __future__ import annotations

__all__ = ["BETTER", "IN_CLUSTER", "LEAST"]

LEAST = (
    "~msg:* ~{msg:* +@stream +@hash +@sortedset +get +set +exists +del +unlink +type +expire "
    "+pexpire +pttl +time +multi +exec +select +fcall +function|load"
)
"""Rights that are all required."""
BETTER = (
    "+info +role +wait +config|get +client|id +client|unblock +script|load +evalsha +scan "
    "+memory|usage"
)
"""Rights that are useful but optional. ``REDIS_WAIT_REPLICAS`` needs ``+wait``."""
IN_CLUSTER = "+cluster|slots +cluster|info +cluster|myid +asking"
"""Rights that a cluster of several shards requires in addition to ``LEAST``."""
