"""The transport contract: a partitioned log that is appended to, and read after any offset.

The ingress appends (``Transport.publish``). Workers read after the positions that PostgreSQL keeps
(``Transport.read``), and show these positions to the log's own tools
(``Transport.publish_positions``). The log has no owners of partitions and no acknowledgements. The
contract knows neither HTTP nor SQL. The suite ``transport.conformance`` tests it.

Import from this package, not from its files:

* ``transport``: the calls of a log.
* ``records``: envelopes, records, and the outcomes of appends.
* ``facts``: facts about a log, and the published positions of its groups.

Every transport keeps these rules:

* **Order.** Within a partition, reads return records in append order and skip none; ``publish``
  appends in the order of its argument.
* **Durable before return.** ``publish`` and ``dead_letter`` return once the log has the records
  with the durability that the operator configured (fsync, replication).
* **Published positions are for show.** What a group shows never decides what a read returns.
"""

from __future__ import annotations

from transport.contract.facts import (
    DLQ_GROUP,
    WORKER_GROUP,
    Features,
    GroupStanding,
    Holding,
    LogLocation,
    Progress,
)
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
from transport.contract.transport import CONTRACT, READ_BYTES, Transport

__all__ = [
    "CONTRACT",
    "DLQ_GROUP",
    "READ_BYTES",
    "WORKER_GROUP",
    "Appended",
    "DeadLetter",
    "Envelope",
    "Features",
    "GroupStanding",
    "Holding",
    "LogLocation",
    "Outcome",
    "Progress",
    "Reason",
    "Record",
    "Remembered",
    "Topic",
    "Transport",
]
