"""The transport contract: a partitioned log that is read, acknowledged, and can be read again.

The ingress appends (``Transport.publish``). Workers read through a consumer group, with one owner
for each partition (``Transport.consume``). Anyone may read without a group (``Transport.read``).
The contract knows neither HTTP nor SQL. The suite ``transport.conformance`` tests it.

Import from this package, not from its files:

* ``transport``: the calls of a log.
* ``claims``: members of groups, and claims of partitions.
* ``records``: envelopes, records, and the outcomes of appends.
* ``facts``: facts about a log, and the progress of its groups.

Every transport keeps these rules:

* **Order.** Within a partition, records are delivered in append order; ``publish`` appends in the
  order of its argument.
* **Durable before return.** ``publish`` and ``dead_letter`` return once the log has the records
  with the durability that the operator configured (fsync, replication).
* **Prefix acknowledgement.** ``ack(through)`` covers every record up to and including ``through``.
  Kafka's commit and Redis's XACK can both have this meaning.
* **One owner.** A partition has one live claim per group. A claim that has lost its partition can't
  read or acknowledge: every call raises ``PartitionLost``.
* **From the beginning.** A new group starts at the first record that the log still has.
"""

from __future__ import annotations

from transport.contract.claims import (
    DLQ_GROUP,
    WORKER_GROUP,
    AckEnded,
    Blockage,
    Claim,
    Consumer,
    HandingClaim,
    RetainingClaim,
    Taker,
    WithdrawingConsumer,
)
from transport.contract.facts import Features, GroupStanding, Holding, LogLocation, Progress
from transport.contract.records import (
    Appended,
    DeadLetter,
    Envelope,
    Outcome,
    Reason,
    Record,
    Remembered,
    Topic,
)
from transport.contract.transport import READ_BYTES, Transport

__all__ = [
    "DLQ_GROUP",
    "READ_BYTES",
    "WORKER_GROUP",
    "AckEnded",
    "Appended",
    "Blockage",
    "Claim",
    "Consumer",
    "DeadLetter",
    "Envelope",
    "Features",
    "GroupStanding",
    "HandingClaim",
    "Holding",
    "LogLocation",
    "Outcome",
    "Progress",
    "Reason",
    "Record",
    "Remembered",
    "RetainingClaim",
    "Taker",
    "Topic",
    "Transport",
    "WithdrawingConsumer",
]
