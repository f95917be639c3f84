"""The partition in which Kafka keeps a group, as a broker computes it."""

from __future__ import annotations

import pytest

from transport.kafka.group.own_topic import partition_of


@pytest.mark.parametrize(
    ("group", "partition"),
    [
        ("persistence-workers", 23),
        ("dlq-processors", 35),
        ("polygenelubricants", 0),  # its hash is the one without a positive number
        ("gr\u00fcppe-\U0001f600", 14),
    ],
)
def test_it_is_that_of_java_s_hash_of_the_name(group: str, partition: int) -> None:
    """The numbers are those of ``String.hashCode``, of 50 partitions."""
    assert partition_of(group, 50) == partition
