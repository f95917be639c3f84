"""The transport contract, which every log keeps, with its records and errors.

Use it to write a transport of your own (``docs/write_a_transport.md``), or to read a log without
the service. Start at ``Transport``.
"""

from __future__ import annotations

from transport.assignment import fair_shares
from transport.contract import (
    DLQ_GROUP,
    READ_BYTES,
    WORKER_GROUP,
    AckEnded,
    Appended,
    Blockage,
    Claim,
    Consumer,
    DeadLetter,
    Envelope,
    Features,
    GroupStanding,
    HandingClaim,
    Holding,
    LogLocation,
    Outcome,
    Progress,
    Reason,
    Record,
    Remembered,
    RetainingClaim,
    Taker,
    Topic,
    Transport,
    WithdrawingConsumer,
)
from transport.durability import Durability
from transport.errors import (
    AppendUnknown,
    ConfigurationError,
    DecodeError,
    PartitionLost,
    PartlyUnavailable,
    TopicMissing,
    TransportError,
    TransportUnavailable,
    Unreadable,
    Unwritable,
)
from transport.existing import Existing
from transport.log_name import LogName
from transport.message.dead_letters import dead_letter_headers
from transport.numeric_offsets import offset_number, offset_sort_key
from transport.registry import available, create
from transport.settings import TransportSettings
from transport.sizes import of_one_read

__all__ = [
    "DLQ_GROUP",
    "READ_BYTES",
    "WORKER_GROUP",
    "AckEnded",
    "AppendUnknown",
    "Appended",
    "Blockage",
    "Claim",
    "ConfigurationError",
    "Consumer",
    "DeadLetter",
    "DecodeError",
    "Durability",
    "Envelope",
    "Existing",
    "Features",
    "GroupStanding",
    "HandingClaim",
    "Holding",
    "LogLocation",
    "LogName",
    "Outcome",
    "PartitionLost",
    "PartlyUnavailable",
    "Progress",
    "Reason",
    "Record",
    "Remembered",
    "RetainingClaim",
    "Taker",
    "Topic",
    "TopicMissing",
    "Transport",
    "TransportError",
    "TransportSettings",
    "TransportUnavailable",
    "Unreadable",
    "Unwritable",
    "WithdrawingConsumer",
    "available",
    "create",
    "dead_letter_headers",
    "fair_shares",
    "of_one_read",
    "offset_number",
    "offset_sort_key",
]
