"""The topic in which Kafka keeps its groups: why it may keep a group from taking members.

A broker lets a member in only once it has written that down in this topic. So a group stands still
while its partition there has no leader, or fewer replicas in step than ``min.insync.replicas``
demands: appends to our topics go on, and nobody reads them.
"""

from __future__ import annotations

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import NoError, for_code

__all__ = ["obstacle", "partition_of"]

_TOPIC = "__consumer_offsets"
_DEMANDED = "min.insync.replicas"


async def obstacle(admin: AIOKafkaAdminClient, group: str) -> str:
    """Return why ``group`` can't be written to its topic; empty if nothing is known against it.

    Nothing is known if our user may not describe that topic.
    """
    (described,) = await admin.describe_topics([_TOPIC])
    partitions = {each["partition"]: each for each in described["partitions"]}
    if for_code(described["error_code"]) is not NoError or not partitions:
        return ""
    number = partition_of(group, len(partitions))
    place, found = f"{_TOPIC}-{number}, where Kafka keeps it,", partitions.get(number)
    if found is None:
        return ""
    if found["leader"] < 0:
        return f"{place} has no leader"
    resource = ConfigResource(ConfigResourceType.TOPIC, _TOPIC, configs={_DEMANDED: ""})
    (response,) = await admin.describe_configs([resource])
    ((code, _message, _kind, _name, entries),) = response.resources
    if for_code(code) is not NoError:
        return ""
    # A broker demands no more replicas than there are.
    needed = min(int(entries[0][1]), len(found["replicas"]))
    in_step = len(found["isr"])
    if in_step >= needed:
        return ""
    return f"{place} has {in_step} replicas in step, fewer than {_DEMANDED}={needed}"


def partition_of(group: str, partitions: int) -> int:
    """Return the partition of ``group`` in its topic: by the hash of Java's strings."""
    units = group.encode("utf-16-be")
    found = 0
    for high, low in zip(units[::2], units[1::2], strict=True):
        found = (31 * found + (high << 8 | low)) & 0xFFFFFFFF
    # Brokers take the absolute value of a signed number, and 0 for the one that has none.
    positive = 0 if found == 1 << 31 else min(found, (1 << 32) - found)
    return positive % partitions
