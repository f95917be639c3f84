"""A patch of aiokafka: no question about a topic creates the topic.

A broker whose ``auto.create.topics.enable`` is true, Kafka's default, creates each topic that a
client asks for, with the broker's number of partitions and its retention, unless the request says
otherwise (KIP-4). Java's clients have ``allow.auto.create.topics`` for this; aiokafka (0.14) has
the field, and no option for it. A topic that was only looked for was then there, and wrong.
"""

from __future__ import annotations

from functools import wraps
from typing import Any

from aiokafka.protocol.metadata import MetadataRequest

__all__ = ["install"]


def install() -> None:
    """Patch aiokafka in this process; called again, it changes nothing."""
    if not hasattr(MetadataRequest.__init__, "__wrapped__"):
        MetadataRequest.__init__ = _creating_none(MetadataRequest.__init__)


def _creating_none(init: Any) -> Any:
    @wraps(init)
    def initialize(
        request: MetadataRequest,
        topics: list[str] | None = None,
        allow_auto_topic_creation: bool | None = False,
    ) -> None:
        init(request, topics, allow_auto_topic_creation)

    return initialize
