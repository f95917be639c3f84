"""The transport contract: a partitioned, replayable, acknowledged log. No HTTP, no SQL.

An ingress appends (``Transport.publish``); workers read through a consumer group, one owner to
a partition (``Transport.consume``); anyone may read without a group (``Transport.read``).
The conformance suite in ``transport.conformance`` is this package as tests. Import from here; the
files are for reading:

* ``transport``: the calls of a log.
* ``claims``: members of groups, and the partitions that they own.
* ``records``: the envelopes that are appended, and the records that are read.
* ``facts``: what a log tells of itself and of its groups.

Semantics every transport keeps:

* **Order.** Within a partition, records are delivered in append order; ``publish`` appends in the
  order of its argument.
* **Durable before return.** ``publish`` and ``dead_letter`` return after the log has the records
  with the durability the operator configured (fsync, replication).
* **Prefix acknowledgement.** ``ack(through)`` covers every record up to and including ``through``:
  the one meaning that Kafka's commit and Redis's XACK can share.
* **One owner.** A partition has one live claim per group. A claim that lost its partition can
  neither read, acknowledge nor hand back anything: every call raises ``PartitionLost``.
* **Beginning, never end.** A new group starts at the first record the log still holds.
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
