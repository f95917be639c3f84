"""The rights of a Redis user that this transport needs, as ``ACL SETUSER`` takes them.

The categories are of commands that name their keys, so each is bound to ours. ``+@write`` would
not be: it has ``FLUSHALL``.
"""

from __future__ import annotations

__all__ = ["BETTER", "IN_CLUSTER", "LEAST"]

LEAST = (
    "~msg:* ~{msg:* +@stream +@hash +@sortedset +get +set +exists +del +unlink +type +expire "
    "+pexpire +pttl +time +multi +exec +select +fcall +function|load"
)
"""Without one of these nothing works."""
BETTER = (
    "+info +role +wait +config|get +client|id +client|unblock +script|load +evalsha +scan "
    "+memory|usage"
)
"""Rights that are of use besides. ``REDIS_WAIT_REPLICAS`` needs ``+wait``."""
IN_CLUSTER = "+cluster|slots +cluster|info +cluster|myid +asking"
"""Rights that a cluster of several shards needs beside ``LEAST``."""
