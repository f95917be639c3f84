"""The transport contract, which every log keeps, with its records and errors.

Use it to write a transport of your own (``docs/write_a_transport.md``), or to read a log without
the service. Start at ``Transport``.
"""

from __future__ import annotations

from transport.contract import (
    CONTRACT,
    DLQ_GROUP,
    READ_BYTES,
    WORKER_GROUP,
    Appended,
    DeadLetter,
    Envelope,
    Features,
    GroupStanding,
    Holding,
    LogLocation,
    Outcome,
    Progress,
    Reason,
    Record,
    Remembered,
    Topic,
    Transport,
)
from transport.durability import Durability
from transport.errors import (
    AppendUnknown,
    ConfigurationError,
    DecodeError,
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
    "CONTRACT",
    "DLQ_GROUP",
    "READ_BYTES",
    "WORKER_GROUP",
    "AppendUnknown",
    "Appended",
    "ConfigurationError",
    "DeadLetter",
    "DecodeError",
    "Durability",
    "Envelope",
    "Existing",
    "Features",
    "GroupStanding",
    "Holding",
    "LogLocation",
    "LogName",
    "Outcome",
    "PartlyUnavailable",
    "Progress",
    "Reason",
    "Record",
    "Remembered",
    "Topic",
    "TopicMissing",
    "Transport",
    "TransportError",
    "TransportSettings",
    "TransportUnavailable",
    "Unreadable",
    "Unwritable",
    "available",
    "create",
    "dead_letter_headers",
    "of_one_read",
    "offset_number",
    "offset_sort_key",
]
